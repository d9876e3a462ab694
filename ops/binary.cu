// Functions of two tensors that broadcast: arithmetic, maximum and minimum, where, comparisons and
// logic.
//
// Throughout, a and b have shapes that broadcast to the shape of y and dy (NumPy's rule). A
// gradient has the larger shape at first; sum_to adds it up along the dims that were broadcast.
#include <cmath>

#include "ops/drivers/elementwise.h"
#include "ops/drivers/math.h"
#include "ops/ops.h"

namespace vitrine {
namespace {

/// Whether the gradient of x will be asked for: what only that gradient needs is not saved
/// otherwise.
bool wanted(const Tensor& x) { return is_recording({&x}); }

/// `x` if the gradient of `other` will need it, else nothing.
Saved save_for(const Tensor& other, const Tensor& x, const char* op) { return Saved(wanted(other) ? x : Tensor(), op); }

Tensor scalar_like(const Tensor& x, double value) { return full({}, value, x.dtype(), x.device()); }

}  // namespace

// ---- y = a + b: da = dy, db = dy ----

namespace {
struct Add {
  template <class T>
  VT_HD T operator()(T a, T b) const {
    return a + b;
  }
};
}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  const Tensor y = map_numeric("add", Add{}, a, b);
  return record("add", y, {a, b}, [a = a.shape(), b = b.shape()](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, sum_to(dy, a));
    if (context.wants(1)) context.add(1, sum_to(dy, b));
  });
}

// ---- y = a - b: da = dy, db = -dy ----

namespace {
struct Subtract {
  template <class T>
  VT_HD T operator()(T a, T b) const {
    return a - b;
  }
};
}  // namespace

Tensor sub(const Tensor& a, const Tensor& b) {
  const Tensor y = map_numeric("sub", Subtract{}, a, b);
  return record("sub", y, {a, b}, [a = a.shape(), b = b.shape()](const Tensor& dy, BackwardContext& context) {
    if (context.wants(0)) context.add(0, sum_to(dy, a));
    if (context.wants(1)) context.add(1, neg(sum_to(dy, b)));
  });
}

// ---- y = a b: da = dy b, db = dy a ----

namespace {
struct Multiply {
  template <class T>
  VT_HD T operator()(T a, T b) const {
    return a * b;
  }
};
}  // namespace

Tensor mul(const Tensor& a, const Tensor& b) {
  const Tensor y = map_numeric("mul", Multiply{}, a, b);
  return record("mul", y, {a, b},
                [a_shape = a.shape(), b_shape = b.shape(), a = save_for(b, a, "mul"), b = save_for(a, b, "mul")](
                    const Tensor& dy, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, sum_to(mul(dy, *b), a_shape));
                  if (context.wants(1)) context.add(1, sum_to(mul(dy, *a), b_shape));
                });
}

// ---- y = a / b: da = dy / b, db = -(dy / b) (a / b) ----

namespace {
struct Divide {
  template <class T>
  VT_HD T operator()(T a, T b) const {
    return a / b;
  }
};
}  // namespace

Tensor div(const Tensor& a, const Tensor& b) {
  const Tensor y = map_floating("div", Divide{}, a, b);
  return record("div", y, {a, b},
                [a_shape = a.shape(), a = save_for(b, a, "div"), b = Saved(b, "div")](const Tensor& dy,
                                                                                      BackwardContext& context) {
                  const Tensor share = div(dy, *b);
                  if (context.wants(0)) context.add(0, sum_to(share, a_shape));
                  if (context.wants(1)) context.add(1, neg(sum_to(mul(share, div(*a, *b)), b->shape())));
                });
}

// ---- y = a^b for a >= 0: da = dy b a^(b-1) (0 where b = 0), db = dy y log a (0 where a = 0) ----

namespace {
struct Power {
  template <class T>
  VT_HD T operator()(T a, T b) const {
    return math::pow(a, b);
  }
};
}  // namespace

Tensor pow(const Tensor& a, const Tensor& b) {
  const Tensor y = map_floating("pow", Power{}, a, b);
  return record("pow", y, {a, b},
                [a = Saved(a, "pow"), b = Saved(b, "pow")](const Tensor& dy, BackwardContext& context) {
                  const Tensor zero = scalar_like(*a, 0);
                  if (context.wants(0)) {
                    const Tensor slope = mul(*b, pow(*a, add(*b, -1.0)));  // 0 * a^-1 is NaN at a = 0, hence the where
                    context.add(0, sum_to(mul(dy, where(equal(*b, zero), zero, slope)), a->shape()));
                  }
                  if (context.wants(1)) {
                    const Tensor slope = mul(pow(*a, *b), log(*a));
                    context.add(1, sum_to(mul(dy, where(equal(*a, zero), zero, slope)), b->shape()));
                  }
                });
}

