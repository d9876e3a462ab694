// The layers of convolutional networks, on images (B, C, H, W): convolution, normalisation and
// pooling.
//
// They follow the habits of nn/layers.h; names of parameters and buffers are PyTorch's, as in
// timm's checkpoints.
#pragma once

#include "nn/layers.h"

namespace vitrine {

/// Filters (O, C/groups, kernel, kernel) drawn from N(0, 2 / fan_out) with fan_out = kernel^2 O /
/// groups: He et al. 2015, "Delving deep into rectifiers", as timm starts its residual networks.
Parameter he_normal(const Shape& filters, Initializer& init, std::int64_t groups = 1);

/// y = x * weight + bias with square filters; see conv2d in ops/ops.h.
struct Conv2d {
  Parameter weight;               // (O, C/groups, kernel, kernel)
  std::optional<Parameter> bias;  // (O)
  std::int64_t stride = 1, padding = 0, groups = 1;

  static void fields(auto& self, auto&& field) {
    field("weight", self.weight);
    field("bias", self.bias);
    field("stride", self.stride);
    field("padding", self.padding);
    field("groups", self.groups);
  }

  struct Options {
    std::int64_t stride = 1, padding = 0, groups = 1;
    bool with_bias = true;
  };
  /// Starts as PyTorch's: weight and bias U(-1/sqrt(fan_in), 1/sqrt(fan_in)) with fan_in = C/groups
  /// kernel^2.
  static Conv2d make(std::int64_t in, std::int64_t out, std::int64_t kernel, Initializer& init, Options options);
  Tensor operator()(const Tensor& x) const;  // (B, C, H, W) -> (B, O, H', W')
};

/// Pads images (B, C, H, W) with `value` so that a kernel x kernel window with this stride fits
/// ceil(H / stride) times into H and ceil(W / stride) times into W: TensorFlow's padding "SAME". If
/// the total is odd, the bottom and the right get one pixel more.
Tensor pad_same(const Tensor& x, std::int64_t kernel, std::int64_t stride, double value = 0);

/// A convolution without bias whose filters are standardised on the way, with padding "SAME". Qiao
/// et al. 2019, "Micro-batch training with batch-channel normalization and weight standardization";
/// timm's StdConv2dSame.
struct StdConv2d {
  Parameter weight;  // (O, C, kernel, kernel); see standardize_weight in ops/ops.h
  std::int64_t stride = 1;
  double epsilon = 1e-8;

  static void fields(auto& self, auto&& field) {
    field("weight", self.weight);
    field("stride", self.stride);
    field("epsilon", self.epsilon);
  }
  /// Starts as PyTorch's Conv2d.
  static StdConv2d make(std::int64_t in, std::int64_t out, std::int64_t kernel, Initializer& init,
                        std::int64_t stride = 1, double epsilon = 1e-8);
  Tensor operator()(const Tensor& x) const;  // (B, C, H, W) -> (B, O, ceil(H / stride), ceil(W / stride))
};

/// Normalises each channel: in training over the batch, which also moves the running statistics,
/// else by these.
struct BatchNorm2d {
  Parameter weight, bias;            // (C), start at 1 and 0
  Buffer running_mean, running_var;  // (C), start at 0 and 1; f32, or f64 with parameters of f64
  Buffer num_batches_tracked;        // () i64: batches seen in training
  double momentum = 0.1, epsilon = 1e-5;

  static void fields(auto& self, auto&& field) {
    field("weight", self.weight);
    field("bias", self.bias);
    field("running_mean", self.running_mean);
    field("running_var", self.running_var);
    field("num_batches_tracked", self.num_batches_tracked);
    field("momentum", self.momentum);
    field("epsilon", self.epsilon);
  }
  static BatchNorm2d make(std::int64_t channels, Initializer& init, double epsilon = 1e-5);
  /// In training the buffers change, though the layer is const: they are handles, like all tensors.
  Tensor operator()(const Tensor& x, const Pass& pass) const;
};

/// Normalises each group of neighbouring channels of each image.
struct GroupNorm {
  Parameter weight, bias;  // (C), start at 1 and 0
  std::int64_t groups = 32;
  double epsilon = 1e-5;

  static void fields(auto& self, auto&& field) {
    field("weight", self.weight);
    field("bias", self.bias);
    field("groups", self.groups);
    field("epsilon", self.epsilon);
  }
  /// `channels` must be a multiple of `groups`.
  static GroupNorm make(std::int64_t channels, Initializer& init, std::int64_t groups = 32, double epsilon = 1e-5);
  Tensor operator()(const Tensor& x) const;
};

/// The largest number of each kernel x kernel window.
struct MaxPool2d {
  std::int64_t kernel = 3, stride = 2, padding = 1;

  static void fields(auto& self, auto&& field) {
    field("kernel", self.kernel);
    field("stride", self.stride);
    field("padding", self.padding);
  }
  Tensor operator()(const Tensor& x) const { return max_pool2d(x, kernel, stride, padding); }
};

}  // namespace vitrine
