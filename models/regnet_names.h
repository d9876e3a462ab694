// torchvision's names for the parameters and buffers of a RegNet, and timm's, which models/regnet.h has.
#pragma once

#include <string>

namespace vitrine {

/// "trunk_output.block3.block3-0.f.a.1.bias" -> "s3.b1.conv1.bn.bias". A name that torchvision's RegNet does not have
/// is returned as it is.
std::string regnet_name_from_torchvision(const std::string& name);

/// The inverse.
std::string regnet_name_to_torchvision(const std::string& name);

}  // namespace vitrine
