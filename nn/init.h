// Initialisation: the distributions that new parameters are drawn from, and Initializer, which
// hands them to layers.
//
//   Initializer init(42);                        // seed
//   Linear layer = Linear::make(192, 10, init);
//
// Element i of a parameter depends on (seed, number of the parameter, i) alone, so it is the same
// for any number of threads.
#pragma once

#include <cstdint>

#include "autograd/parameter.h"
#include "tensor/philox.h"

namespace vitrine {

// ---- Filling a CPU tensor (row-major, f32 or f64) from one stream of random numbers ----

void fill_uniform(Tensor& x, double low, double high, Random random);
void fill_normal(Tensor& x, double mean, double deviation, Random random);
/// Normal with mean 0, redrawn outside [low, high]. The bounds are absolute, as timm and DeiT mean
/// them: with a deviation of 0.02 they lie 100 deviations out. (timm/layers/weight_init.py,
/// trunc_normal_.)
void fill_truncated_normal(Tensor& x, double deviation, Random random, double low = -2, double high = 2);

/// The distribution of the weight (out, in) and bias (out) of new Linear layers.
enum class LinearScheme {
  kaiming_uniform,   // both U(-1/sqrt(in), 1/sqrt(in)): PyTorch's default, kaiming_uniform with a = sqrt 5
  truncated_normal,  // weight N(0, 0.02^2), bias 0: timm, DeiT, Swin
  xavier_uniform,    // weight U(-b, b) with b = sqrt(6 / (in + out)), bias 0: Glorot and Bengio 2010, the code of ViT
};

/// Makes new parameters, one random stream each.
class Initializer {
 public:
  explicit Initializer(std::uint64_t seed, DType dtype = DType::f32) : generator_{seed, 0}, dtype_(dtype) {}

  /// Parameters with a shape but no memory to speak of: every element is the same zero. For
  /// counting and summaries.
  static Initializer shapes_only();

  LinearScheme linear_scheme = LinearScheme::kaiming_uniform;

  DType dtype() const { return dtype_; }

  Parameter constant(const Shape& shape, double value);
  Parameter uniform(const Shape& shape, double bound);  // U(-bound, bound)
  Parameter normal(const Shape& shape, double deviation);
  Parameter truncated_normal(const Shape& shape, double deviation);
  /// Deviation 1 / sqrt(fan_in), cut off at two deviations of the uncut normal: LeCun et al. 1998,
  /// as Flax draws it.
  Parameter lecun_normal(const Shape& shape, std::int64_t fan_in);
  Parameter linear_weight(std::int64_t out, std::int64_t in);
  Parameter linear_bias(std::int64_t out, std::int64_t in);

 private:
  template <class Fill>
  Parameter make(const Shape& shape, Fill&& fill);

  Generator generator_;
  DType dtype_;
  bool shapes_only_ = false;
};

}  // namespace vitrine
