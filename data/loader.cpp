// The loader: a queue of batches that worker threads fill in any order and next() empties in the epoch's order.
#include "data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "tensor/error.h"

namespace vitrine {

std::vector<std::int64_t> epoch_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  RandomSequence random(seed, Purpose::shuffle, static_cast<std::uint64_t>(epoch));
  for (std::int64_t i = size - 1; i > 0; --i) {
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(random.integer(i + 1))]);
  }
  return order;
}

namespace {

/// What a batch is made from. Workers hold a copy, so that a new epoch can start while they finish an old one.
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
      : dataset(std::move(samples)), transform(std::move(steps)), options(std::move(settings)) {}

  const DatasetPtr dataset;
  const Transform transform;
  const LoaderOptions options;

  mutable std::mutex mutex;
  std::condition_variable work_to_do, batch_done;
  bool stopping = false;
  Plan plan;
  std::int64_t next_to_make = 0, next_to_give = 0;  // numbers of batches
  std::map<std::int64_t, Result> done;
  std::map<std::int64_t, std::string> bad;  // index of a sample that could not be read, and why
  std::vector<std::jthread> workers;        // last: they end before the rest goes

  std::int64_t samples() const { return samples_per_epoch(dataset->size(), options.repeats); }  // of an epoch
  std::int64_t batches_per_epoch() const;
  bool abandoned(const Plan& current) const;
  void note_bad_sample(std::int64_t index, const std::string& reason);
  Sample read_sample(std::int64_t& index, const Plan& current);
  Batch make_batch(const Plan& current, std::int64_t number);
  Result try_to_make_batch(const Plan& current, std::int64_t number);
  void work();
};

std::int64_t Loader::State::batches_per_epoch() const {
  const std::int64_t size = samples(), batch_size = options.batch_size;
  return options.drop_last ? size / batch_size : (size + batch_size - 1) / batch_size;
}

/// Whether a batch of this plan is no longer wanted.
bool Loader::State::abandoned(const Plan& current) const {
  const std::lock_guard lock(mutex);
  return stopping || plan.serial != current.serial;
}

void Loader::State::note_bad_sample(std::int64_t index, const std::string& reason) {
  const std::lock_guard lock(mutex);
  bad.emplace(index, reason);
  if (static_cast<std::int64_t>(bad.size()) <= options.bad_samples_allowed) return;
  throw Error(options.bad_samples_allowed == 0 ? reason
                                               : fmt::format("{} (bad sample number {}, {} are allowed)", reason,
                                                             bad.size(), options.bad_samples_allowed));
}

/// Sample `index`, or the next one that can be read; `index` becomes that.
Sample Loader::State::read_sample(std::int64_t& index, const Plan& current) {
  for (std::int64_t attempt = 0; attempt < dataset->size(); ++attempt) {
    if (abandoned(current)) throw Error("loader: stopped");
    std::string reason;
    try {
      Sample sample = dataset->get(index);
      VT_CHECK(sample.label >= 0 && sample.label < dataset->num_classes(), "label {}, expected 0 to {}", sample.label,
               dataset->num_classes() - 1);
      return sample;
    } catch (const std::exception& failure) {
      reason = failure.what();
    }
    const std::string name = dataset->name(index);
    note_bad_sample(index, reason.starts_with(name) ? reason : name + ": " + reason);
    index = (index + 1) % dataset->size();
  }
  throw Error(fmt::format("loader: none of {} samples can be read", dataset->size()));
}

Batch Loader::State::make_batch(const Plan& current, std::int64_t number) {
  const std::int64_t first = number * options.batch_size;
  const std::int64_t count = std::min(options.batch_size, samples() - first);
  const std::int64_t side = transform.image_size;
  Batch batch;
  batch.epoch = current.epoch;
  batch.number = number;
  batch.images = empty({count, 3, side, side});
  batch.labels = empty({count}, DType::i64);
  float* image = batch.images.data<float>();
  std::int64_t* label = batch.labels.data<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i, image += 3 * side * side) {
    std::int64_t index = current.order ? (*current.order)[static_cast<std::size_t>(first + i)] : first + i;
    const Sample sample = read_sample(index, current);
    const std::int64_t repeat = (first + i) % options.repeats;  // of an image, which draws anew each time
    const std::uint64_t stream =
        static_cast<std::uint64_t>(current.epoch) << 32 | static_cast<std::uint64_t>(index + repeat * dataset->size());
    RandomSequence random(options.seed, Purpose::augmentation, stream);
    try {
      transform.apply(sample.image, random, image);
    } catch (const std::exception& failure) {
      throw Error(fmt::format("{}: {}", dataset->name(index), failure.what()));
    }
    label[i] = sample.label;
    batch.indices.push_back(index);
  }
  if (options.mixing) apply_mixing(*options.mixing, dataset->num_classes(), options.seed, batch);
  return batch;
}

