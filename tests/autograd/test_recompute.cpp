// Recomputation in backward: the same bits as without, less memory, and what it refuses.
#include <gtest/gtest.h>

#include "autograd/recompute.h"
#include "autograd/tape.h"
#include "models/registry.h"
#include "op_table/drivers.h"
#include "ops/ops.h"
#include "tensor/device/allocator.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"

namespace vitrine {
namespace {

struct Update {
  Tensor loss;
  StateDict gradients = {};
  std::uint64_t draws = 0;
  std::int64_t nodes = 0;
};

/// A training pass with dropout and drop path.
Update train_once(const Model& model, bool recompute, DType dtype) {
  const Device device = model.state_dict().front().second.device();
  const std::int64_t size = model.pretrained_config().input_size[1];
  const Tensor images = to_device(cast_data(test_values({4, 3, size, size}, 1), dtype), device);
  const Tensor targets =
      to_device(cast_data(full({4, model.classes()}, 1.0 / static_cast<double>(model.classes())), DType::f32), device);
  Generator generator{.seed = 3};
  Tape tape;
  Tensor logits;
  for (const Tensor& head :
       model.forward_heads(images, {.training = true, .generator = &generator, .recompute = recompute})) {
    logits = logits.defined() ? logits + head : head;
  }
  const Tensor loss = soft_cross_entropy(cast(logits, DType::f32), targets);
  Update update{.loss = loss.detach(), .draws = generator.count, .nodes = tape.size()};
  const Gradients gradients = tape.backward(loss);
  for (const auto& [name, parameter] : model.parameters()) update.gradients.emplace_back(name, gradients[*parameter]);
  return update;
}

/// For images of 32 pixels; patch_size 0 is the family's own.
Model small_model(const std::string& name, int patch_size = 0) {
  ModelOptions options{.num_classes = 5, .embed_dim = 24, .drop_rate = 0.1, .drop_path_rate = 0.3};
  if (patch_size > 0) options.patch_size = patch_size;
  if (name.starts_with("swin")) {
    options.depths = std::vector<int>{2, 2};
    options.num_heads = std::vector<int>{2, 4};
  } else {
    options.depth = 3;
    options.num_heads = 3;
  }
  return create_model(name, options);
}

void expect_the_same(const Update& plain, const Update& again) {
  EXPECT_TRUE(same_bits(plain.loss, again.loss));
  EXPECT_EQ(plain.draws, again.draws);
  EXPECT_GT(plain.nodes, 3 * again.nodes / 2);  // else nothing was left to be computed again
  for (std::size_t i = 0; i < plain.gradients.size(); ++i) {
    const auto& [name, gradient] = plain.gradients[i];
    ASSERT_TRUE(gradient.defined() && again.gradients[i].second.defined()) << name;
    EXPECT_TRUE(same_bits(gradient, again.gradients[i].second)) << name;
  }
}

constexpr const char* families[] = {"vit_tiny_patch4_32", "deit_tiny_distilled_patch4_32",
                                    "swin_tiny_patch2_window4_32"};

TEST(Recompute, GivesTheSameBitsInEveryFamily) {
  for (const char* name : families) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(fmt::format("{} {}", name, name_of(dtype)));
      const Model model = small_model(name);
      expect_the_same(train_once(model, false, dtype), train_once(model, true, dtype));
    }
  }
}

#if VT_CUDA
using RecomputeCuda = CudaTest;

TEST_F(RecomputeCuda, GivesTheSameBits) {
  for (const char* name : families) {
    SCOPED_TRACE(name);
    Model model = small_model(name, std::string_view(name).starts_with("swin") ? 4 : 8);
    model.move_to(cuda());
    expect_the_same(train_once(model, false, DType::bf16), train_once(model, true, DType::bf16));
  }
}
#endif

TEST(Recompute, TakesLessMemory) {
  const Model model =
      create_model("vit_tiny_patch4_32", {.num_classes = 5, .embed_dim = 48, .depth = 12, .num_heads = 3});
  const auto peak = [&](bool recompute) {
    reset_peak_memory(cpu);
    const std::size_t before = memory_statistics(cpu).in_use;
    train_once(model, recompute, DType::f32);
    return memory_statistics(cpu).peak - before;
  };
  const std::size_t plain = peak(false), again = peak(true);
  EXPECT_TRUE(again < plain / 2) << again << " instead of " << plain << " bytes";
}

/// y = x w, with a gradient for both.
struct Product {
  Parameter weight{test_values({3}, 1)};
  Recomputable f = [this](const Tensor& x, Generator*) { return x * weight; };
  Tensor operator()(const Tensor& x) const { return recompute(f, x, nullptr, {&weight}); }
};

TEST(Recompute, NoticesAChangeOfAParameterAndOfItsInput) {
  Product product;
  const Tensor x = test_values({3}, 2);
  {
    Tape tape;
    const Tensor loss = sum(product(x));
    fill(product.weight.value(), 2);
    EXPECT_TRUE(
        contains(error_of([&] { tape.backward(loss); }), "recompute: a tensor (3) that backward needs was changed"));
  }
  Tape tape;
  Tensor changed = clone(x);
  const Tensor loss = sum(product(tape.watch(changed)));
  fill(changed, 2);
  EXPECT_TRUE(
      contains(error_of([&] { tape.backward(loss); }), "recompute: a tensor (3) that backward needs was changed"));
}

TEST(Recompute, IsDifferentiableTwice) {
  const Product product;
  Tape outer;
  const Tensor x = outer.watch(test_values({3}, 2));
  Tape inner;
  const Tensor leaf = inner.watch(x);
  const Gradients first = inner.backward(sum(product(leaf) * product(leaf)));  // d/dx (x w)^2 = 2 x w^2
  const Gradients second = outer.backward(sum(first[leaf]));                   // d/dx = 2 w^2
  const Tensor expected = square(product.weight.value()) * 2.0;
  EXPECT_TRUE(relative_error(second[x], expected) <= 1e-12);
}

TEST(Recompute, WithoutATapeIsTheFunction) {
  const Product product;
  EXPECT_TRUE(same_bits(product(test_values({3}, 2)), test_values({3}, 2) * product.weight.value()));
}

}  // namespace
}  // namespace vitrine
