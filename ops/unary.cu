// Functions of one variable. Each is a functor, which runs on both devices, and a rule made of
// other ops.
//
// x, y and dy have one shape, any. A rule saves x or y, whichever its formula reads, nothing where
// it reads neither.
#include <cmath>

#include "ops/drivers/elementwise.h"
#include "ops/drivers/math.h"
#include "ops/ops.h"

namespace vitrine {
namespace {

/// y = f(x), with a rule that reads x.
template <class F>
Tensor unary_of_input(const char* op, const F& f, const Tensor& x,
                      Tensor (*gradient)(const Tensor& dy, const Tensor& x)) {
  return record(
      op, map_floating(op, f, x), {x},
      [x = Saved(x, op), gradient](const Tensor& dy, BackwardContext& context) { context.add(0, gradient(dy, *x)); });
}

/// y = f(x), with a rule that reads y.
template <class F>
Tensor unary_of_output(const char* op, const F& f, const Tensor& x,
                       Tensor (*gradient)(const Tensor& dy, const Tensor& y)) {
  const Tensor y = map_floating(op, f, x);
  return record(op, y, {x}, [y = Saved(y, op), gradient](const Tensor& dy, BackwardContext& context) {
    context.add(0, gradient(dy, context.output(y)));
  });
}

/// y = f(x), constant between its jumps.
template <class F>
Tensor unary_step(const char* op, const F& f, const Tensor& x) {
  return record(op, map_floating(op, f, x), {x}, [](const Tensor& dy, BackwardContext& context) {
    context.add(0, zeros(dy.shape(), dy.dtype(), dy.device()));
  });
}

}  // namespace

// ---- Signs ----

namespace {
struct Negate {
  template <class T>
  VT_HD T operator()(T x) const {
    return -x;
  }
};
struct Absolute {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::abs(x);
  }
};
struct Sign {
  template <class T>
  VT_HD T operator()(T x) const {
    return x > 0 ? T(1) : x < 0 ? T(-1) : x;  // 0 and NaN stay what they are
  }
};
}  // namespace

Tensor neg(const Tensor& x) {  // dx = -dy
  return record("neg", map_numeric("neg", Negate{}, x), {x},
                [](const Tensor& dy, BackwardContext& context) { context.add(0, neg(dy)); });
}

Tensor abs(const Tensor& x) {  // dx = dy sign(x)
  return unary_of_input("abs", Absolute{}, x, [](const Tensor& dy, const Tensor& saved) { return dy * sign(saved); });
}

Tensor sign(const Tensor& x) { return unary_step("sign", Sign{}, x); }

// ---- Exponentials and logarithms ----

namespace {
struct Exp {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::exp(x);
  }
};
struct Expm1 {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::expm1(x);
  }
};
struct Log {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::log(x);
  }
};
struct Log1p {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::log1p(x);
  }
};
}  // namespace

Tensor exp(const Tensor& x) {  // dx = dy y
  return unary_of_output("exp", Exp{}, x, [](const Tensor& dy, const Tensor& y) { return dy * y; });
}

Tensor expm1(const Tensor& x) {  // dx = dy (y + 1)
  return unary_of_output("expm1", Expm1{}, x, [](const Tensor& dy, const Tensor& y) { return dy * (y + 1.0); });
}

Tensor log(const Tensor& x) {  // dx = dy / x
  return unary_of_input("log", Log{}, x, [](const Tensor& dy, const Tensor& saved) { return dy / saved; });
}

Tensor log1p(const Tensor& x) {  // dx = dy / (1 + x)
  return unary_of_input("log1p", Log1p{}, x, [](const Tensor& dy, const Tensor& saved) { return dy / (saved + 1.0); });
}

// ---- Powers ----

namespace {
struct Sqrt {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::sqrt(x);
  }
};
struct Rsqrt {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::rsqrt(x);
  }
};
struct Reciprocal {
  template <class T>
  VT_HD T operator()(T x) const {
    return 1 / x;
  }
};
struct Square {
  template <class T>
  VT_HD T operator()(T x) const {
    return x * x;
  }
};
}  // namespace

Tensor sqrt(const Tensor& x) {  // dx = dy / (2 y)
  return unary_of_output("sqrt", Sqrt{}, x, [](const Tensor& dy, const Tensor& y) { return dy / (y * 2.0); });
}

Tensor rsqrt(const Tensor& x) {  // dx = -dy y^3 / 2
  return unary_of_output("rsqrt", Rsqrt{}, x,
                         [](const Tensor& dy, const Tensor& y) { return dy * (y * square(y)) * -0.5; });
}

Tensor reciprocal(const Tensor& x) {  // dx = -dy y^2
  return unary_of_output("reciprocal", Reciprocal{}, x,
                         [](const Tensor& dy, const Tensor& y) { return dy * neg(square(y)); });
}

