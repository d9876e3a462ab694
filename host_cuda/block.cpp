// The scheduler of one block: which fibre runs next, and which fibres wait for each other.
#include "host_cuda/block.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "host_cuda/fibre.h"

namespace host_cuda {
namespace {

std::uint64_t order_seed = [] {
  const char* text = std::getenv("HOST_CUDA_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 0ull;
}();

unsigned bit(int lane) { return 1u << lane; }

/// A fibre that runs CUDA threads, one after the other as long as none of them has to wait.
struct Worker {
  std::unique_ptr<Fibre> fibre;
  int thread = 0;               // the CUDA thread that it runs, row-major in the block
  const char* waits = nullptr;  // the operation that it waits at
};

/// The lanes of one warp that meet under one mask. Two buffers take turns: a lane that is still
/// reading the last meeting has not come to the next, so the one after that cannot have begun.
struct Rendezvous {
  unsigned mask = 0, arrived = 0;
  const char* operation = nullptr;
  std::vector<Worker*> waiting;
  int buffer = 0;
  Meeting meetings[2];
};

struct Warp {
  unsigned alive = 0;
  std::vector<std::unique_ptr<Rendezvous>> rendezvous;  // one per mask; few
};

class Block {
 public:
  void run(dim3 shape, const std::function<void()>& body, std::mt19937_64* random) {
    shape_ = shape;
    count_ = static_cast<int>(shape.x * shape.y * shape.z);
    body_ = &body;
    random_ = random;
    started_ = finished_ = 0;
    error_ = nullptr;
    order_.resize(static_cast<std::size_t>(count_));
    std::iota(order_.begin(), order_.end(), 0);
    if (random_) std::shuffle(order_.begin(), order_.end(), *random_);
    warps_.clear();
    warps_.resize(static_cast<std::size_t>(count_ + 31) / 32);
    for (int thread = 0; thread < count_; ++thread)
      warps_[static_cast<std::size_t>(thread / 32)].alive |= bit(thread % 32);
    while (finished_ < count_ && !error_) {
      running_ = next_worker();
      running_->fibre->resume();
    }
    if (error_) abandon();
  }

  void barrier() {
    barrier_.push_back(running_);
    if (!release_barrier()) wait("__syncthreads");
  }

  const Meeting& meet(const char* operation, unsigned mask, const void* mine, std::size_t bytes) {
    const int lane = running_->thread % 32;
    if ((mask & bit(lane)) == 0) throw KernelError(std::string(operation) + ": the mask leaves out the calling lane");
    Rendezvous& place = rendezvous_of(mask);
    if (place.arrived == 0) place.operation = operation;
    if (std::strcmp(place.operation, operation) != 0) {
      throw KernelError(std::string("lanes of one warp meet in ") + place.operation + " and " + operation);
    }
    Meeting& meeting = place.meetings[place.buffer];
    std::memcpy(meeting.slots[lane], mine, bytes);
    place.arrived |= bit(lane);
    place.waiting.push_back(running_);
    if (!release(place, warp().alive)) wait(operation);
    return meeting;
  }

  int lane() const { return running_->thread % 32; }

 private:
  Warp& warp() { return warps_[static_cast<std::size_t>(running_->thread / 32)]; }

  Rendezvous& rendezvous_of(unsigned mask) {
    for (const auto& place : warp().rendezvous) {
      if (place->mask == mask) return *place;
    }
    warp().rendezvous.push_back(std::make_unique<Rendezvous>());
    warp().rendezvous.back()->mask = mask;
    return *warp().rendezvous.back();
  }

  /// A waiting thread that may go on, or a new one; with a seed, either by chance.
  Worker* next_worker() {
    const bool can_start = started_ < count_;
    if (!ready_.empty() && (!can_start || (random_ && (*random_)() % 2 == 0))) {
      const std::size_t index = random_ ? (*random_)() % ready_.size() : 0;
      Worker* worker = ready_[index];
      ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(index));
      return worker;
    }
    if (!can_start) throw_deadlock();
    if (idle_.empty()) {
      workers_.push_back(std::make_unique<Worker>());
      Worker* worker = workers_.back().get();
      worker->fibre = std::make_unique<Fibre>([this, worker] { work(worker); });
      idle_.push_back(worker);
    }
    Worker* worker = idle_.back();
    idle_.pop_back();
    return worker;
  }

  /// The life of a worker: threads of this block, then of the next.
  void work(Worker* worker) {
    for (;;) {
      while (started_ < count_ && !error_) {
        worker->thread = order_[static_cast<std::size_t>(started_++)];
        enter(*worker);
        try {
          (*body_)();
        } catch (...) {
          if (!error_) error_ = std::current_exception();
        }
        finish();
      }
      idle_.push_back(worker);
      worker->fibre->give_way();
    }
  }

  void enter(const Worker& worker) {
    const auto thread = static_cast<unsigned>(worker.thread);
    threadIdx = {thread % shape_.x, thread / shape_.x % shape_.y, thread / (shape_.x * shape_.y)};
  }

  /// A thread has returned: those that waited for it alone may go on.
  void finish() {
    ++finished_;
    warp().alive &= ~bit(running_->thread % 32);
    release_barrier();
    for (const auto& place : warp().rendezvous) release(*place, warp().alive);
  }

  void wait(const char* operation) {
    Worker* self = running_;
    self->waits = operation;
    self->fibre->give_way();
    self->waits = nullptr;
    enter(*self);
  }

  /// True if the running thread may go straight on; with a seed it queues up with the others
  /// instead.
  bool let_go(std::vector<Worker*>& waiting) {
    bool goes_on = false;
    for (Worker* worker : waiting) {
      if (worker == running_ && !random_) {
        goes_on = true;
      } else {
        ready_.push_back(worker);
      }
    }
    waiting.clear();
    return goes_on;
  }

  bool release_barrier() {
    if (barrier_.empty() || static_cast<int>(barrier_.size()) < count_ - finished_) return false;
    return let_go(barrier_);
  }

  bool release(Rendezvous& place, unsigned alive) {
    if (place.arrived == 0 || (place.mask & alive & ~place.arrived) != 0) return false;
    place.meetings[place.buffer].participants = place.arrived;
    place.buffer ^= 1;
    place.arrived = 0;
    return let_go(place.waiting);
  }

  [[noreturn]] void throw_deadlock() {
    std::map<std::string, std::vector<int>> waiting;  // threads by what they wait at
    for (const auto& worker : workers_) {
      if (worker->waits) waiting[worker->waits].push_back(worker->thread);
    }
    std::string text = "deadlock in block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                       std::to_string(blockIdx.z) + "): " + std::to_string(finished_) + " threads have returned";
    for (auto& [operation, threads] : waiting) {
      std::ranges::sort(threads);
      text += "; " + std::to_string(threads.size()) + " wait at " + operation + ", from thread " +
              std::to_string(threads[0]);
    }
    abandon();
    throw KernelError(text);
  }

