// The loader: a queue of batches that worker threads fill in any order and next() empties in the
// epoch's order.
#include "data/loader/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "tensor/error.h"

namespace vitrine {

namespace {

/// The epoch that workers make batches of. Each holds a copy, so that a new epoch can start while
/// workers finish an old one.
struct Plan {
  std::int64_t serial = 0;  // counts calls of start()
  std::int64_t epoch = 0;
  std::int64_t end = 0;  // batches in the epoch
  std::shared_ptr<const std::vector<std::int64_t>> order;
};

/// A finished batch, or why there is none.
struct Result {
  Batch batch;
  std::exception_ptr failure;
};

}  // namespace

struct Loader::State {
  State(DatasetPtr samples, Transform steps, LoaderOptions settings)
      : dataset(std::move(samples)),
        transform(std::move(steps)),
        options(std::move(settings)),
        bad(dataset, options.bad_samples_allowed) {}
  ~State() {  // also where a thread could not be started
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work_to_do.notify_all();
  }

  const DatasetPtr dataset;
  const Transform transform;
  const LoaderOptions options;
  BadSamples bad;

  mutable std::mutex mutex;
  std::condition_variable work_to_do, batch_done;
  bool stopping = false;
  Plan plan;
  std::int64_t next_to_make = 0, next_to_give = 0;  // positions of batches in the epoch
  std::map<std::int64_t, Result> done;
  std::vector<std::jthread> workers;  // last: they end before the rest goes

  bool abandoned(const Plan& current) const;
  Batch make_batch(const Plan& current, std::int64_t number);
  Result try_to_make_batch(const Plan& current, std::int64_t number);
  void work();
};

/// Whether a batch of this plan is no longer wanted.
bool Loader::State::abandoned(const Plan& current) const {
  const std::lock_guard lock(mutex);
  return stopping || plan.serial != current.serial;
}

Batch Loader::State::make_batch(const Plan& current, std::int64_t number) {
  const std::int64_t first = number * options.batch_size;
  const std::int64_t count = std::min(options.batch_size, options.samples(dataset->size()) - first);
  const std::int64_t side = transform.image_size;
  Batch batch;
  batch.epoch = current.epoch;
  batch.number = number;
  batch.images = empty({count, 3, side, side});
  batch.labels = empty({count}, DType::i64);
  float* image = batch.images.data<float>();
  std::int64_t* label = batch.labels.data<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i, image += 3 * side * side) {
    if (abandoned(current)) throw Error("loader: stopped");
    const std::int64_t position = first + i;
    std::int64_t index = (*current.order)[static_cast<std::size_t>(position)];
    const Sample sample = bad.replacing(index, [this](std::int64_t k) { return checked_sample(*dataset, k); });
    RandomSequence random = augmentation_numbers(options, current.epoch, position, index, dataset->size());
    try {
      transform.apply(sample.image, random, image);
    } catch (const std::exception& failure) {
      throw Error(fmt::format("{}: {}", dataset->name(index), failure.what()));
    }
    label[i] = sample.label;
    batch.indices.push_back(index);
  }
  if (options.mixing) apply_mixing(*options.mixing, options.target_classes(*dataset), options.seed, batch);
  return batch;
}

Result Loader::State::try_to_make_batch(const Plan& current, std::int64_t number) {
  try {
    return {make_batch(current, number), nullptr};
  } catch (...) {
    return {{}, std::current_exception()};
  }
}

/// A worker's life: takes the number of the next batch while no more than `prefetch` are ahead,
/// makes it, hands it in.
void Loader::State::work() {
  std::unique_lock lock(mutex);
  const auto has_work = [this] { return next_to_make < plan.end && next_to_make < next_to_give + options.prefetch; };
  while (true) {
    work_to_do.wait(lock, [&] { return stopping || has_work(); });
    if (stopping) return;
    const Plan current = plan;
    const std::int64_t number = next_to_make++;
    lock.unlock();
    Result result = try_to_make_batch(current, number);
    lock.lock();
    if (plan.serial != current.serial) continue;
    done.emplace(number, std::move(result));
    batch_done.notify_all();
  }
}

Loader::Loader(DatasetPtr dataset, Transform transform, LoaderOptions options)
    : state_(std::make_unique<State>(std::move(dataset), std::move(transform), std::move(options))) {
  state_->options.check(state_->dataset);
  State* state = state_.get();
  for (int i = 0; i < state->options.workers; ++i) state->workers.emplace_back([state] { state->work(); });
}

Loader::~Loader() = default;

std::int64_t Loader::batches_per_epoch() const { return state_->options.batches_per_epoch(state_->dataset->size()); }
const Dataset& Loader::dataset() const { return *state_->dataset; }
const LoaderOptions& Loader::options() const { return state_->options; }

void Loader::start(std::int64_t epoch, std::int64_t first_batch) {
  const std::int64_t batches = batches_per_epoch();
  check_start(epoch, first_batch, batches);
  auto order =
      std::make_shared<const std::vector<std::int64_t>>(sample_order(state_->options, state_->dataset->size(), epoch));
  {
    const std::lock_guard lock(state_->mutex);
    state_->plan = {state_->plan.serial + 1, epoch, batches, std::move(order)};
    state_->next_to_make = state_->next_to_give = first_batch;
    state_->done.clear();
  }
  state_->work_to_do.notify_all();
}

std::optional<Batch> Loader::next_into(const BatchPlace&) {
  std::unique_lock lock(state_->mutex);
  if (state_->next_to_give >= state_->plan.end) return std::nullopt;
  const std::int64_t number = state_->next_to_give++;
  Result result;
  if (state_->workers.empty()) {
    const Plan current = state_->plan;
    lock.unlock();
    result = state_->try_to_make_batch(current, number);
    lock.lock();
  } else {
    state_->work_to_do.notify_one();
    state_->batch_done.wait(lock, [&] { return state_->done.contains(number); });
    result = std::move(state_->done.extract(number).mapped());
  }
  if (!result.failure) return std::move(result.batch);
  ++state_->plan.serial;  // workers drop the batches that they are making
  state_->plan.end = 0;
  state_->done.clear();
  std::rethrow_exception(result.failure);
}

std::vector<std::string> Loader::bad_samples() const { return state_->bad.list(); }

}  // namespace vitrine
