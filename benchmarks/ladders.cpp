// Climbs the ladders of benchmarks/ladders on a GPU: every rung is compared with loops in float64,
// then timed.
//   ladders [layer_norm] [layer_norm_backward] [attention] [--device cuda] [--repetitions N] [--json FILE]
// A rung with wrong results is not timed. Rates are of the bytes or operations that the problem
// itself demands. Exit codes: 0 every rung is right; 1 one is not; 2 wrong words, or no GPU here.
#include "benchmarks/ladders/all_ladders.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "benchmarks/support/peak.h"
#include "benchmarks/support/stopwatch.h"
#include "tensor/device/allocator.h"
#include "weights/files/file.h"

namespace vitrine {
namespace {

using ladders::Ladder;
using ladders::Rung;
using ladders::Tensors;
using ladders::Work;
using Json = nlohmann::ordered_json;

struct Options {
  std::vector<std::string> names;  // of ladders; empty = all
  std::string device = "cuda", json;
  int repetitions = 30;
};

/// The milliseconds of single calls, sorted. Two copies of the inputs take turns, so that none is
/// still in the cache.
std::vector<double> time_work(const std::vector<Work>& works, Device device, int repetitions) {
  for (int i = 0; i < 5; ++i) works[static_cast<std::size_t>(i) % works.size()]();
  Stopwatch watch(device);
  watch.mark();
  for (int i = 0; i < repetitions; ++i) {
    works[static_cast<std::size_t>(i) % works.size()]();
    watch.mark();
  }
  std::vector<double> times = watch.milliseconds();
  std::ranges::sort(times);
  return times;
}

/// Checks a rung, then times it. `previous_us` is the time of the rung below, 0 for the first.
Json climb(const Ladder& ladder, const Rung& rung, const std::vector<Tensors>& inputs, const Tensors& expected,
           const Peak& peak, double previous_us, const Options& options) {
  const Device device = inputs[0][0].device();
  std::vector<Work> works;
  for (const Tensors& set : inputs) works.push_back(rung.prepare(set));
  const double error = checked_error(ladder, rung, ladders::fresh_results(works[0]), expected);
  const std::vector<double> times = time_work(works, device, options.repetitions);
  const double median_us = 1e3 * times[times.size() / 2];
  const double flops = ladder.flops(ladder.timed_size), bytes = ladder.bytes(ladder.timed_size);
  const double rate = std::max(flops, bytes) / (median_us / 1e6);
  Json row = {{"rung", rung.name},
              {"error", error},
              {"median_us", median_us},
              {"min_us", 1e3 * times.front()},
              {"max_us", 1e3 * times.back()},
              {flops > 0 ? "TFLOP/s" : "GB/s", rate / (flops > 0 ? 1e12 : 1e9)},
              {"percent_of_peak", 100 * rate / (flops > 0 ? peak.flops : peak.bytes)}};
  if (previous_us > 0) row["times_faster_than_previous"] = previous_us / median_us;
  return row;
}

void print_row(const Json& row) {
  if (row.contains("failure")) {
    fmt::print("{:<42} FAILED: {}\n", row["rung"].get<std::string>(), row["failure"].get<std::string>());
  } else {
    const char* unit = row.contains("GB/s") ? "GB/s" : "TFLOP/s";
    fmt::print("{:<42} {:>10.1f} us ({:.1f} .. {:.1f}) {:>8.1f} {:<7} {:>5.1f}%", row["rung"].get<std::string>(),
               row["median_us"].get<double>(), row["min_us"].get<double>(), row["max_us"].get<double>(),
               row[unit].get<double>(), unit, row["percent_of_peak"].get<double>());
    if (row.contains("times_faster_than_previous")) {
      fmt::print(" {:>7.2f} x the rung before", row["times_faster_than_previous"].get<double>());
    }
    fmt::print("\n");
  }
  std::fflush(stdout);
}

Json climb_all(const Ladder& ladder, const Options& options) {
  const Device device = device_from_name(options.device);
  const Tensors on_cpu = ladder.inputs(ladder.timed_size), expected = ladder.reference(on_cpu);
  const Peak peak = measure_peak(device, on_cpu[0].dtype());
  const bool by_flops = ladder.flops(ladder.timed_size) > 0;
  const std::string best = by_flops ? fmt::format("products reach {:.1f} TFLOP/s", peak.flops / 1e12)
                                    : fmt::format("copies reach {:.0f} GB/s", peak.bytes / 1e9);
  fmt::print("\n{} {} = {}; {} = 100%\n", ladder.name, ladder.dimensions, to_string(ladder.timed_size), best);
  const std::vector<Tensors> inputs{ladders::on_device(on_cpu, device), ladders::on_device(on_cpu, device)};
  Json rows = Json::array();
  double previous_us = 0;
  for (const Rung& rung : ladder.rungs) {
    Json row;
    try {
      row = climb(ladder, rung, inputs, expected, peak, previous_us, options);
      previous_us = row["median_us"];
    } catch (const Error& error) {
      row = {{"rung", rung.name}, {"failure", error.what()}};
      previous_us = 0;
    }
    print_row(row);
    rows.push_back(row);
    release_cached_memory(device);
  }
  return {{"ladder", ladder.name},
          {"size", to_string(ladder.timed_size)},
          {"dimensions", ladder.dimensions},
          {"repetitions", options.repetitions},
          {"peak_tflops", peak.flops / 1e12},
          {"peak_gb_per_s", peak.bytes / 1e9},
          {"rungs", rows}};
}

/// Why no ladder can be climbed on that device; "" where one can.
std::string reason_against(const std::string& name) {
  const Device device = device_from_name(name);
  if (device.is_cpu())
    return fmt::format("--device: is '{}', expected cuda or cuda:N: rungs are kernels of a GPU", name);
  if (ladders::all_ladders()[0].rungs.empty()) return "this build has no CUDA (cmake --preset cuda)";
  const int count = cuda_device_count();
  if (device.index >= count) return fmt::format("--device: is '{}', but this machine has {} CUDA devices", name, count);
  return "";
}

int run(const Options& options) {
  if (const std::string reason = reason_against(options.device); !reason.empty()) {
    fmt::print(stderr, "ladders: {}\n", reason);
    return 2;
  }
  Json report = Json::array();
  bool good = true;
  for (const Ladder& ladder : ladders::all_ladders()) {
    if (!options.names.empty() && std::ranges::count(options.names, ladder.name) == 0) continue;
    report.push_back(climb_all(ladder, options));
    for (const Json& row : report.back()["rungs"]) good = good && !row.contains("failure");
  }
  if (!options.json.empty()) write_file_atomically(options.json, report.dump(1) + "\n");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace vitrine

int main(int argc, char** argv) {
  CLI::App app("Checks and times kernels that grow from naive to fast, one rung after the other.", "ladders");
  vitrine::Options options;
  std::vector<std::string> known;
  for (const auto& ladder : vitrine::ladders::all_ladders()) known.push_back(ladder.name);
  app.add_option("ladder", options.names, "which to climb; all without it")->check(CLI::IsMember(known));
  app.add_option("--device", options.device, "cuda or cuda:N")->capture_default_str();
  app.add_option("--repetitions", options.repetitions, "timed calls of each rung")->check(CLI::PositiveNumber);
  app.add_option("--json", options.json, "write the figures to this file");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    return vitrine::run(options);
  } catch (const vitrine::Error& error) {
    fmt::print(stderr, "ladders: {}\n", error.what());
    return 1;
  }
}
