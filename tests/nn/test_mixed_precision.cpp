// Mixed precision and other devices: the same training, with the losses of f32 on the CPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/vit.h"
#include "op_table/drivers.h"
#include "optim/adamw.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"
#include "tests/support/folder_test.h"
#include "train/trainer.h"

#if defined(VT_HOST_CUDA)
#include <cuda_runtime.h>
#endif

namespace vitrine {
namespace {

namespace fs = std::filesystem;

Tensor normal_values(const Shape& shape, std::uint64_t stream) {
  Tensor x = empty(shape, DType::f32);
  fill_normal(x, 0, 1, {3, Purpose::test, stream});
  return x;
}

TEST(MixedPrecision, LayerNormKeepsItsFactorsInF32) {
  const Tensor x = cast_data(normal_values({4, 32}, 1), DType::bf16);
  const Tensor weight = normal_values({32}, 4), bias = normal_values({32}, 5);
  Tape tape;
  const Tensor w = tape.watch(weight), b = tape.watch(bias);
  const Tensor y = layer_norm(x, w, b);
  EXPECT_EQ(y.dtype(), DType::bf16);
  const Gradients grads = tape.backward(sum(y));
  EXPECT_EQ(grads[w].dtype(), DType::f32);
  // The same as in f32, rounded once at the end; factors rounded to bf16 would change about half of
  // the elements.
  const Tensor expected = cast_data(layer_norm(cast_data(x, DType::f32), weight, bias), DType::bf16);
  EXPECT_LE(sum(cast(not_equal(y, expected), DType::f32)).item(), 2);
  EXPECT_THROW(layer_norm(cast_data(x, DType::f64), weight, bias), Error);
}

TEST(MixedPrecision, GradientsComeBackInF32) {
  auto model = VisionTransformer::make({.image = 8, .patch = 4, .classes = 5, .dim = 16, .depth = 2, .heads = 2},
                                       Initializer(1));
  const Tensor images = normal_values({4, 3, 8, 8}, 2), labels = cast_data(arange(4), DType::i64);
  const auto named = parameters(model);
  const auto gradients_in = [&](DType dtype) {
    Tape tape;
    const Gradients grads =
        tape.backward(cross_entropy(cast(model(cast(images, dtype), {.training = true}), DType::f32), labels));
    std::vector<Tensor> result;
    for (const NamedParameter& p : named) result.push_back(grads[*p.parameter]);
    return result;
  };
  const std::vector<Tensor> exact = gradients_in(DType::f32), mixed = gradients_in(DType::bf16);
  for (std::size_t i = 0; i < named.size(); ++i) {
    ASSERT_EQ(mixed[i].dtype(), DType::f32) << named[i].name;
    EXPECT_LT(relative_error(mixed[i], exact[i]), 0.06) << named[i].name;
  }
}

// ---- Weights that the optimiser keeps in bf16 as well ----

struct TwoLayers {
  Parameter first{normal_values({8, 8}, 11)}, bias{normal_values({8}, 12)}, second{normal_values({8, 8}, 13)};

