// Losses on logits: cross entropy with class indices or soft targets, and binary cross entropy.
#include "ops/composed.h"
#include "ops/drivers/elementwise.h"
#include "ops/drivers/lanes.h"
#include "ops/drivers/log_sum_exp.h"
#include "ops/drivers/warp_rows.h"
#include "ops/ops.h"

namespace vitrine {
namespace {

/// What the forward kernels write: each row's logsumexp, which backward reads, and each row's loss.
class RowResults {
 public:
  explicit RowResults(const Tensor& logits) {
    const DType dtype = logits.dtype() == DType::f64 ? DType::f64 : DType::f32;
    rows_ = empty({logits.size(0), 2}, dtype, logits.device());
    losses_ = empty({logits.size(0)}, dtype, logits.device());
  }
  template <class T>
  LogSumExp<Compute<T>>* rows() const {
    return static_cast<LogSumExp<Compute<T>>*>(rows_.raw_data());
  }
  template <class T>
  Compute<T>* losses() const {
    return static_cast<Compute<T>*>(losses_.raw_data());
  }
  Tensor mean_loss(DType dtype) const { return cast(mean(losses_), dtype); }

 private:
  Tensor rows_, losses_;
};

}  // namespace

// ---- cross_entropy: y = mean over B of -(1 - e) log p[label] - e/K sum log p ----
//
// logits x (B, K), labels (B), smoothing e, p = softmax(x). That is -sum(t log p) for the targets
// t[i] = (1 - e) [i = label] + e/K.

Tensor cross_entropy_composed(const Tensor& logits, const Tensor& labels, double smoothing) {
  const Tensor log_p = log_softmax_composed(logits, -1);
  const Tensor of_label = mean(gather(log_p, 1, unsqueeze(labels, 1))) * -(1 - smoothing);
  return smoothing == 0 ? of_label : of_label - mean(log_p) * smoothing;
}

// The fast code: with z = x - max and L = ln sum e^z, log p = z - L. The targets of a row add up to
// 1, so its loss is L - sum(t z) = L - (1 - e) z[label] - e/K sum z. The gradient: dL/dz = p, and
// sum(t z) is linear in z. A shift of the row changes nothing, so dx is dz. With the mean's 1/B:
//   dlogits = dy/B (p - t)
// Why: the loss falls until the probabilities are the targets; p - t is how far they are from them.

namespace {

/// The target distribution: `on_all` for every class, and `on_label` more for the label.
template <class C>
struct SmoothTarget {
  C on_label, on_all;
  SmoothTarget(double smoothing, std::int64_t K)
      : on_label(static_cast<C>(1 - smoothing)), on_all(static_cast<C>(smoothing / static_cast<double>(K))) {}
  /// The derivative of a row's loss by one logit, whose probability is p.
  VT_HD C slope(C p, bool is_label) const { return p - on_all - (is_label ? on_label : C(0)); }
};

template <class T, class C = Compute<T>>
void cross_entropy_cpu(const T* logits, const std::int64_t* labels, LogSumExp<C>* rows, C* losses, std::int64_t B,
                       std::int64_t K, SmoothTarget<C> target) {
  parallel_for(B, rows_per_chunk(K), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const T* x = logits + b * K;
      const LogSumExp<C> row = log_sum_exp_row(x, K);
      C loss = row.log_total - target.on_label * (static_cast<C>(x[labels[b]]) - row.max);
      // Not without smoothing: 0 times a masked logit of -infinity would be NaN.
      if (target.on_all != 0) {
        loss -= target.on_all * lane_sum<C>(K, [&](auto i) { return static_cast<C>(x[i]) - row.max; });
      }
      rows[b] = row;
      losses[b] = loss;
    }
  });
}

