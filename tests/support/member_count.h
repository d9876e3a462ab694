// The number of an aggregate's members, to compare with a list of them.
#pragma once

#include <concepts>
#include <cstddef>
#include <utility>

namespace vitrine {

/// Converts to anything but the aggregate itself: stands for an initialiser.
template <class Aggregate>
struct Anything {
  template <class T>
  requires(!std::same_as<T, Aggregate>) operator T() const;  // never defined
};

template <class Aggregate, std::size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { Aggregate{(static_cast<void>(I), Anything<Aggregate>{})...}; };
}

/// The largest number of initialisers, up to Count, that Aggregate{...} takes: its number of
/// members.
template <class Aggregate, std::size_t Count = 32>
constexpr std::size_t member_count() {
  if constexpr (takes<Aggregate>(std::make_index_sequence<Count>{}))
    return Count;
  else
    return member_count<Aggregate, Count - 1>();
}

}  // namespace vitrine
