// The order of the packed tensor: the sum of the losses, the optimiser's statistics and, with a
// teacher, the agreement.
#include "train/step_result.h"

#include <cmath>

#include "autograd/tape.h"
#include "ops/ops.h"
#include "optim/arena/squared_norm.h"

namespace vitrine {
namespace {

constexpr std::size_t statistics_begin = 1, agreement_begin = 4;

void add_to(Tensor& sum, const Tensor& x) { sum = sum.defined() ? sum + x : x; }

}  // namespace

void StepSums::add(const Tensor& mean_loss, const Tensor& agreement, std::int64_t images) {
  const PauseRecording pause;
  add_to(loss_sum_, reshape(cast(mean_loss.detach(), DType::f64) * static_cast<double>(images), {1}));
  if (agreement.defined()) add_to(agreement_, agreement);
}

Tensor StepSums::pack(const Tensor& statistics) const {
  std::vector<Tensor> all{loss_sum_, statistics};
  if (agreement_.defined()) all.push_back(agreement_);
  return concat(all, 0);
}

StepResult PendingStepResult::get() const {
  const std::vector<double> packed = packed_.get();
  const auto statistic = [&](StepStatistic which) { return packed[statistics_begin + which]; };
  StepResult result{.images = images_,
                    .loss_sum = packed[0],
                    .gradient_norm = std::sqrt(statistic(gradient_norm_squared)),
                    .skipped = statistic(skipped_steps) != 0};
  std::size_t next = agreement_begin;
  if (packed.size() > next) {
    for (double* count : AgreementCounts::all(result.agreement)) *count = packed[next++];
  }
  return result;
}

}  // namespace vitrine
