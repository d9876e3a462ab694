// The pool behind parallel_for: workers sleep until a job appears, then take chunks off a shared
// counter.
#include "tensor/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tensor/error.h"

namespace vitrine {
namespace {

using Body = std::function<void(std::int64_t, std::int64_t)>;

thread_local bool inside_parallel_for = false;

/// One parallel_for call: its chunks, and how many of them are done.
struct Job {
  Job(std::int64_t items, std::int64_t per_chunk, const Body& work)
      : count(items), grain(per_chunk), chunks(chunk_count(items, per_chunk)), body(work) {}

  const std::int64_t count, grain, chunks;
  const Body& body;
  std::atomic<std::int64_t> next{0};
  std::atomic<std::int64_t> done{0};
  std::mutex error_mutex;
  std::exception_ptr error;

  void run_chunks() {
    inside_parallel_for = true;
    for (std::int64_t chunk; (chunk = next.fetch_add(1)) < chunks;) {
      try {
        body(chunk * grain, std::min(count, (chunk + 1) * grain));
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
      }
      done.fetch_add(1, std::memory_order_release);
    }
    inside_parallel_for = false;
  }
};

class Pool {
 public:
  explicit Pool(int workers) {
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void run(Job& job) {
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
      ++serial_;
      busy_ = 0;
    }
    wake_.notify_all();
    job.run_chunks();
    // The last chunks may still run elsewhere. They are short by construction, so wait actively,
    // then let go of the job.
    while (job.done.load(std::memory_order_acquire) < job.chunks) std::this_thread::yield();
    std::unique_lock lock(mutex_);
    job_ = nullptr;
    idle_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  void work() {
    std::uint64_t seen = 0;
    while (true) {
      Job* job = nullptr;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || (job_ && serial_ != seen); });
        if (stop_) return;
        seen = serial_;
        job = job_;
        ++busy_;
      }
      job->run_chunks();
      {
        const std::lock_guard lock(mutex_);
        --busy_;
      }
      idle_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Job* job_ = nullptr;
  std::uint64_t serial_ = 0;
  int busy_ = 0;  // workers that hold a pointer to the job
  bool stop_ = false;
};

std::mutex pool_mutex;  // held for the length of a parallel_for: one at a time
std::unique_ptr<Pool> pool;
std::atomic<int> thread_count{0};  // 0 = not chosen yet

}  // namespace

int num_threads() {
  if (thread_count == 0) thread_count = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return thread_count;
}

void set_num_threads(int count) {
  VT_CHECK(count >= 1, "set_num_threads: count is {}, expected at least 1", count);
  const std::lock_guard lock(pool_mutex);
  pool.reset();
  thread_count = count;
}

void parallel_for(std::int64_t count, std::int64_t grain, const Body& body) {
  VT_CHECK(grain >= 1, "parallel_for: grain is {}, expected at least 1", grain);
  if (count <= 0) return;
  const std::int64_t chunks = chunk_count(count, grain);
  // If another thread's parallel_for owns the pool, this one runs all chunks itself.
  std::unique_lock lock(pool_mutex, std::defer_lock);
  if (chunks == 1 || inside_parallel_for || num_threads() == 1 || !lock.try_lock()) {
    for (std::int64_t begin = 0; begin < count; begin += grain) body(begin, std::min(count, begin + grain));
    return;
  }
  if (!pool) pool = std::make_unique<Pool>(num_threads() - 1);
  Job job(count, grain, body);
  pool->run(job);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace vitrine
