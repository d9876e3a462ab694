// The recording of a step, and the copies that a replay needs before it.
#include "train/graph_step.h"

#include "tensor/device/allocator.h"

namespace vitrine {

Tensor GraphStep::replay(const MicroBatch& batch, Generator& generator,
                         const std::function<Tensor(const MicroBatch&, Generator&)>& step) {
  if (!graph_) {
    inputs_ = batch;
    random_base_ = zeros({1}, DType::i64, device_);
    Generator recorded{.seed = generator.seed,
                       .base = reinterpret_cast<const std::uint64_t*>(random_base_.data<std::int64_t>())};
    release_cached_memory(device_);  // the graph needs about as much for itself
    graph_.emplace(device_, [&] { result_ = step(inputs_, recorded); });
    draws_ = recorded.count;
  } else {
    const auto bring = [](Tensor& target, const Tensor& source) {
      if (source.raw_data() != target.raw_data()) copy_into(target, source);
    };
    bring(inputs_.images, batch.images);
    bring(inputs_.targets, batch.targets);
  }
  copy_into(random_base_, full({1}, static_cast<double>(generator.count), DType::i64));
  graph_->replay();
  generator.count += draws_;
  return result_;
}

}  // namespace vitrine