template <class T, class C = Compute<T>>
void cross_entropy_backward_cpu(const T* logits, const std::int64_t* labels, const LogSumExp<C>* rows, const T* dy,
                                T* dlogits, std::int64_t B, std::int64_t K, SmoothTarget<C> target) {
  const C scale = static_cast<C>(*dy) / static_cast<C>(B);
  parallel_for(B, rows_per_chunk(K), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const LogSumExp<C> row = rows[b];
      const T* __restrict x = logits + b * K;
      T* __restrict dx = dlogits + b * K;
      const std::int64_t label = labels[b];
      for (std::int64_t i = 0; i < K; ++i) {
        dx[i] = static_cast<T>(scale * target.slope(row.probability(static_cast<C>(x[i])), i == label));
      }
    }
  });
}

#if VT_CUDA
template <class T, class C = Compute<T>>
__global__ void cross_entropy_kernel(const T* logits, const std::int64_t* labels, LogSumExp<C>* rows, C* losses,
                                     std::int64_t B, std::int64_t K, SmoothTarget<C> target) {
  for_each_row_of_grid(B, [&](std::int64_t b) {
    const T* x = logits + b * K;
    const LogSumExp<C> row = warp_log_sum_exp(x, K);
    const auto z = [&](C value) { return value - row.max; };
    C loss = row.log_total - target.on_label * z(static_cast<C>(x[labels[b]]));
    if (target.on_all != 0) loss -= target.on_all * warp_sum_of(K, z, x);
    if (threadIdx.x != 0) return;
    rows[b] = row;
    losses[b] = loss;
  });
}

template <class T, class C = Compute<T>>
__global__ void cross_entropy_backward_kernel(const T* logits, const std::int64_t* labels, const LogSumExp<C>* rows,
                                              const T* dy, T* dlogits, std::int64_t B, std::int64_t K,
                                              SmoothTarget<C> target) {
  const C scale = static_cast<C>(*dy) / static_cast<C>(B);
  for_each_row_of_grid(B, [&](std::int64_t b) {
    const LogSumExp<C> row = rows[b];
    const auto gradient = [&, label = labels[b]](std::int64_t i, C value) {
      return scale * target.slope(row.probability(value), i == label);
    };
    warp_map(K, dlogits + b * K, gradient, logits + b * K);
  });
}
#endif

void check_logits(const char* op, const Tensor& logits) {
  VT_CHECK(logits.dim() == 2 && logits.numel() > 0, "{}: logits have shape {}, expected (B, K) with B, K >= 1", op,
           to_string(logits.shape()));
  VT_CHECK(is_floating(logits.dtype()), "{}: logits are {}, expected f32, f64 or bf16", op, name_of(logits.dtype()));
}

/// The labels as row-major i64 on the device of the logits, each in [0, K). They are checked on the
/// host: labels that are on the CPU to begin with save a wait for the device.
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
  return to_device(result, logits.device());
}

Tensor cross_entropy_backward(const Tensor& logits, const Tensor& classes, const RowResults& results, const Tensor& dy,
                              double smoothing) {
  Tensor dlogits = empty_like(logits);
  const std::int64_t B = logits.size(0), K = logits.size(1);
  dispatch_floating(logits.dtype(), "cross_entropy", [&]<class T>(TypeTag<T>) {
    const auto run = [&](const auto& kernel) {
      kernel(logits.data<T>(), classes.data<std::int64_t>(), results.rows<T>(), dy.data<T>(), dlogits.data<T>(), B, K,
             SmoothTarget<Compute<T>>(smoothing, K));
    };
#if VT_CUDA
    if (dy.device().is_cuda()) return run([&](auto... a) { launch_rows(cross_entropy_backward_kernel<T>, B, a...); });
#endif
    run(cross_entropy_backward_cpu<T>);
  });
  return dlogits;
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing) {
  check_logits("cross_entropy", logits);
  VT_CHECK(smoothing >= 0 && smoothing <= 1, "cross_entropy: smoothing is {}, expected a number in [0, 1]", smoothing);
  const Tensor classes = checked_labels("cross_entropy", labels, logits);
  if (is_recording_twice()) return cross_entropy_composed(logits, classes, smoothing);
  const std::int64_t B = logits.size(0), K = logits.size(1);
  const Tensor x = contiguous_data(logits);
  const RowResults results(x);
  dispatch_floating(x.dtype(), "cross_entropy", [&]<class T>(TypeTag<T>) {
    const auto run = [&](const auto& kernel) {
      kernel(x.data<T>(), classes.data<std::int64_t>(), results.rows<T>(), results.losses<T>(), B, K,
             SmoothTarget<Compute<T>>(smoothing, K));
    };
#if VT_CUDA
    if (x.device().is_cuda()) return run([&](auto... a) { launch_rows(cross_entropy_kernel<T>, B, a...); });
#endif
    run(cross_entropy_cpu<T>);
  });
  return record("cross_entropy", results.mean_loss(x.dtype()), {logits},
                [logits = Saved(logits, "cross_entropy"), classes, results, smoothing](const Tensor& dy,
                                                                                       BackwardContext& context) {
                  context.add(0, cross_entropy_backward(contiguous_data(*logits), classes, results, dy, smoothing));
                });
}

