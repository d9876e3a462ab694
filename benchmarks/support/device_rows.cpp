// One row: make its inputs large, check the result against the CPU in f64, time it on data that no
// cache holds.
#include "benchmarks/support/device_rows.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <regex>
#include <utility>

#include "autograd/tape.h"
#include "benchmarks/support/peak.h"
#include "benchmarks/support/stopwatch.h"
#include "op_table/drivers.h"

namespace vitrine {
namespace {

constexpr double large = 0x1p28;  // bytes: several times the cache of any GPU, and tens of microseconds of its memory

double bytes_of(const Tensors& tensors) {
  double total = 0;
  for (const Tensor& x : tensors) total += static_cast<double>(x.numel()) * static_cast<double>(size_of(x.dtype()));
  return total;
}

Tensors cast_floating(const Tensors& inputs, DType dtype) {
  Tensors result;
  for (const Tensor& x : inputs) result.push_back(is_floating(x.dtype()) ? cast_data(x, dtype) : x);
  return result;
}

/// x, `count` times below each other.
Tensor repeat_rows(const Tensor& x, std::int64_t count) {
  Shape stacked = Dims::filled(x.dim() + 1, count), joined = x.shape();
  for (int d = 0; d < x.dim(); ++d) stacked[d + 1] = x.size(d);
  joined[0] *= count;
  return reshape(clone(expand(unsqueeze(x, 0), stacked)), joined);
}

/// What is timed: the call, or the call and its backward for the output gradient `dy`, with a mark
/// between the two. Results: the output, then the gradients of the floating inputs.
Tensors run_once(const OpBenchmark& work, const Tensors& inputs, const Tensor& dy = {}, Stopwatch* watch = nullptr) {
  if (!dy.defined()) return {work.call(inputs)};
  Tape tape;
  Tensors leaves = inputs;
  for (Tensor& leaf : leaves) {
    if (is_floating(leaf.dtype())) leaf = tape.watch(leaf);
  }
  const Tensor y = work.call(leaves);
  if (watch) watch->mark();
  const Gradients grads = tape.backward(y, dy);
  Tensors results{y.detach()};
  for (const Tensor& leaf : leaves) {
    if (const Tensor gradient = grads[leaf]; gradient.defined()) results.push_back(gradient);
  }
  return results;
}

/// Whole numbers between -2 and 2, which every dtype holds; undefined where backward is not asked
/// for.
Tensor output_gradient(const OpBenchmark& work, const Tensors& inputs, const DeviceRowOptions& options) {
  if (!options.backward) return {};
  const Tensor y = work.call(inputs);
  return to_device(cast_data(test_indices(y.shape(), 5, 11), y.dtype()), y.device()) - 2.0;
}

/// The worst distance between results on the device and on the CPU in f64, from the same rounded
/// inputs.
double error_against_cpu(const OpBenchmark& work, const Tensors& inputs, const DeviceRowOptions& options) {
  const Tensors exact = cast_floating(inputs, DType::f64), rounded = moved(inputs, options.device);
  const Tensors expected = run_once(work, exact, output_gradient(work, exact, options));
  const Tensors actual = run_once(work, rounded, output_gradient(work, rounded, options));
  VT_CHECK(actual.size() == expected.size(), "{} results, expected {}", actual.size(), expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = relative_distance(actual[i], expected[i]);
    worst = error <= worst ? worst : error;  // NaN stays
  }
  return worst;
}

/// The inputs on the device, and how often the row's own inputs are repeated in them.
struct LargeInputs {
  Tensors inputs;
  double times = 1;
};

/// Repeats the first input, and all others as long as it, along dim 0, until the op moves `large`
/// bytes. An op whose work does not grow with that (because its output shape is fixed, say) keeps
/// the sizes of its row.
LargeInputs enlarge(const OpBenchmark& work, const Tensors& small, double bytes) {
  const double wanted = std::ceil(large / std::max(bytes, 1.0)), fitting = std::floor(16 * large / bytes_of(small));
  const auto times = static_cast<std::int64_t>(std::min(wanted, fitting));  // some ops read little of their inputs
  if (times <= 1 || small[0].dim() == 0) return {small};
  Tensors inputs;
  for (const Tensor& x : small) {
    const bool grows = x.dim() > 0 && x.size(0) == small[0].size(0);
    inputs.push_back(grows ? repeat_rows(x, times) : x);
  }
  const Tensor y = work.call(small);
  Tensor large_y;
  try {
    large_y = work.call(inputs);
  } catch (const Error&) {  // out of memory, or the op takes no other sizes
    return {small};
  }
  const double growth = (bytes_of(inputs) + bytes_of({large_y})) / (bytes_of(small) + bytes_of({y}));
  if (!(growth >= 0.9 * static_cast<double>(times))) return {small};
  if (large_y.dim() > 0 && y.dim() > 0 && large_y.size(0) == times * y.size(0)) {
    const Tensor end = slice(large_y, 0, (times - 1) * y.size(0), times * y.size(0));
    const double error = relative_distance(end, y);
    VT_CHECK(error <= 1e-2, "the last of {} repetitions differs from the first by {:.1e} of the norm", times, error);
  }
  return {inputs, static_cast<double>(times)};
}

/// Median, fastest and slowest of some times.
struct Timing {
  double median = 0, fastest = 0, slowest = 0;
  explicit Timing(std::vector<double> times) {
    std::ranges::sort(times);
    median = times[times.size() / 2], fastest = times.front(), slowest = times.back();
  }
};

struct CallTimes {
  std::vector<double> whole, backward;  // milliseconds
};

/// Each repetition works on another copy of the inputs, so that it finds none of them in the cache.
CallTimes time_calls(const OpBenchmark& work, const Tensors& inputs, const DeviceRowOptions& options) {
  const auto copies = static_cast<std::size_t>(std::clamp(large / bytes_of(inputs), 2.0, 64.0));
  std::vector<Tensors> sets;
  for (std::size_t i = 0; i < copies; ++i) {
    Tensors set;
    for (const Tensor& x : inputs) set.push_back(clone(x));
    sets.push_back(set);
  }
  const Tensor dy = output_gradient(work, inputs, options);
  for (std::size_t i = 0; i < 5; ++i) run_once(work, sets[i % copies], dy);
  Stopwatch watch(options.device);
  watch.mark();
  for (int i = 0; i < options.repetitions; ++i) {
    run_once(work, sets[static_cast<std::size_t>(i) % copies], dy, &watch);
    watch.mark();
  }
  CallTimes times{watch.milliseconds(), {}};
  if (!options.backward) return times;
  const std::vector<double> parts = std::exchange(times.whole, {});  // forward, backward, forward, ...
  for (std::size_t i = 0; i + 1 < parts.size(); i += 2) {
    times.whole.push_back(parts[i] + parts[i + 1]);
    times.backward.push_back(parts[i + 1]);
  }
  return times;
}

nlohmann::ordered_json time_row(const OpRow& row, const OpBenchmark& work, const Peak& peak,
                                const DeviceRowOptions& options) {
  const Tensors small = cast_floating(work.inputs, options.dtype);
  const double error = error_against_cpu(work, small, options);
  const double bound = options.dtype == DType::bf16 ? 1e-2 : 1e-4;  // TF32 would be at 3e-4
  VT_CHECK(error <= bound, "differs from the CPU in f64 by {:.1e} of the norm, accepted {:.0e}", error, bound);

  // The row's bytes are those of f32.
  const double f32_bytes = bytes_of(work.inputs) + bytes_of({work.call(work.inputs)});
  const double share = (bytes_of(small) + bytes_of({work.call(small)})) / f32_bytes;
  const auto [inputs, times] = enlarge(work, moved(small, options.device), work.bytes * share);
  const CallTimes measured = time_calls(work, inputs, options);
  const Timing timing(measured.whole);
  nlohmann::ordered_json result = {{"op", row.op},
                                   {"size", work.name},
                                   {"repeated", times},
                                   {"error", error},
                                   {"median_us", 1e3 * timing.median},
                                   {"min_us", 1e3 * timing.fastest},
                                   {"max_us", 1e3 * timing.slowest}};
  if (options.backward) {
    result["backward_us"] = 1e3 * Timing(measured.backward).median;
    return result;
  }
  const bool by_flops = work.flops > 0;
  const double rate = times * (by_flops ? work.flops : work.bytes * share) / (timing.median / 1e3);
  result[by_flops ? "TFLOP/s" : "GB/s"] = rate / (by_flops ? 1e12 : 1e9);
  result["percent_of_peak"] = 100 * rate / (by_flops ? peak.flops : peak.bytes);
  return result;
}

void print_row(const nlohmann::ordered_json& row) {
  fmt::print("{:<22} {:<34} ", std::string(row["op"]), std::string(row["size"]));
  if (row.contains("failure")) {
    fmt::print("FAILED: {}\n", std::string(row["failure"]));
  } else {
    fmt::print("{:>5.0f} x {:>9.1f} us ({:.1f} .. {:.1f})", double(row["repeated"]), double(row["median_us"]),
               double(row["min_us"]), double(row["max_us"]));
    for (const char* unit : {"GB/s", "TFLOP/s"}) {
      if (row.contains(unit))
        fmt::print(" {:>8.1f} {:<7} {:>5.1f}%", double(row[unit]), unit, double(row["percent_of_peak"]));
    }
    fmt::print("\n");
  }
  std::fflush(stdout);
}

}  // namespace

int time_rows_on_device(const DeviceRowOptions& options,
                        const std::function<void(const nlohmann::ordered_json& report)>& after_row) {
  const std::regex filter(options.filter);
  const Peak peak = measure_peak(options.device, options.dtype);
  fmt::print("peak in {}: products {:.1f} TFLOP/s, copies {:.0f} GB/s (read and written)\n", name_of(options.dtype),
             peak.flops / 1e12, peak.bytes / 1e9);
  nlohmann::ordered_json report = {{"dtype", name_of(options.dtype)},    {"backward", options.backward},
                                   {"repetitions", options.repetitions}, {"peak_tflops", peak.flops / 1e12},
                                   {"peak_gb_per_s", peak.bytes / 1e9},  {"rows", nlohmann::ordered_json::array()}};
  int failed = 0;
  for (const OpRow& row : op_table()) {
    if (options.backward && !row.differentiable) continue;
    for (const auto& make : row.benchmarks()) {
      const OpBenchmark work = make();
      if (!std::regex_search(row.op + " " + work.name, filter)) continue;
      nlohmann::ordered_json result;
      try {
        result = time_row(row, work, peak, options);
      } catch (const Error& error) {
        result = {{"op", row.op}, {"size", work.name}, {"failure", error.what()}};
        ++failed;
      }
      print_row(result);
      report["rows"].push_back(result);
      after_row(report);
      release_cached_memory(options.device);  // the next row has other sizes
    }
  }
  return failed;
}

}  // namespace vitrine
