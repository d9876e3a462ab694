// Losses on logits: cross entropy with class indices or soft targets, and binary cross entropy. Means over the batch.
#include <cmath>

#include "ops/composed.h"
#include "ops/elementwise.h"
#include "ops/lanes.h"
#include "ops/ops.h"
#include "ops/softmax_row.h"

namespace vitrine {
namespace {

constexpr std::int64_t elements_per_chunk = 1 << 14;

std::int64_t rows_per_chunk(std::int64_t K) { return std::clamp<std::int64_t>(elements_per_chunk / K, 1, 256); }

/// Where each row's logsumexp is kept between forward and backward: (B, 2) of max and log_total.
template <class C>
LogSumExp<C>* rows_of(const Tensor& statistics) {
  return static_cast<LogSumExp<C>*>(statistics.raw_data());
}

/// The mean of a row-major tensor of losses, as a 0-d tensor of T.
template <class T, class C = Compute<T>>
Tensor mean_loss(const Tensor& losses) {
  const C* loss = losses.data<C>();
  const C total = lane_sum<C>(losses.numel(), [&](auto i) { return loss[i]; });
  return full({}, static_cast<double>(total / static_cast<C>(losses.numel())), dtype_of<T>());
}

}  // namespace

// ---- cross_entropy: y = mean over B of -(1 - e) log p[label] - e/K sum log p; logits (B, K), labels (B) ----
//
// With z = x - max and L = ln sum e^z, log p = z - L, so a row's loss is L - (1 - e) z[label] - e/K sum z.
// dlogits = dy/B (p - (1 - e) [i = label] - e/K)

namespace {

template <class T, class C = Compute<T>>
void cross_entropy_cpu(const T* logits, const std::int64_t* labels, LogSumExp<C>* rows, C* losses, std::int64_t B,
                       std::int64_t K, double smoothing) {
  const C on_label = static_cast<C>(1 - smoothing), on_all = static_cast<C>(smoothing / static_cast<double>(K));
  parallel_for(B, rows_per_chunk(K), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const T* x = logits + b * K;
      const LogSumExp<C> row = log_sum_exp_row(x, K);
      C loss = row.log_total - on_label * (static_cast<C>(x[labels[b]]) - row.max);
      // Without smoothing this term is left out, because 0 times a masked logit of -infinity is NaN.
      if (on_all != 0) loss -= on_all * lane_sum<C>(K, [&](auto i) { return static_cast<C>(x[i]) - row.max; });
      rows[b] = row;
      losses[b] = loss;
    }
  });
}

template <class T, class C = Compute<T>>
void cross_entropy_backward_cpu(const T* logits, const std::int64_t* labels, const LogSumExp<C>* rows, T* dlogits,
                                std::int64_t B, std::int64_t K, double smoothing, double dy) {
  const C scale = static_cast<C>(dy / static_cast<double>(B));
  const C on_label = static_cast<C>(1 - smoothing), on_all = static_cast<C>(smoothing / static_cast<double>(K));
  parallel_for(B, rows_per_chunk(K), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const LogSumExp<C> row = rows[b];
      const T* __restrict x = logits + b * K;
      T* __restrict dx = dlogits + b * K;
      for (std::int64_t i = 0; i < K; ++i) {
        dx[i] = static_cast<T>(scale * (row.probability(static_cast<C>(x[i])) - on_all));
      }
      const C at_label = row.probability(static_cast<C>(x[labels[b]])) - on_all - on_label;
      dx[labels[b]] = static_cast<T>(scale * at_label);
    }
  });
}

void check_logits(const char* op, const Tensor& logits) {
  VT_CHECK(logits.dim() == 2 && logits.numel() > 0, "{}: logits have shape {}, expected (B, K) with B, K >= 1", op,
           to_string(logits.shape()));
  VT_CHECK(is_floating(logits.dtype()), "{}: logits are {}, expected f32, f64 or bf16", op, name_of(logits.dtype()));
  VT_CHECK(logits.device().is_cpu(), "{}: logits are on {}, expected cpu", op, to_string(logits.device()));
}