// ---- y = max(a, b): dy goes to the larger, half to each at a tie; NaN wins. minimum: to the
// smaller ----

namespace {
struct Maximum {
  template <class T>
  VT_HD T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};
struct Minimum {
  template <class T>
  VT_HD T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};
/// The part of dy that a receives when y = max(a, b): 1, 1/2 or 0, and NaN where they do not
/// compare.
struct ShareOfLarger {
  template <class T>
  VT_HD T operator()(T a, T b) const {
    return a > b ? T(1) : a < b ? T(0) : a == b ? T(0.5) : a + b;
  }
};

Tensor share_of_larger(const Tensor& a, const Tensor& b) {
  return map_floating("maximum", ShareOfLarger{}, a, b);  // piecewise constant: no gradient to record
}
}  // namespace

Tensor maximum(const Tensor& a, const Tensor& b) {
  const Tensor y = map_floating("maximum", Maximum{}, a, b);
  return record("maximum", y, {a, b},
                [a = Saved(a, "maximum"), b = Saved(b, "maximum")](const Tensor& dy, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, sum_to(mul(dy, share_of_larger(*a, *b)), a->shape()));
                  if (context.wants(1)) context.add(1, sum_to(mul(dy, share_of_larger(*b, *a)), b->shape()));
                });
}

Tensor minimum(const Tensor& a, const Tensor& b) {
  const Tensor y = map_floating("minimum", Minimum{}, a, b);
  return record("minimum", y, {a, b},
                [a = Saved(a, "minimum"), b = Saved(b, "minimum")](const Tensor& dy, BackwardContext& context) {
                  if (context.wants(0)) context.add(0, sum_to(mul(dy, share_of_larger(*b, *a)), a->shape()));
                  if (context.wants(1)) context.add(1, sum_to(mul(dy, share_of_larger(*a, *b)), b->shape()));
                });
}

// ---- y = condition ? a : b: da = condition ? dy : 0, db = condition ? 0 : dy ----

namespace {
struct Choose {
  template <class T>
  VT_HD T operator()(bool condition, T a, T b) const {
    return condition ? a : b;
  }
};
}  // namespace

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check_operands("where", a, b);
  VT_CHECK(condition.defined() && condition.dtype() == DType::boolean,
           "where: condition of shape {} has dtype {}, expected bool", to_string(condition.shape()),
           name_of(condition.dtype()));
  VT_CHECK(condition.device() == a.device(), "where: condition is on {}, a and b are on {}, expected one device",
           to_string(condition.device()), to_string(a.device()));
  Tensor y = empty(broadcast_operands("where", condition, a, b), a.dtype(), a.device());
  dispatch_all(a.dtype(), "where", [&]<class T>(TypeTag<T>) { map_into<T, bool, T, T>(Choose{}, y, condition, a, b); });
  return record("where", y, {a, b},
                [a = a.shape(), b = b.shape(), condition = Saved(condition, "where")](const Tensor& dy,
                                                                                      BackwardContext& context) {
                  const Tensor zero = scalar_like(dy, 0);
                  if (context.wants(0)) context.add(0, sum_to(where(*condition, dy, zero), a));
                  if (context.wants(1)) context.add(1, sum_to(where(*condition, zero, dy), b));
                });
}

// ---- y = x + c: dx = dy. y = c x: dx = c dy. y = x^c: dx = c dy x^(c-1) ----

namespace {
struct AddScalar {
  double c;
  template <class T>
  VT_HD T operator()(T x) const {
    return x + static_cast<T>(c);
  }
};
struct MultiplyScalar {
  double c;
  template <class T>
  VT_HD T operator()(T x) const {
    return x * static_cast<T>(c);
  }
};
struct Square {
  template <class T>
  VT_HD T operator()(T x) const {
    return x * x;
  }
};
struct PowerScalar {
  double c;
  template <class T>
  VT_HD T operator()(T x) const {
    return math::pow(x, static_cast<T>(c));
  }
};

void check_scalar(const char* op, const Tensor& x, double c) {
  VT_CHECK(x.defined(), "{}: x is an undefined tensor", op);
  VT_CHECK(!is_integer(x.dtype()) || c == std::trunc(c), "{}: the scalar is {} and x is {}, expected a whole number",
           op, c, name_of(x.dtype()));
}
}  // namespace