Tensor square(const Tensor& x) {  // dx = 2 dy x
  return unary_of_input("square", Square{}, x,
                        [](const Tensor& dy, const Tensor& saved) { return dy * (saved * 2.0); });
}

// ---- Trigonometric functions ----

namespace {
struct Sin {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::sin(x);
  }
};
struct Cos {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::cos(x);
  }
};
}  // namespace

Tensor sin(const Tensor& x) {  // dx = dy cos x
  return unary_of_input("sin", Sin{}, x, [](const Tensor& dy, const Tensor& saved) { return dy * cos(saved); });
}

Tensor cos(const Tensor& x) {  // dx = -dy sin x
  return unary_of_input("cos", Cos{}, x, [](const Tensor& dy, const Tensor& saved) { return dy * neg(sin(saved)); });
}

// ---- Sigmoids and activations ----

namespace {
struct Tanh {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::tanh(x);
  }
};
struct Sigmoid {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::sigmoid(x);
  }
};
struct Silu {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::silu(x);
  }
};
struct Softplus {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::softplus(x);
  }
};
struct Erf {
  template <class T>
  VT_HD T operator()(T x) const {
    return math::erf(x);
  }
};
struct Relu {
  template <class T>
  VT_HD T operator()(T x) const {
    return x > 0 || x != x ? x : T(0);
  }
};
struct ReluSlope {
  template <class T>
  VT_HD T operator()(T x) const {
    return x > 0 ? T(1) : x == x ? T(0) : x;
  }
};
}  // namespace

Tensor tanh(const Tensor& x) {  // dx = dy (1 - y^2)
  return unary_of_output("tanh", Tanh{}, x, [](const Tensor& dy, const Tensor& y) { return dy * (1.0 - square(y)); });
}

Tensor sigmoid(const Tensor& x) {  // dx = dy y (1 - y)
  return unary_of_output("sigmoid", Sigmoid{}, x,
                         [](const Tensor& dy, const Tensor& y) { return dy * (y * (1.0 - y)); });
}

Tensor silu(const Tensor& x) {  // dx = dy s (1 + x (1 - s)), s = sigmoid(x)
  return unary_of_input("silu", Silu{}, x, [](const Tensor& dy, const Tensor& saved) {
    const Tensor s = sigmoid(saved);
    return dy * (s * (saved * (1.0 - s) + 1.0));
  });
}

Tensor softplus(const Tensor& x) {  // dx = dy sigmoid(x)
  return unary_of_input("softplus", Softplus{}, x,
                        [](const Tensor& dy, const Tensor& saved) { return dy * sigmoid(saved); });
}

Tensor relu(const Tensor& x) {  // dx = dy (x > 0)
  return unary_of_input("relu", Relu{}, x, [](const Tensor& dy, const Tensor& saved) {
    return dy * map_floating("relu", ReluSlope{}, saved);
  });
}

Tensor erf(const Tensor& x) {  // dx = dy 2/sqrt(pi) e^(-x^2)
  return unary_of_input("erf", Erf{}, x, [](const Tensor& dy, const Tensor& saved) {
    return dy * (exp(neg(square(saved))) * 1.12837916709551257390);
  });
}

// ---- Limits and whole numbers ----

namespace {
struct Clamp {
  double low, high;
  template <class T>
  VT_HD T operator()(T x) const {
    return math::clamp(x, static_cast<T>(low), static_cast<T>(high));
  }
};
struct ClampSlope {
  double low, high;
  template <class T>
  VT_HD T operator()(T x) const {
    return x >= static_cast<T>(low) && x <= static_cast<T>(high) ? T(1) : x == x ? T(0) : x;
  }
};
struct Floor {
  template <class T>
  VT_HD T operator()(T x) const {
    return std::floor(x);
  }
};
struct Ceil {
  template <class T>
  VT_HD T operator()(T x) const {
    return std::ceil(x);
  }
};
struct Round {
  template <class T>
  VT_HD T operator()(T x) const {
    return std::rint(x);  // the default rounding mode: half to even
  }
};
}  // namespace

Tensor clamp(const Tensor& x, double low, double high) {  // dx = dy (low <= x <= high)
  VT_CHECK(low <= high, "clamp: low is {} and high is {}, expected low <= high", low, high);
  return record("clamp", map_floating("clamp", Clamp{low, high}, x), {x},
                [low, high, x = Saved(x, "clamp")](const Tensor& dy, BackwardContext& context) {
                  context.add(0, dy * map_floating("clamp", ClampSlope{low, high}, *x));
                });
}

Tensor floor(const Tensor& x) { return unary_step("floor", Floor{}, x); }
Tensor ceil(const Tensor& x) { return unary_step("ceil", Ceil{}, x); }
Tensor round(const Tensor& x) { return unary_step("round", Round{}, x); }

}  // namespace vitrine
