// The progress bar and the lines of a training run.
#include "cli/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/signals.h"

namespace vitrine {
namespace {

std::string bar(std::int64_t done, std::int64_t all) {
  constexpr std::int64_t width = 20;
  const std::int64_t filled = all > 0 ? width * done / all : width;
  std::string text(static_cast<std::size_t>(filled), '=');
  if (filled < width) text += '>';
  text.resize(width, ' ');
  return text;
}

/// Without an error where standard output is closed: then SIGPIPE ends the run, after saving.
void write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::string percent(double value) { return std::isnan(value) ? "-" : fmt::format("{:.2f}%", value); }
std::string loss_text(double value) { return std::isnan(value) ? "-" : fmt::format("{:.4f}", value); }

}  // namespace

std::string clock_time(double seconds) {
  const auto total = static_cast<std::int64_t>(std::isfinite(seconds) ? std::max(0.0, seconds + 0.5) : 0);
  const std::int64_t hours = total / 3600, minutes = total / 60 % 60, rest = total % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, rest) : fmt::format("{}:{:02}", minutes, rest);
}

PrintingObserver::PrintingObserver(std::int64_t log_interval)
    : terminal_(::isatty(STDOUT_FILENO) == 1), log_interval_(log_interval) {}

void PrintingObserver::print(const std::string& line) {
  show("");
  write(line + "\n");
}

void PrintingObserver::show(const std::string& status) {
  if (!terminal_ || (status.empty() && shown_ == 0)) return;
  const std::size_t echoed = status.empty() ? 2 : 0;  // the ^C that a terminal shows
  write(fmt::format("\r{:<{}}{}", status, shown_ + echoed, status.empty() ? "\r" : ""));
  shown_ = status.size();
}

void PrintingObserver::note(const std::string& line) { print(line); }

void PrintingObserver::batch_done(const Progress& p) {
  const std::string figures = fmt::format("loss {:.4f}  lr {:.2e}  {:.0f} img/s  ETA {}", p.loss, p.learning_rate,
                                          p.images_per_second, clock_time(p.seconds_left));
  if (terminal_) {
    const auto now = std::chrono::steady_clock::now();
    if (now - bar_drawn_ < std::chrono::milliseconds(100) && p.batch != p.batches) return;
    bar_drawn_ = now;
    show(fmt::format("epoch {}/{} [{}] {:3}%  {}", p.epoch, p.epochs, bar(p.batch, p.batches),
                     100 * p.batch / p.batches, figures));
    return;
  }
  if (p.batch < last_logged_) last_logged_ = 0;  // a new epoch
  if (p.batch - last_logged_ < log_interval_ && p.batch != p.batches) return;
  last_logged_ = p.batch;
  print(fmt::format("epoch {}/{}  batch {}/{}  {}", p.epoch, p.epochs, p.batch, p.batches, figures));
}

void PrintingObserver::evaluating(std::int64_t done, std::int64_t batches) {
  show(fmt::format("evaluating [{}] {:3}%", bar(done, batches), 100 * done / batches));
}

void PrintingObserver::epoch_done(const EpochSummary& e, bool is_best) {
  print(fmt::format("epoch {}: train loss {}, eval loss {}, top-1 {}, top-5 {}, {:.0f} img/s, {} since the start{}",
                    e.epoch, loss_text(e.train_loss), loss_text(e.eval_loss), percent(e.eval_top1),
                    percent(e.eval_top5), e.images_per_second, clock_time(e.seconds), is_best ? " (best so far)" : ""));
}

void PrintingObserver::saved(const std::filesystem::path& path) { print(fmt::format("saved {}", path.string())); }

bool PrintingObserver::should_stop() { return received_signal() != 0; }

}  // namespace vitrine