Result Loader::State::try_to_make_batch(const Plan& current, std::int64_t number) {
  try {
    return {make_batch(current, number), nullptr};
  } catch (...) {
    return {{}, std::current_exception()};
  }
}

/// A worker's life: takes the number of the next batch while no more than `prefetch` are ahead, makes it, hands it in.
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
  const LoaderOptions& checked = state_->options;
  VT_CHECK(state_->dataset != nullptr && state_->dataset->size() > 0, "loader: the dataset has no samples");
  VT_CHECK(checked.batch_size >= 1, "loader: batch size is {}, expected 1 or more", checked.batch_size);
  VT_CHECK(checked.workers >= 0 && checked.workers <= 1024, "loader: {} workers, expected 0 to 1024", checked.workers);
  VT_CHECK(checked.prefetch >= 1, "loader: prefetch is {}, expected 1 or more", checked.prefetch);
  VT_CHECK(checked.shuffle || checked.repeats == 1, "loader: {} repeats without shuffling, expected 1",
           checked.repeats);
  VT_CHECK(checked.repeats >= 1 && checked.repeats <= 100, "loader: {} repeats of each image, expected 1 to 100",
           checked.repeats);
  VT_CHECK(checked.bad_samples_allowed >= 0, "loader: {} bad samples allowed, expected 0 or more",
           checked.bad_samples_allowed);
  VT_CHECK(state_->batches_per_epoch() > 0, "loader: batch size is {}, expected at most the {} samples of the dataset",
           checked.batch_size, state_->samples());
  if (checked.mixing) {
    checked.mixing->check();
    const std::int64_t last = checked.drop_last ? 0 : state_->samples() % checked.batch_size;
    VT_CHECK(!checked.mixing->mixes(0) || (checked.batch_size % 2 == 0 && last % 2 == 0),
             "loader: batch size is {} (the last batch: {}), expected even numbers for mixup and cutmix",
             checked.batch_size, last == 0 ? checked.batch_size : last);
  }
  State* state = state_.get();
  for (int i = 0; i < checked.workers; ++i) state->workers.emplace_back([state] { state->work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->work_to_do.notify_all();
}

std::int64_t Loader::batches_per_epoch() const { return state_->batches_per_epoch(); }
const Dataset& Loader::dataset() const { return *state_->dataset; }
const LoaderOptions& Loader::options() const { return state_->options; }

void Loader::start(std::int64_t epoch, std::int64_t first_batch) {
  const std::int64_t batches = batches_per_epoch();
  VT_CHECK(epoch >= 0 && first_batch >= 0 && first_batch <= batches,
           "loader: cannot start epoch {} at batch {}, expected epoch >= 0 and batch 0 to {}", epoch, first_batch,
           batches);
  const LoaderOptions& options = state_->options;
  std::shared_ptr<const std::vector<std::int64_t>> order;
  if (options.shuffle) {
    order = std::make_shared<const std::vector<std::int64_t>>(
        repeated_order(epoch_order(state_->dataset->size(), options.seed, epoch), options.repeats));
  }
  {
    const std::lock_guard lock(state_->mutex);
    state_->plan = {state_->plan.serial + 1, epoch, batches, std::move(order)};
    state_->next_to_make = state_->next_to_give = first_batch;
    state_->done.clear();
  }
  state_->work_to_do.notify_all();
}

std::optional<Batch> Loader::next() {
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
  ++state_->plan.serial;  // workers drop what they are at
  state_->plan.end = 0;
  state_->done.clear();
  std::rethrow_exception(result.failure);
}

std::vector<std::string> Loader::bad_samples() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<std::string> list;
  for (const auto& [index, reason] : state_->bad) list.push_back(reason);
  return list;
}

}  // namespace vitrine