// ---- soft_cross_entropy: y = mean over B of -sum(t log p); logits x and targets t (B, K) ----

Tensor soft_cross_entropy_composed(const Tensor& logits, const Tensor& targets) {
  return sum(targets * log_softmax_composed(logits, -1)) * (-1.0 / static_cast<double>(logits.size(0)));
}

// The gradient: with log p = x - ln sum e^x, a row's loss is sum(t) ln sum e^x - sum(t x), and
//   dlogits = dy/B (p sum(t) - t),  dtargets = -dy/B log p
// Why: as above, but nothing says that targets add up to 1, and they may be learned too.

namespace {

/// target log p; a target of 0 does not ask for p, which may be 0 where a class is masked by -inf.
template <class C, class T>
VT_HD C weighted(T target, C log_p) {
  const C t = static_cast<C>(target);
  return t == 0 ? C(0) : t * log_p;
}

template <class T, class C = Compute<T>>
void soft_cross_entropy_cpu(const T* logits, const T* targets, LogSumExp<C>* rows, C* losses, std::int64_t B,
                            std::int64_t K) {
  parallel_for(B, rows_per_chunk(K), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const T *x = logits + b * K, *t = targets + b * K;
      const LogSumExp<C> row = log_sum_exp_row(x, K);
      rows[b] = row;
      losses[b] = -lane_sum<C>(K, [&](auto i) { return weighted(t[i], row.log_probability(static_cast<C>(x[i]))); });
    }
  });
}

