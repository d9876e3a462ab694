// Times every row of the op table: GFLOP/s or GB/s, and the share of what this machine reaches in the same run.
//   build/release/benchmarks/ops [--benchmark_filter=REGEX] [--benchmark_format=json] [--benchmark_repetitions=N] ...
// An op is timed only after its values have agreed with its reference. Bytes are those that the op must read and write.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "tensor/parallel.h"
#include "tests/op_drivers.h"

namespace vitrine {
namespace {

/// What the machine does at its best, with the threads that the ops use.
struct Peak {
  double flops = 0;  // a second: a large square product
  double bytes = 0;  // a second: a copy too large for the caches, bytes read plus bytes written
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Work>
double shortest_seconds(int repetitions, const Work& work) {
  double shortest = 1e300;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    shortest = std::min(shortest, seconds_since(start));
  }
  return shortest;
}

Peak measure_peak() {
  constexpr std::int64_t side = 1536, count = std::int64_t{1} << 26;
  const Tensor a = cast_data(test_values({side, side}, 1), DType::f32), b = transpose(a);
  const double product = shortest_seconds(8, [&] { matmul(a, b); });
  const Tensor source = ones({count});
  Tensor target = zeros({count});
  const double copy = shortest_seconds(8, [&] { copy_into(target, source); });
  return {2.0 * side * side * side / product, 8.0 * count / copy};
}

/// One op of the table. The rates are plain numbers, from the time of the whole loop.
void time_row(benchmark::State& state, const OpRow& row, const Peak& peak) {
  const OpCheck check = check_op_values(row, DType::f32);
  if (check.failed > 0) {
    state.SkipWithError(fmt::format("wrong values: {}", check.where).c_str());
    return;
  }
  const OpBenchmark work = row.benchmark();
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) benchmark::DoNotOptimize(work.call(work.inputs).raw_data());
  const double seconds = seconds_since(start) / static_cast<double>(state.iterations());
  const bool by_flops = work.flops > 0;
  const double rate = (by_flops ? work.flops : work.bytes) / seconds;
  state.counters[by_flops ? "GFLOP/s" : "GB/s"] = rate / 1e9;
  state.counters["% of peak"] = 100 * rate / (by_flops ? peak.flops : peak.bytes);
}

}  // namespace
}  // namespace vitrine

int main(int argc, char** argv) {
  using namespace vitrine;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const Peak peak = measure_peak();
  fmt::print(stderr, "peak with {} threads, f32: products {:.1f} GFLOP/s, copies {:.1f} GB/s (read and written)\n",
             num_threads(), peak.flops / 1e9, peak.bytes / 1e9);
  for (const OpRow& row : op_table()) {
    const std::string name = row.op + " " + row.benchmark().name;
    benchmark::RegisterBenchmark(name.c_str(), [&](benchmark::State& state) { time_row(state, row, peak); })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::RunSpecifiedBenchmarks();
}