/// The labels as row-major i64 on the CPU, each in [0, K).
Tensor checked_labels(const char* op, const Tensor& labels, const Tensor& logits) {
  const std::int64_t B = logits.size(0), K = logits.size(1);
  VT_CHECK(labels.shape() == Shape{B}, "{}: labels have shape {}, expected ({}) = first dimension of logits {}", op,
           to_string(labels.shape()), B, to_string(logits.shape()));
  VT_CHECK(labels.dtype() == DType::i32 || labels.dtype() == DType::i64, "{}: labels are {}, expected i32 or i64", op,
           name_of(labels.dtype()));
  Tensor result = clone(cast_data(to_device(labels, cpu), DType::i64));
  const std::int64_t* label = result.data<std::int64_t>();
  for (std::int64_t b = 0; b < B; ++b) {
    VT_CHECK(label[b] >= 0 && label[b] < K, "{}: labels[{}] is {}, expected a class in [0, {})", op, b, label[b], K);
  }
  return result;
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing) {
  check_logits("cross_entropy", logits);
  VT_CHECK(smoothing >= 0 && smoothing <= 1, "cross_entropy: smoothing is {}, expected a number in [0, 1]", smoothing);
  const Tensor classes = checked_labels("cross_entropy", labels, logits);
  if (is_recording_twice()) return cross_entropy_composed(logits, classes, smoothing);
  const std::int64_t B = logits.size(0), K = logits.size(1);
  const Tensor x = contiguous_data(logits);
  Tensor y, statistics;
  dispatch_floating(x.dtype(), "cross_entropy", [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    statistics = empty({B, 2}, dtype_of<C>());
    Tensor losses = empty({B}, dtype_of<C>());
    cross_entropy_cpu<T>(x.data<T>(), classes.data<std::int64_t>(), rows_of<C>(statistics), losses.data<C>(), B, K,
                         smoothing);
    y = mean_loss<T>(losses);
  });
  const auto rule = [logits = Saved(logits, "cross_entropy"), classes, statistics, smoothing](const Tensor& dy,
                                                                                              Chain& chain) {
    const Tensor in = contiguous_data(*logits);
    Tensor dlogits = empty_like(in);
    dispatch_floating(in.dtype(), "cross_entropy", [&]<class T>(TypeTag<T>) {
      cross_entropy_backward_cpu<T>(in.data<T>(), classes.data<std::int64_t>(), rows_of<Compute<T>>(statistics),
                                    dlogits.data<T>(), in.size(0), in.size(1), smoothing, dy.item());
    });
    chain.add(0, dlogits);
  };
  return record("cross_entropy", y, {logits}, rule);
}

Tensor cross_entropy_composed(const Tensor& logits, const Tensor& labels, double smoothing) {
  const Tensor log_p = log_softmax_composed(logits, -1);
  const Tensor of_label = mean(gather(log_p, 1, unsqueeze(labels, 1))) * -(1 - smoothing);
  return smoothing == 0 ? of_label : of_label - mean(log_p) * smoothing;
}

// ---- soft_cross_entropy: y = mean over B of -sum(target log p); logits and targets (B, K) ----
//
// dlogits = dy/B (p sum(target) - target), dtargets = -dy/B log p

namespace {

template <class T, class C = Compute<T>>
void soft_cross_entropy_cpu(const T* logits, const T* targets, LogSumExp<C>* rows, C* losses, std::int64_t B,
                            std::int64_t K) {
  parallel_for(B, rows_per_chunk(K), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const T *x = logits + b * K, *t = targets + b * K;
      const LogSumExp<C> row = log_sum_exp_row(x, K);
      rows[b] = row;
      losses[b] =
          -lane_sum<C>(K, [&](auto i) { return static_cast<C>(t[i]) * row.log_probability(static_cast<C>(x[i])); });
    }
  });
}

/// dlogits and dtargets may be null.
template <class T, class C = Compute<T>>
void soft_cross_entropy_backward_cpu(const T* logits, const T* targets, const LogSumExp<C>* rows, T* dlogits,
                                     T* dtargets, std::int64_t B, std::int64_t K, double dy) {
  const C scale = static_cast<C>(dy / static_cast<double>(B));
  parallel_for(B, rows_per_chunk(K), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const LogSumExp<C> row = rows[b];
      const T *x = logits + b * K, *t = targets + b * K;
      if (T* __restrict dx = dlogits ? dlogits + b * K : nullptr) {
        const C total = lane_sum<C>(K, [&](auto i) { return static_cast<C>(t[i]); });
        for (std::int64_t i = 0; i < K; ++i) {
          dx[i] = static_cast<T>(scale * (row.probability(static_cast<C>(x[i])) * total - static_cast<C>(t[i])));
        }
      }
      if (T* __restrict dt = dtargets ? dtargets + b * K : nullptr) {
        for (std::int64_t i = 0; i < K; ++i) dt[i] = static_cast<T>(-scale * row.log_probability(static_cast<C>(x[i])));
      }
    }
  });
}

