// parallel_for: every item once, chunks that do not depend on the threads, and exceptions that
// reach the caller.
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tensor/error.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

/// Sets the number of threads for one test.
class Threads {
 public:
  explicit Threads(int count) : before_(num_threads()) { set_num_threads(count); }
  ~Threads() { set_num_threads(before_); }

 private:
  int before_;
};

TEST(ParallelFor, VisitsEveryItemOnce) {
  for (const int threads : {1, 2, 5}) {
    const Threads guard(threads);
    for (const std::int64_t count : {0, 1, 7, 64, 1000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      parallel_for(count, 7, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
      });
      for (const auto& visit : visits) EXPECT_EQ(visit, 1);
    }
  }
}

TEST(ParallelFor, ChunksDependOnTheGrainAlone) {
  const auto chunks_with = [](int threads) {
    const Threads guard(threads);
    std::set<std::pair<std::int64_t, std::int64_t>> chunks;
    std::mutex mutex;
    parallel_for(100, 30, [&](std::int64_t begin, std::int64_t end) {
      const std::lock_guard lock(mutex);
      chunks.insert({begin, end});
    });
    return chunks;
  };
  const std::set<std::pair<std::int64_t, std::int64_t>> expected{{0, 30}, {30, 60}, {60, 90}, {90, 100}};
  EXPECT_EQ(chunks_with(1), expected);
  EXPECT_EQ(chunks_with(4), expected);
}

TEST(ParallelFor, UsesSeveralThreads) {
  const Threads guard(3);
  std::set<std::thread::id> ids;
  std::mutex mutex;
  // Each chunk waits until three threads have come, or a second has passed.
  std::atomic<int> arrived{0};
  parallel_for(3, 1, [&](std::int64_t, std::int64_t) {
    {
      const std::lock_guard lock(mutex);
      ids.insert(std::this_thread::get_id());
    }
    ++arrived;
    for (int i = 0; i < 1000 && arrived < 3; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  EXPECT_EQ(ids.size(), 3u);
}

TEST(ParallelFor, RethrowsAndGoesOnWorking) {
  const Threads guard(2);
  const auto fail = [](std::int64_t begin, std::int64_t) { VT_CHECK(begin != 5, "item 5 fails"); };
  EXPECT_THROW(parallel_for(10, 1, fail), Error);
  std::atomic<int> visited{0};
  parallel_for(10, 1, [&](std::int64_t, std::int64_t) { ++visited; });
  EXPECT_EQ(visited, 10);
}

TEST(ParallelFor, NestedCallsAndCallsFromManyThreadsFinish) {
  const Threads guard(2);
  std::atomic<int> visited{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        parallel_for(4, 1, [&](std::int64_t, std::int64_t) {
          parallel_for(3, 1, [&](std::int64_t, std::int64_t) { ++visited; });
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(visited, 4 * 50 * 4 * 3);
}

TEST(ParallelFor, RejectsImpossibleSettings) {
  EXPECT_THROW(set_num_threads(0), Error);
  EXPECT_THROW(parallel_for(3, 0, [](std::int64_t, std::int64_t) {}), Error);
}

}  // namespace
}  // namespace vitrine