/// dlogits and dtargets may be null.
template <class T, class C = Compute<T>>
void soft_cross_entropy_backward_cpu(const T* logits, const T* targets, const LogSumExp<C>* rows, const T* dy,
                                     T* dlogits, T* dtargets, std::int64_t B, std::int64_t K) {
  const C scale = static_cast<C>(*dy) / static_cast<C>(B);
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

#if VT_CUDA
template <class T, class C = Compute<T>>
__global__ void soft_cross_entropy_kernel(const T* logits, const T* targets, LogSumExp<C>* rows, C* losses,
                                          std::int64_t B, std::int64_t K) {
  for_each_row_of_grid(B, [&](std::int64_t b) {
    const T *x = logits + b * K, *t = targets + b * K;
    const LogSumExp<C> row = warp_log_sum_exp(x, K);
    const auto term = [&](C value, C target) { return weighted(target, row.log_probability(value)); };
    const C sum = warp_sum_of(K, term, x, t);
    if (threadIdx.x != 0) return;
    rows[b] = row;
    losses[b] = -sum;
  });
}

template <class T, class C = Compute<T>>
__global__ void soft_cross_entropy_backward_kernel(const T* logits, const T* targets, const LogSumExp<C>* rows,
                                                   const T* dy, T* dlogits, T* dtargets, std::int64_t B,
                                                   std::int64_t K) {
  const C scale = static_cast<C>(*dy) / static_cast<C>(B);
  for_each_row_of_grid(B, [&](std::int64_t b) {
    const LogSumExp<C> row = rows[b];
    const T *x = logits + b * K, *t = targets + b * K;
    const C total = warp_sum_of(
        K, [](C target) { return target; }, t);
    const auto gradient = [&](std::int64_t, C value, C target) {
      return scale * (row.probability(value) * total - target);
    };
    const auto target_gradient = [&](std::int64_t, C value) { return -scale * row.log_probability(value); };
    if (dlogits) warp_map(K, dlogits + b * K, gradient, x, t);
    if (dtargets) warp_map(K, dtargets + b * K, target_gradient, x);
  });
}
#endif

/// Adds the gradients that are wanted.
void soft_cross_entropy_backward(const Tensor& logits, const Tensor& targets, const RowResults& results,
                                 const Tensor& dy, BackwardContext& context) {
  const std::int64_t B = logits.size(0), K = logits.size(1);
  Tensor gradients[2];
  for (int input = 0; input < 2; ++input) {
    if (context.wants(input)) gradients[input] = empty_like(logits);
  }
  dispatch_floating(logits.dtype(), "soft_cross_entropy", [&]<class T>(TypeTag<T>) {
    const auto pointer = [](Tensor& x) { return x.defined() ? x.data<T>() : nullptr; };
    const auto run = [&](const auto& kernel) {
      kernel(logits.data<T>(), targets.data<T>(), results.rows<T>(), dy.data<T>(), pointer(gradients[0]),
             pointer(gradients[1]), B, K);
    };
#if VT_CUDA
    if (dy.device().is_cuda()) {
      return run([&](auto... a) { launch_rows(soft_cross_entropy_backward_kernel<T>, B, a...); });
    }
#endif
    run(soft_cross_entropy_backward_cpu<T>);
  });
  for (int input = 0; input < 2; ++input) {
    if (context.wants(input)) context.add(input, gradients[input]);
  }
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
  const RowResults results(x);
  dispatch_floating(x.dtype(), op, [&]<class T>(TypeTag<T>) {
    const auto run = [&](const auto& kernel) {
      kernel(x.data<T>(), t.data<T>(), results.rows<T>(), results.losses<T>(), B, K);
    };
#if VT_CUDA
    if (x.device().is_cuda()) return run([&](auto... a) { launch_rows(soft_cross_entropy_kernel<T>, B, a...); });
#endif
    run(soft_cross_entropy_cpu<T>);
  });
  return record(
      op, results.mean_loss(x.dtype()), {logits, targets},
      [logits = Saved(logits, op), targets = Saved(targets, op), results](const Tensor& dy, BackwardContext& context) {
        soft_cross_entropy_backward(contiguous_data(*logits), contiguous_data(*targets), results, dy, context);
      });
}

// ---- binary_cross_entropy: y = mean over all n elements of -t log p - (1 - t) log(1 - p) ----
//
// logits x and targets t of one shape, p = sigmoid(x). With log p = x - softplus(x) and
// log(1 - p) = -softplus(x), a loss is softplus(x) - x t.

Tensor binary_cross_entropy_composed(const Tensor& logits, const Tensor& targets) {
  return mean(softplus(logits) - logits * targets);
}

// The fast code: softplus(x) = max(x, 0) + ln(1 + e^-|x|), where nothing overflows. The gradient:
// its slope is sigmoid(x), and x t is linear in both, so
//   dlogits = dy/n (sigmoid(x) - t),  dtargets = -dy/n x
// Why: p - t once more; each element is a choice between two classes.

namespace {

struct BinaryLoss {
  template <class C>
  VT_HD C operator()(C x, C t) const {
    return (x > 0 ? x : C(0)) - (t == 0 ? C(0) : x * t) + math::log1p(math::exp(x > 0 ? -x : x));
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
  const auto rule = [logits = Saved(logits, op), targets = Saved(targets, op)](const Tensor& dy,
                                                                               BackwardContext& context) {
    const double scale = 1 / static_cast<double>(logits->numel());
    if (context.wants(0)) {
      context.add(0, map_floating("binary_cross_entropy", BinaryLossGradient{scale}, *logits, *targets) * dy);
    }
    if (context.wants(1)) context.add(1, *logits * (dy * -scale));
  };
  return record(op, y, {logits, targets}, rule);
}

}  // namespace vitrine
