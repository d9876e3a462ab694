// Muon: the matrices by products of the ops, what is done to each element by functors.
#include "optim/muon.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/ops.h"
#include "optim/fused_update.h"

namespace vitrine {
namespace {

constexpr std::size_t momentum_arena = 2;  // behind AdamW's two

/// One element: U, which is to be orthogonalised, g, the momentum.
template <class T>
struct MuonMomentum {
  T momentum, one_minus_momentum;
  bool nesterov;

  VT_HD void operator()(T& u, T g, T& m) const {
    m = momentum * m + one_minus_momentum * g;
    u = nesterov ? one_minus_momentum * g + momentum * m : m;
  }
};

/// One element: p, and the direction that U became. g is in U already.
template <class T>
struct MuonStep {
  T weight_decay_factor, step_size;  // 1 - lr weight_decay, lr adjust

  VT_HD void operator()(T& p, T /*g*/, T& direction) const { p = weight_decay_factor * p - step_size * direction; }
};

bool is_matrix(const Shape& shape) {
  if (shape.size() < 2 || shape[0] <= 1 || shape[1] <= 1) return false;
  const std::int64_t out = shape[0], in = element_count(shape) / out;
  const std::int64_t smaller = std::min(out, in), larger = std::max(out, in);
  return smaller >= 4 && larger <= 128 * smaller;
}

double adjustment(MuonOptions::AdjustLr rule, const Shape& matrix) {
  const auto out = static_cast<double>(matrix[0]), in = static_cast<double>(matrix[1]);
  if (rule == MuonOptions::AdjustLr::original) return std::sqrt(std::max(1.0, out / in));
  return 0.2 * std::sqrt(std::max(out, in));
}

}  // namespace

Tensor orthogonalize(const Tensor& x, int steps) {
  VT_CHECK(x.dim() == 2 && (x.dtype() == DType::f32 || x.dtype() == DType::f64),
           "orthogonalize: x is {} {}, expected f32 or f64 (m, n)", name_of(x.dtype()), to_string(x.shape()));
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315, least_norm = 1e-7;
  const bool is_tall = x.size(0) > x.size(1);  // x x^T is to be the smaller of the two products
  const Tensor norm = clamp(sqrt(sum(square(x))), least_norm, std::numeric_limits<double>::max());
  Tensor y = cast(x / norm, x.dtype() == DType::f32 ? DType::bf16 : x.dtype());
  if (is_tall) y = contiguous(transpose(y));
  for (int step = 0; step < steps; ++step) {  // y = (a + b y y^T + c (y y^T)^2) y
    const Tensor gram = matmul(y, transpose(y));
    y = a * y + matmul(b * gram + c * matmul(gram, gram), y);
  }
  return cast(contiguous(is_tall ? transpose(y) : y), x.dtype());
}

void MuonOptions::check() const {
  VT_CHECK(momentum >= 0 && momentum < 1, "muon: momentum is {}, expected [0, 1)", momentum);
  VT_CHECK(ns_steps >= 1, "muon: ns_steps is {}, expected 1 or more", ns_steps);
  VT_CHECK(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, "muon: betas are {} and {}, expected both in [0, 1)",
           beta1, beta2);
  VT_CHECK(epsilon >= 0, "muon: epsilon is {}, expected 0 or more", epsilon);
}

Muon::Split Muon::split(const std::vector<ParameterGroup>& groups, const MuonOptions& options) {
  Split result;
  std::vector<ParameterGroup> matrices;
  for (const ParameterGroup& group : groups) {
    ParameterGroup others = group;
    others.parameters.clear();
    for (const NamedParameter& p : group.parameters) {
      const bool by_muon =
          p.parameter && is_matrix(p.parameter->shape()) && !std::ranges::count(options.fallback_list, p.name);
      if (by_muon) {
        matrices.push_back(others);
        matrices.back().parameters = {p};
      } else {
        others.parameters.push_back(p);
      }
    }
    if (!others.parameters.empty()) result.groups.push_back(others);
  }
  result.first_matrix = result.groups.size();
  std::ranges::move(matrices, std::back_inserter(result.groups));
  return result;
}

Muon::Muon(const std::vector<ParameterGroup>& groups, const MuonOptions& options)
    : Muon(split(groups, options), options) {}

Muon::Muon(Split split, const MuonOptions& options)
    : Optimizer("muon", split.groups, options.learning_rate,
                {{.name = "first_moment", .end_group = split.first_matrix},
                 {.name = "second_moment", .end_group = split.first_matrix},
                 {.name = "momentum", .first_group = split.first_matrix}}),  // momentum_arena
      options_(options),
      first_matrix_(split.first_matrix) {
  options.check();
  for (std::size_t i = first_matrix_; i < split.groups.size(); ++i) {
    const Shape& shape = split.groups[i].parameters[0].parameter->shape();
    shapes_.push_back({shape[0], element_count(shape) / shape[0]});
  }
}

std::vector<ArenaSegment> Muon::of_adamw(const std::vector<ArenaSegment>& segments) const {
  const auto end = std::ranges::find_if(segments, [&](const ArenaSegment& s) { return s.group >= first_matrix_; });
  return {segments.begin(), end};
}

std::vector<ArenaSegment> Muon::of_muon(const std::vector<ArenaSegment>& segments) const {
  const auto begin = std::ranges::find_if(segments, [&](const ArenaSegment& s) { return s.group >= first_matrix_; });
  return {begin, segments.end()};
}

void Muon::prepare(const std::vector<ArenaSegment>& segments) {
  const AdamWOptions adamw{.beta1 = options_.beta1, .beta2 = options_.beta2, .epsilon = options_.epsilon};
  adamw_.prepare(adamw, of_adamw(segments), step_count(), arenas_);
  dispatch_arena(arenas_.parameters.dtype(), [&]<class T>(TypeTag<T>) {
    std::vector<MuonStep<T>> steps;
    for (const ArenaSegment& s : of_muon(segments)) {
      const double adjust = adjustment(options_.adjust_lr_fn, shapes_[s.group - first_matrix_]);
      steps.push_back({.weight_decay_factor = static_cast<T>(1 - s.learning_rate * s.weight_decay),
                       .step_size = static_cast<T>(s.learning_rate * adjust)});
    }
    const MuonMomentum<T> momentum{.momentum = static_cast<T>(options_.momentum),
                                   .one_minus_momentum = static_cast<T>(1 - options_.momentum),
                                   .nesterov = options_.nesterov};
    store_functors(std::vector{momentum}, arenas_.parameters.device(), momentum_functor_);
    store_functors(steps, arenas_.parameters.device(), step_functors_);
  });
}

void Muon::update(const std::vector<ArenaSegment>& segments) {
  adamw_(of_adamw(segments), arenas_);
  dispatch_arena(arenas_.parameters.dtype(), [&]<class T>(TypeTag<T>) { update_matrices<T>(of_muon(segments)); });
}

/// In a step that is skipped, both functors leave their arrays as they are: `u` stays 0, and the
/// direction is not applied. So a recorded graph needs no branch around the products.
template <class T>
void Muon::update_matrices(const std::vector<ArenaSegment>& matrices) {
  if (matrices.empty()) return;
  const Device device = arenas_.parameters.device();
  const double* statistics = std::as_const(arenas_.statistics).data<double>();
  const T* gradients = std::as_const(arenas_.gradients).data<T>();
  const auto* momentum = static_cast<const MuonMomentum<T>*>(momentum_functor_.raw_data());
  const auto* step = static_cast<const MuonStep<T>*>(step_functors_.raw_data());
  for (const ArenaSegment& s : matrices) {
    Tensor u = zeros(shapes_[s.group - first_matrix_], arenas_.parameters.dtype(), device);
    update_each(device, momentum, statistics, u.numel(), u.data<T>(), gradients + s.begin,
                arenas_.moments[momentum_arena].template at<T>(s.begin));
    Tensor direction = orthogonalize(u, options_.ns_steps);
    update_each(device, step++, statistics, u.numel(), arenas_.parameters.data<T>() + s.begin, gradients + s.begin,
                direction.data<T>());
  }
}

}  // namespace vitrine