Tensor add(const Tensor& x, double c) {
  check_scalar("add", x, c);
  const Tensor y = map_numeric("add", AddScalar{c}, x);
  return record("add", y, {x}, [](const Tensor& dy, BackwardContext& context) { context.add(0, dy); });
}

Tensor mul(const Tensor& x, double c) {
  check_scalar("mul", x, c);
  const Tensor y = map_numeric("mul", MultiplyScalar{c}, x);
  return record("mul", y, {x}, [c](const Tensor& dy, BackwardContext& context) { context.add(0, mul(dy, c)); });
}

Tensor pow(const Tensor& x, double c) {
  const Tensor y = c == 2 ? map_floating("pow", Square{}, x) : map_floating("pow", PowerScalar{c}, x);
  return record("pow", y, {x}, [c, x = Saved(x, "pow")](const Tensor& dy, BackwardContext& context) {
    const Tensor slope = c == 0 ? zeros_like(*x) : mul(pow(*x, c - 1), c);  // 0 x^-1 would be NaN at 0
    context.add(0, mul(dy, slope));
  });
}

// ---- Comparisons and logic: bool results, no gradient ----

namespace {
struct Equal {
  template <class T>
  VT_HD bool operator()(T a, T b) const {
    return a == b;
  }
};
struct NotEqual {
  template <class T>
  VT_HD bool operator()(T a, T b) const {
    return a != b;
  }
};
struct Less {
  template <class T>
  VT_HD bool operator()(T a, T b) const {
    return a < b;
  }
};
struct LessEqual {
  template <class T>
  VT_HD bool operator()(T a, T b) const {
    return a <= b;
  }
};
struct Greater {
  template <class T>
  VT_HD bool operator()(T a, T b) const {
    return a > b;
  }
};
struct GreaterEqual {
  template <class T>
  VT_HD bool operator()(T a, T b) const {
    return a >= b;
  }
};
struct And {
  VT_HD bool operator()(bool a, bool b) const { return a && b; }
};
struct Or {
  VT_HD bool operator()(bool a, bool b) const { return a || b; }
};
struct Not {
  VT_HD bool operator()(bool x) const { return !x; }
};

template <class F>
Tensor compare(const char* op, const F& f, const Tensor& a, const Tensor& b) {
  check_operands(op, a, b);
  Tensor y = empty(broadcast_shapes(a.shape(), b.shape(), op), DType::boolean, a.device());
  dispatch_all(a.dtype(), op, [&]<class T>(TypeTag<T>) { map_into<bool, T, T>(f, y, a, b); });
  return y;
}

template <class F, std::same_as<Tensor>... Rest>
Tensor map_logic(const char* op, const F& f, const Tensor& x, const Rest&... rest) {
  check_operands(op, x, rest...);
  VT_CHECK(x.dtype() == DType::boolean, "{}: dtype is {}, expected bool", op, name_of(x.dtype()));
  Tensor y = empty(broadcast_operands(op, x, rest...), DType::boolean, x.device());
  map_into<bool, bool, Always<bool, Rest>...>(f, y, x, rest...);
  return y;
}
}  // namespace

Tensor equal(const Tensor& a, const Tensor& b) { return compare("equal", Equal{}, a, b); }
Tensor not_equal(const Tensor& a, const Tensor& b) { return compare("not_equal", NotEqual{}, a, b); }
Tensor less(const Tensor& a, const Tensor& b) { return compare("less", Less{}, a, b); }
Tensor less_equal(const Tensor& a, const Tensor& b) { return compare("less_equal", LessEqual{}, a, b); }
Tensor greater(const Tensor& a, const Tensor& b) { return compare("greater", Greater{}, a, b); }
Tensor greater_equal(const Tensor& a, const Tensor& b) { return compare("greater_equal", GreaterEqual{}, a, b); }

Tensor logical_and(const Tensor& a, const Tensor& b) { return map_logic("logical_and", And{}, a, b); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return map_logic("logical_or", Or{}, a, b); }
Tensor logical_not(const Tensor& x) { return map_logic("logical_not", Not{}, x); }

}  // namespace vitrine