  std::vector<NamedParameter> parameters() { return {{"first", &first}, {"bias", &bias}, {"second", &second}}; }
  Tensor loss(const Tensor& x) const {  // the first weight has two gradients in bf16, the second one in f32 as well
    const Tensor hidden = linear(tanh(linear(x, for_input(first, x), for_input(bias, x))), for_input(first, x));
    return sum(square(cast(linear(hidden, for_input(second, x)), DType::f32))) + sum(second) * 0.1;
  }
};

TEST(RoundedWeights, TrainToTheSameBits) {
  const Tensor x = cast_data(normal_values({4, 8}, 14), DType::bf16);
  const auto train = [&](bool keep) {
    TwoLayers model;
    AdamW optimizer({{.parameters = model.parameters()}}, {.learning_rate = 0.1});
    if (keep) optimizer.keep_bf16_copy();
    for (int step = 0; step < 4; ++step) {
      for (int part = 0; part < 2; ++part) {
        Tape tape;
        optimizer.accumulate(tape.backward(model.loss(x)), step % 2 == 0 ? 1 : 0.5);
      }
      optimizer.step();
      EXPECT_EQ(model.first.bf16_copy().defined(), keep);
      if (keep) {
        EXPECT_TRUE(same_bits(model.first.bf16_copy(), cast_data(model.first.value(), DType::bf16)));
      }
    }
    std::vector<Tensor> values;
    for (const NamedParameter& p : model.parameters()) values.push_back(clone(p.parameter->value()));
    return values;
  };
  const std::vector<Tensor> with = train(true), without = train(false);
  for (std::size_t i = 0; i < with.size(); ++i) EXPECT_TRUE(same_bits(with[i], without[i])) << i;
}

TEST(RoundedWeights, GradientsStayInBf16UntilTheyAreRead) {
  const Tensor x = cast_data(normal_values({4, 8}, 14), DType::bf16);
  TwoLayers model;
  AdamW optimizer({{.parameters = model.parameters()}}, {});
  for (const bool keep : {false, true}) {
    if (keep) optimizer.keep_bf16_copy();
    Tape tape;
    const Gradients gradients = tape.backward(model.loss(x));
    EXPECT_EQ(gradients.raw_gradient(model.bias).dtype(), DType::bf16);
    EXPECT_EQ(gradients.raw_gradient(model.first).dtype(), DType::f32) << "a sum of two";
    EXPECT_EQ(gradients.raw_gradient(model.second).dtype(), DType::f32) << "in f32 and bf16";
    for (const NamedParameter& p : model.parameters()) {
      EXPECT_EQ(gradients[*p.parameter].dtype(), DType::f32) << p.name;
      EXPECT_TRUE(same_bits(gradients[*p.parameter], cast_data(gradients.raw_gradient(*p.parameter), DType::f32)));
    }
  }
}

TEST(RoundedWeights, AreNotTakenWhereTheWeightHasChanged) {
  TwoLayers model;
  AdamW optimizer({{.parameters = model.parameters()}}, {});
  EXPECT_FALSE(model.first.bf16_copy().defined());
  optimizer.keep_bf16_copy();
  ASSERT_TRUE(model.first.bf16_copy().defined());
  TwoLayers copy = model;
  copy.first.value() = clone(model.first.value());
  const auto version = [](const Parameter& p) { return p.value().storage()->version(); };
  while (version(copy.first) < version(model.first)) copy.first.value().storage()->bump_version();
  ASSERT_EQ(version(copy.first), version(model.first));
  EXPECT_FALSE(copy.first.bf16_copy().defined()) << "a copy has elements of its own";
  copy.first = model.first;
  EXPECT_TRUE(copy.first.bf16_copy().defined()) << "they share the elements";
  fill(model.bias.value(), 2);  // the arena is one storage: whatever changes in it, all copies are in doubt
  EXPECT_FALSE(model.bias.bf16_copy().defined());
  const Tensor x = zeros({1, 8}, DType::bf16);
  EXPECT_EQ(cast_data(for_input(model.bias, x), DType::f32).to_vector<float>(), std::vector<float>(8, 2));
  Parameter alone(ones({2}));
  alone.set_bf16_copy(ones({2}, DType::bf16));
  alone.value() = Tensor();
  EXPECT_FALSE(alone.bf16_copy().defined());
}

TEST(RoundedWeights, NeedF32) {
  Parameter weight(zeros({2}, DType::f64));
  AdamW optimizer({{.parameters = {{"weight", &weight}}}}, {});
  EXPECT_THROW(optimizer.keep_bf16_copy(), Error);
}

// ---- Whole runs ----

struct Listener : TrainObserver {
  std::vector<double> losses;  // the mean of the epoch so far; on a GPU, as far as it is known
  double evaluation = NAN;
  std::vector<std::string> notes;
  std::function<void()> after_batch = [] {};

  void note(const std::string& line) override { notes.push_back(line); }
  void batch_done(const Progress& progress) override {
    losses.push_back(progress.loss);
    after_batch();
  }
  void epoch_done(const EpochSummary& summary, bool) override {
    losses.push_back(summary.train_loss);
    evaluation = summary.eval_loss;
  }
  bool should_stop() override { return false; }
};

class Modes : public FolderTest {
 protected:
  /// Trains 12 updates with noise, mixing and a moving average.
  Listener losses(const std::string& more, Listener listener = {}) const {
    Recipe recipe = parse_recipe(
        fmt::format("dataset: shapes\ntrain-num-samples: 48\nval-num-samples: 16\n{}batch-size: 4\nepochs: 1\n"
                    "warmup-epochs: 0\nlr: 2e-3\nmixup: 0.8\ndrop: 0.1\ndrop-path: 0.1\nclip-grad: 1\nmodel-ema: true\n"
                    "model-ema-decay: 0.9\nworkers: 0\noutput: {}\n{}",
                    model_, folder_.string(), more),
        "test recipe");
    Trainer(recipe, listener).run();
    return listener;
  }

