// What `vitrine train` shows: a progress bar on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <string>

#include "train/observer.h"

namespace vitrine {

class PrintingObserver final : public TrainObserver {
 public:
  explicit PrintingObserver(std::int64_t log_interval);
  ~PrintingObserver() override { show(""); }  // an error message begins on an empty line

  void note(const std::string& line) override;
  void batch_done(const Progress& progress) override;
  void evaluating(std::int64_t done, std::int64_t batches) override;
  void epoch_done(const EpochSummary& summary, bool is_best) override;
  void saved(const std::filesystem::path& path) override;
  bool should_stop() override;  // after SIGINT or SIGTERM

 private:
  void show(const std::string& status);  // the line that the next one replaces
  void print(const std::string& line);   // a line that stays

  bool terminal_;
  std::int64_t log_interval_;
  std::int64_t last_logged_ = 0;
  std::chrono::steady_clock::time_point bar_drawn_{};
  std::size_t shown_ = 0;  // width of the line that is to be replaced
};

/// "1:02:03", "4:05".
std::string clock_time(double seconds);

}  // namespace vitrine
