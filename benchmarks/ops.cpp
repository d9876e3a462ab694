// Times every row of the op table: GFLOP/s or GB/s, and the share of what this machine reaches in
// the same run.
//   ops [--benchmark_filter=REGEX] [--benchmark_format=json] [--benchmark_repetitions=N] ...       on the CPU, in f32
//   ops --device cuda [--dtype bf16] [--backward] [--filter REGEX] [--repetitions N] [--json FILE] on a GPU
// An op is timed only after its values have agreed with its reference. Bytes are those that the op
// must read and write.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>

#include "benchmarks/support/device_rows.h"
#include "benchmarks/support/peak.h"
#include "op_table/drivers.h"
#include "tensor/parallel.h"
#include "train/recipe/setup.h"
#include "weights/files/file.h"

namespace vitrine {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// One op of the table. The rates are plain numbers, from the time of the whole loop.
void time_row(benchmark::State& state, const OpRow& row, const OpBenchmark& work, const Peak& peak) {
  const OpCheck check = check_op_values(row, DType::f32);
  if (check.failed > 0) {
    state.SkipWithError(fmt::format("wrong values: {}", check.where).c_str());
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) benchmark::DoNotOptimize(work.call(work.inputs).raw_data());
  const double seconds = seconds_since(start) / static_cast<double>(state.iterations());
  const bool by_flops = work.flops > 0;
  const double rate = (by_flops ? work.flops : work.bytes) / seconds;
  state.counters[by_flops ? "GFLOP/s" : "GB/s"] = rate / 1e9;
  state.counters["% of peak"] = 100 * rate / (by_flops ? peak.flops : peak.bytes);
}

/// `flags` are google-benchmark's.
int time_rows_on_cpu(std::vector<std::string> flags) {
  flags.insert(flags.begin(), "ops");
  std::vector<char*> argv;
  for (std::string& flag : flags) argv.push_back(flag.data());
  int argc = static_cast<int>(argv.size());
  benchmark::Initialize(&argc, argv.data());
  if (benchmark::ReportUnrecognizedArguments(argc, argv.data())) return 2;
  const Peak peak = measure_peak(cpu, DType::f32);
  fmt::print(stderr, "peak with {} threads, f32: products {:.1f} GFLOP/s, copies {:.1f} GB/s (read and written)\n",
             num_threads(), peak.flops / 1e9, peak.bytes / 1e9);
  for (const OpRow& row : op_table()) {
    for (const auto& make : row.benchmarks()) {
      const std::string name = row.op + " " + make().name;
      const auto body = [&row, make, peak](benchmark::State& state) { time_row(state, row, make(), peak); };
      benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->Unit(benchmark::kMicrosecond);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app("Times every op of the table. On the CPU, all other flags go to google-benchmark.", "ops");
  app.allow_extras();
  std::string device = "cpu", dtype = "f32", json;
  DeviceRowOptions options;
  app.add_option("--device", device, "cpu or cuda; the flags below are for cuda")->capture_default_str();
  app.add_option("--dtype", dtype, "f32 or bf16")->check(CLI::IsMember({"f32", "bf16"}))->capture_default_str();
  app.add_flag("--backward", options.backward, "time forward and backward together");
  app.add_option("--filter", options.filter, "regular expression for the rows");
  app.add_option("--repetitions", options.repetitions, "timed calls of each op")->check(CLI::PositiveNumber);
  app.add_option("--json", json, "write the figures to this file");
  CLI11_PARSE(app, argc, argv);
  options.device = open_device(device);
  options.dtype = dtype_from_name(dtype);
  if (options.device.is_cpu()) return time_rows_on_cpu(app.remaining());
  if (!app.remaining().empty()) {
    fmt::print(stderr, "ops: {}: is not a flag of it with --device cuda\n", app.remaining()[0]);
    return 2;
  }
  // After each row, so that a run that is cut short leaves what it has measured.
  const int failed = time_rows_on_device(options, [&](const nlohmann::ordered_json& report) {
    if (!json.empty()) write_file_atomically(json, report.dump(1) + "\n");
  });
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace vitrine

int main(int argc, char** argv) {
  try {
    return vitrine::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "ops: {}\n", error.what());
    return 1;
  }
}