  /// A GPU's losses are heard of one update later, but for the first.
  static void expect_close(const Listener& actual, const Listener& expected, double bound, std::size_t delay = 0) {
    ASSERT_EQ(actual.losses.size(), 13u);
    ASSERT_EQ(expected.losses.size(), 13u);
    for (std::size_t i = 0; i < 12; ++i) {
      const double loss = expected.losses[i < delay ? 0 : i - delay];
      EXPECT_NEAR(actual.losses[i], loss, bound * loss) << "update " << i;
    }
    EXPECT_NEAR(actual.losses[12], expected.losses[12], bound * expected.losses[12]);
    EXPECT_NEAR(actual.evaluation, expected.evaluation, bound * expected.evaluation);
  }
  std::string model_ =
      "model: vit_tiny_patch4_32\nmodel-kwargs: {patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}\n";
};

TEST_F(Modes, Bf16TrainsLikeF32) {
  const Listener exact = losses(""), mixed = losses("amp: true\n");
  expect_close(mixed, exact, 0.01);
  EXPECT_NE(mixed.losses, exact.losses);
}

#if VT_CUDA
TEST_F(Modes, CudaTrainsLikeTheCpu) {
  if (cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  const Listener exact = losses("");
  const Listener on_cuda = losses("device: cuda\n");
  expect_close(on_cuda, exact, 1e-4, 1);
  expect_close(losses("device: cuda\namp: true\n"), exact, 0.01, 1);
  // A replayed graph does what its kernels do when they are launched one by one.
  const Listener without_graph = losses("device: cuda\ncuda-graph: false\n");
  EXPECT_EQ(on_cuda.losses, without_graph.losses);
  EXPECT_EQ(on_cuda.evaluation, without_graph.evaluation);
}

// Bias tables, masks, shifts: with them too, an update is one graph.
TEST_F(Modes, SwinTrainsOnCudaLikeOnTheCpu) {
  if (cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  model_ =
      "model: swin_tiny_patch2_window4_32\nmodel-kwargs: {patch_size: 8, window_size: 2, embed_dim: 8, depths: \"2\", "
      "num_heads: \"1\", position: both}\n";
  const Listener on_cuda = losses("device: cuda\n");
  expect_close(on_cuda, losses(""), 1e-4, 1);
  const Listener without_graph = losses("device: cuda\ncuda-graph: false\n");
  EXPECT_EQ(on_cuda.losses, without_graph.losses);
  EXPECT_EQ(on_cuda.evaluation, without_graph.evaluation);
}

TEST_F(Modes, BatchesMadeOnTheGpuTrainLikeCopiedOnes) {
  if (cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  const auto has_note = [](const Listener& listener, const std::string& part) {
    return std::ranges::any_of(listener.notes, [&](const std::string& note) { return note.find(part) != note.npos; });
  };
  for (const std::string more : {"", "cuda-graph: false\ngrad-accum-steps: 2\n"}) {
    const std::string start = more + "device: cuda\nmax-steps: 5\n";
    const Listener made = losses(start), copied = losses(start + "device-data: off\n");
    EXPECT_TRUE(has_note(made, "train on, 48 kept on cuda:0 as bytes, 0.147 MB"));
    EXPECT_TRUE(has_note(made, "evaluate on, 16 kept on cuda:0 as bytes"));
    EXPECT_TRUE(has_note(copied, "train on, 48 prepared on the CPU and copied to cuda:0 (device-data is off)"));
    EXPECT_EQ(made.losses.size(), 5u);
    EXPECT_EQ(made.losses, copied.losses);
  }
  const Listener jittered = losses("device: cuda\ncolor-jitter: 0.1\nmax-steps: 1\n");
  EXPECT_TRUE(has_note(jittered, "copied to cuda:0 (colours are changed)"));
}
#endif

#if defined(VT_HOST_CUDA)
// Weights and their gradients change their precision many at once, not each in a launch of its own.
TEST_F(Modes, MixedPrecisionTakesAFewLaunchesMoreThanF32) {
  const auto launches_of_an_update = [&](const std::string& more) {
    std::vector<std::uint64_t> launches;
    Listener listener;
    listener.after_batch = [&] { launches.push_back(host_cuda::counters().launches); };
    losses("device: cuda\ncuda-graph: false\nmax-steps: 6\n" + more, listener);
    return launches.at(5) - launches.at(4);
  };
  const auto exact = launches_of_an_update(""), mixed = launches_of_an_update("amp: true\n");
  EXPECT_LE(mixed, exact + 6) << "f32 takes " << exact;
}

// The layer that plays the GPU counts what a real one would suffer from.
TEST_F(Modes, ASteadyUpdateNeitherAllocatesNorWaits) {
  for (const std::string data : {"auto", "off"}) {
    std::vector<host_cuda::Counters> counters;
    Listener listener;
    listener.after_batch = [&] { counters.push_back(host_cuda::counters()); };
    losses("device: cuda\namp: true\ndevice-data: " + data + "\nmax-steps: 9\n", listener);
    ASSERT_EQ(counters.size(), 9u);
    for (std::size_t i = 5; i < 9; ++i) {
      EXPECT_EQ(counters[i].allocations, counters[4].allocations) << "update " << i << ", device-data " << data;
      EXPECT_EQ(counters[i].synchronizations, counters[4].synchronizations) << "update " << i;
      EXPECT_EQ(counters[i].launches - counters[i - 1].launches, counters[4].launches - counters[3].launches);
    }
  }
}
#endif

}  // namespace
}  // namespace vitrine
