// The number of members of an aggregate, to compare it with a list that must name every one.
#pragma once

#include <concepts>
#include <cstddef>
#include <utility>

namespace vitrine {

/// Converts to anything but the aggregate itself, to try Aggregate{...} with a number of initialisers.
template <class Aggregate>
struct Anything {
  template <class T>
  requires(!std::same_as<T, Aggregate>) operator T() const;  // never defined
};

template <class Aggregate, std::size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { Aggregate{(static_cast<void>(I), Anything<Aggregate>{})...}; };
}

/// The largest number of initialisers, at most `Most`, that Aggregate{...} takes: its number of members.
template <class Aggregate, std::size_t Most = 16>
constexpr std::size_t member_count() {
  if constexpr (takes<Aggregate>(std::make_index_sequence<Most>{}))
    return Most;
  else
    return member_count<Aggregate, Most - 1>();
}

}  // namespace vitrine