  /// After an error: the fibres that have not finished the kernel are never resumed, and new ones
  /// replace them.
  void abandon() {
    for (auto& worker : workers_) worker->waits = nullptr;
    static auto& graveyard = *new std::vector<std::unique_ptr<Worker>>();
    std::move(workers_.begin(), workers_.end(), std::back_inserter(graveyard));
    workers_.clear();
    idle_.clear();
    ready_.clear();
    barrier_.clear();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  dim3 shape_;
  int count_ = 0, started_ = 0, finished_ = 0;
  const std::function<void()>* body_ = nullptr;
  std::mt19937_64* random_ = nullptr;
  std::exception_ptr error_;
  std::vector<int> order_;                        // in which threads start
  std::vector<std::unique_ptr<Worker>> workers_;  // all fibres
  std::vector<Worker*> idle_, ready_, barrier_;
  std::vector<Warp> warps_;
  Worker* running_ = nullptr;
};

/// Never destroyed: fibres do not end.
Block& the_block() {
  static auto& block = *new Block();
  return block;
}

constexpr std::align_val_t shared_alignment{128};
struct FreeShared {
  void operator()(void* memory) const { ::operator delete(memory, shared_alignment); }
};
std::unique_ptr<void, FreeShared> shared_memory;

}  // namespace

void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body) {
  static std::uint64_t launches = 0;
  std::mt19937_64 random(order_seed + 1000003 * ++launches);
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  std::vector<std::uint64_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (order_seed) std::shuffle(order.begin(), order.end(), random);
  gridDim = grid;
  blockDim = block;
  shared_memory.reset(::operator new(shared_bytes, shared_alignment));
  for (const std::uint64_t b : order) {
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / grid.x / grid.y)};
    std::memset(shared_memory.get(), 0xFF, shared_bytes);  // NaN as f32, f64 and bf16
    the_block().run(block, body, order_seed ? &random : nullptr);
  }
}

void set_seed(std::uint64_t seed) { order_seed = seed; }
void* dynamic_shared_memory() { return shared_memory.get(); }
void block_barrier() { the_block().barrier(); }
int lane() { return the_block().lane(); }

const Meeting& meet(const char* operation, unsigned mask, const void* mine, std::size_t bytes) {
  return the_block().meet(operation, mask, mine, bytes);
}

}  // namespace host_cuda
