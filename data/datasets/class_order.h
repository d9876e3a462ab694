// The order in which class folders are numbered. It decides which class label 3 is, so that weights
// and data must agree on it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vitrine {

/// `sorted` compares bytes, as Python's sorted() in torchvision: "0", "1", "10", "2". `natural`
/// compares numbers inside names as numbers and letters without their case, as timm: "0", "1", "2",
/// "10".
enum class ClassOrder { sorted, natural };

/// "sorted", "natural"; throws and lists these for anything else.
ClassOrder class_order_from_name(std::string_view name);

std::vector<std::string> in_order(std::vector<std::string> names, ClassOrder order);

/// Whether some class of these has another number in the two orders.
bool orders_differ(const std::vector<std::string>& names);

}  // namespace vitrine