void check_targets(const char* op, const Tensor& logits, const Tensor& targets) {
  VT_CHECK(targets.shape() == logits.shape(), "{}: targets have shape {}, expected {} = shape of logits", op,
           to_string(targets.shape()), to_string(logits.shape()));
  check_operands(op, logits, targets);
}

}  // namespace

Tensor soft_cross_entropy(const Tensor& logits, const Tensor& targets) {
  const char* op = "soft_cross_entropy";
  check_logits(op, logits);
  check_targets(op, logits, targets);
  if (is_recording_twice()) return soft_cross_entropy_composed(logits, targets);
  const std::int64_t B = logits.size(0), K = logits.size(1);
  const Tensor x = contiguous_data(logits), t = contiguous_data(targets);
  Tensor y, statistics;
  dispatch_floating(x.dtype(), op, [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    statistics = empty({B, 2}, dtype_of<C>());
    Tensor losses = empty({B}, dtype_of<C>());
    soft_cross_entropy_cpu<T>(x.data<T>(), t.data<T>(), rows_of<C>(statistics), losses.data<C>(), B, K);
    y = mean_loss<T>(losses);
  });
  const auto rule = [logits = Saved(logits, op), targets = Saved(targets, op), statistics](const Tensor& dy,
                                                                                           Chain& chain) {
    const Tensor in = contiguous_data(*logits), target = contiguous_data(*targets);
    Tensor dlogits = chain.wants(0) ? empty_like(in) : Tensor(), dtargets = chain.wants(1) ? empty_like(in) : Tensor();
    dispatch_floating(in.dtype(), "soft_cross_entropy", [&]<class T>(TypeTag<T>) {
      soft_cross_entropy_backward_cpu<T>(
          in.data<T>(), target.data<T>(), rows_of<Compute<T>>(statistics), chain.wants(0) ? dlogits.data<T>() : nullptr,
          chain.wants(1) ? dtargets.data<T>() : nullptr, in.size(0), in.size(1), dy.item());
    });
    if (chain.wants(0)) chain.add(0, dlogits);
    if (chain.wants(1)) chain.add(1, dtargets);
  };
  return record(op, y, {logits, targets}, rule);
}

Tensor soft_cross_entropy_composed(const Tensor& logits, const Tensor& targets) {
  return sum(targets * log_softmax_composed(logits, -1)) * (-1.0 / static_cast<double>(logits.size(0)));
}

// ---- binary_cross_entropy: y = mean over all elements of max(x, 0) - x t + ln(1 + e^-|x|) ----
//
// dlogits = dy/n (sigmoid(x) - t), dtargets = -dy/n x

namespace {

struct BinaryLoss {
  template <class C>
  VT_HD C operator()(C x, C t) const {
    return (x > 0 ? x : C(0)) - x * t + math::log1p(math::exp(x > 0 ? -x : x));
  }
};

struct BinaryLossGradient {
  double scale;
  template <class C>
  VT_HD C operator()(C x, C t) const {
    return static_cast<C>(scale) * (math::sigmoid(x) - t);
  }
};

}  // namespace

Tensor binary_cross_entropy(const Tensor& logits, const Tensor& targets) {
  const char* op = "binary_cross_entropy";
  check_targets(op, logits, targets);
  VT_CHECK(logits.numel() > 0, "{}: logits have shape {}, expected at least one element", op,
           to_string(logits.shape()));
  if (is_recording_twice()) return binary_cross_entropy_composed(logits, targets);
  Tensor y;
  dispatch_floating(logits.dtype(), op, [&]<class T>(TypeTag<T>) {
    Tensor losses = empty(logits.shape(), dtype_of<Compute<T>>(), logits.device());
    map_into<Compute<T>, T, T>(BinaryLoss{}, losses, logits.detach(), targets.detach());
    y = cast(mean(losses), logits.dtype());
  });
  const auto rule = [logits = Saved(logits, op), targets = Saved(targets, op)](const Tensor& dy, Chain& chain) {
    const double scale = dy.item() / static_cast<double>(logits->numel());
    if (chain.wants(0)) {
      chain.add(0, map_floating("binary_cross_entropy", BinaryLossGradient{scale}, *logits, *targets));
    }
    if (chain.wants(1)) chain.add(1, mul(*logits, -scale));
  };
  return record(op, y, {logits, targets}, rule);
}

Tensor binary_cross_entropy_composed(const Tensor& logits, const Tensor& targets) {
  return mean(softplus(logits) - logits * targets);
}

}  // namespace vitrine
