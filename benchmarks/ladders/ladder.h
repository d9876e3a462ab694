// A ladder: kernels for one problem, from the first that comes to mind to the one that the library
// uses. Each rung changes one thing about the rung below it; docs/cuda.md, "How a kernel becomes
// fast", walks up.
//
//   for (const Ladder& ladder : all_ladders())  // benchmarks/ladders/all_ladders.h
//     for (const Rung& rung : ladder.rungs) ...
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace vitrine::ladders {

using Tensors = std::vector<Tensor>;
using Work = std::function<Tensors()>;

struct Rung {
  std::string name;
  /// Makes whatever is not to be timed, such as memory for the results, and returns the work on
  /// these inputs, which are on a CUDA device. The work may be done again and again, with the same
  /// bits; it may use the same memory for them.
  std::function<Work(const Tensors& inputs)> prepare;
};

struct Ladder {
  std::string name;         // what the program and a reader call it: "layer_norm"
  std::string dimensions;   // what `size` means: "(rows, D)"
  Shape timed_size;         // larger than any cache
  std::vector<Rung> rungs;  // from slow to fast; empty in a build without CUDA
  /// Inputs of a size, on the CPU.
  std::function<Tensors(const Shape& size)> inputs;
  /// The results by loops in float64, from the formula and from no op of ours; reads the rounded
  /// inputs on the CPU.
  std::function<Tensors(const Tensors& inputs)> reference;
  double tolerance;  // of the results: largest ||rung - reference|| / ||reference||
  /// What the problem itself demands, whatever a rung does on top: bytes that must be read and
  /// written, or operations where arithmetic is the limit. One of the two is 0.
  std::function<double(const Shape&size)> bytes, flops;
};

/// The inputs of a ladder on another device.
Tensors on_device(const Tensors& inputs, Device device);

/// The results of the work. It is done twice, and its results are overwritten with NaN in between:
/// memory often still holds the right results of the rung before, with which a rung that forgets to
/// write some would pass.
Tensors fresh_results(const Work& work);

/// The largest relative error of a rung's results. An Error that names the rung where it is above
/// the tolerance or NaN.
double checked_error(const Ladder& ladder, const Rung& rung, const Tensors& results, const Tensors& expected);

}  // namespace vitrine::ladders
