// Files of PyTorch: values as torch.load gives them (tests/golden/make_weight_files.py), wrappers,
// and what is refused.
#include "weights/formats/torch_file.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/data/data_fixtures.h"
#include "tests/support/expectations.h"
#include "tests/weights/file_bytes.h"
#include "weights/files/safetensors.h"
#include "weights/weight_files.h"

namespace vitrine {
namespace {

using vitrine::testing::TemporaryFolder;

std::map<std::string, Tensor> expected_tensors(const std::string& prefix) {
  std::map<std::string, Tensor> expected;
  for (const auto& [name, tensor] : read_safetensors(golden_file("expected.safetensors"))) {
    if (name.starts_with(prefix)) expected.emplace(name.substr(prefix.size()), tensor);
  }
  return expected;
}

void expect_equal(const NamedTensors& tensors, const std::map<std::string, Tensor>& expected) {
  EXPECT_EQ(tensors.size(), expected.size());
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(expected.contains(name)) << name;
    EXPECT_EQ(tensor.shape(), expected.at(name).shape()) << name;
    EXPECT_TRUE(tensor.is_contiguous()) << name;
    const Tensor values = cast_data(tensor, DType::f64), wanted = cast_data(expected.at(name), DType::f64);
    EXPECT_EQ(values.to_vector<double>(), wanted.to_vector<double>()) << name;
  }
}

TEST(TorchFiles, ValuesAsPyTorch) {
  std::map<std::string, Tensor> expected = expected_tensors("state.");
  const FileTensors zip = read_torch_zip(golden_file("state.pth"));
  expect_equal(zip.tensors, expected);
  EXPECT_TRUE(zip.notes.empty());
  const std::map<std::string, Tensor> by_name(zip.tensors.begin(), zip.tensors.end());
  for (const auto& [name, dtype] : std::map<std::string, DType>{{"half", DType::f32},
                                                                {"brain", DType::bf16},
                                                                {"double", DType::f64},
                                                                {"long", DType::i64},
                                                                {"short", DType::i32},
                                                                {"byte", DType::u8},
                                                                {"bool", DType::boolean}}) {
    EXPECT_EQ(by_name.at(name).dtype(), dtype) << name;
  }
  expected.erase("unsigned_short");
  expect_equal(read_torch_legacy(golden_file("state_legacy.pth")).tensors, expected);
}

TEST(TorchFiles, EveryHalfIsItsFloat) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>((bits >> 10) & 31u);
    const double mantissa = static_cast<double>(bits & 0x3FFu) / 1024;
    double expected = exponent == 0 ? std::ldexp(mantissa, -14) : std::ldexp(1 + mantissa, exponent - 15);
    if (exponent == 31) expected = mantissa == 0 ? INFINITY : NAN;
    if ((bits & 0x8000u) != 0) expected = -expected;
    const double value = float_of_half(static_cast<std::uint16_t>(bits));
    const bool same =
        std::isnan(expected) ? std::isnan(value) : value == expected && std::signbit(value) == std::signbit(expected);
    ASSERT_TRUE(same) << bits << ": " << value << ", expected " << expected;
  }
}

TEST(TorchFiles, OfACheckpointTheAverageIsTaken) {
  const FileTensors file = read_weight_file(golden_file("checkpoint.pth.tar"));
  expect_equal(file.tensors, expected_tensors("average."));
  EXPECT_EQ(file.notes, (std::vector<std::string>{"took \"state_dict_ema\", one of epoch, arch, args, best, sizes, "
                                                  "state_dict, state_dict_ema, optimizer"}));
}

TEST(TorchFiles, WrappersAreOpened) {
  const TemporaryFolder folder;
  const auto path = folder / "w.pth";
  const std::string one = little_endian(1.5f), tensor = pickled_tensor("0", 1, {1}, {1});
  for (const char* wrapper : {"model", "state_dict", "module", "model_ema", "teacher", "model_state_dict"}) {
    const std::string inner = "}" + pickled_text("head.bias") + tensor + "s";
    write_bytes(path, torch_zip_of(pickle_of(wrapper, inner), one));
    const FileTensors file = read_torch_zip(path);
    ASSERT_EQ(file.tensors.size(), 1u) << wrapper;
    EXPECT_EQ(file.tensors[0].first, "head.bias");
    EXPECT_EQ(file.tensors[0].second.to_vector<float>(), (std::vector<float>{1.5f}));
    EXPECT_EQ(file.notes, (std::vector{fmt::format("took \"{0}\", one of {0}", wrapper)}));
    write_bytes(path, torch_zip_of(pickle_of("state_dict", "}" + pickled_text(wrapper) + inner + "s"), one));
    EXPECT_EQ(read_torch_zip(path).notes.size(), 2u) << wrapper;
  }
  write_bytes(path,
              torch_zip_of("\x80\x02}" + pickled_text("a") + tensor + "s" + pickled_text("epoch") + "K\3s.", one));
  EXPECT_EQ(read_torch_zip(path).notes, (std::vector<std::string>{"left out what is no tensor: epoch"}));
}

// Hugging Face's CvT has names of 133 bytes.
TEST(TorchFiles, NamesMayBeLong) {
  const TemporaryFolder folder;
  const std::string name = "cvt.encoder.stages.2.layers.9.attention.attention.convolution_projection_query." +
                           std::string("convolution_projection.normalization.num_batches_tracked");
  const std::string bytes = torch_zip_of(pickle_of(name, pickled_tensor("0", 1, {1}, {1})), little_endian(1.0f));
  EXPECT_EQ(read_torch_zip(write_bytes(folder / "w.pth", bytes)).tensors.at(0).first, name);
}

/// What reading the bytes as a file of torch.save says.
std::string refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  const auto path = folder / "refused.pth";
  const std::string text = error_of([&] { read_weight_file(write_bytes(path, bytes)); });
  EXPECT_TRUE(text.starts_with(path.string())) << text;
  EXPECT_FALSE(contains(text, "\n")) << text;
  return text.substr(std::min(text.size(), path.string().size()));
}

TEST(TorchFiles, NothingIsExecuted) {
  const std::string one = little_endian(1.0f), tensor = pickled_tensor("0", 1, {1}, {1});
  const std::string call = "cos\nsystem\n" + pickled_tuple({pickled_text("touch /tmp/vitrine-owned")}) + "R";
  EXPECT_TRUE(contains(refusal(torch_zip_of(pickle_of("a", call), one)),
                       "names the Python object os.system, which is neither tensor nor plain data"));
  const std::string by_stack = pickled_text("builtins") + pickled_text("eval") + "\x93)R";
  EXPECT_TRUE(contains(refusal(torch_zip_of(pickle_of("a", by_stack), one)), "builtins.eval"));
  EXPECT_TRUE(contains(refusal(torch_zip_of(pickle_of("a\nb", tensor), one)), "named a?b"));
  EXPECT_TRUE(contains(refusal(torch_zip_of(pickle_of(std::string(1001, 'a'), tensor), one)), "named aaa"));
  EXPECT_TRUE(contains(refusal(torch_zip_of(pickle_of("a", "cx\ny\nz\n"), one)), "x.y"));
  EXPECT_TRUE(contains(refusal(torch_zip_of("\x80\x02(I1\n.", one)), "pickle step 0x49"));
  EXPECT_TRUE(
      contains(refusal(torch_zip_of("\x80\x02" + tensor + ".", one)), "holds one tensor, expected a dictionary"));
  EXPECT_TRUE(contains(refusal(torch_zip_of("\x80\x02].", one)), "expected a dictionary"));
  EXPECT_TRUE(contains(refusal(torch_zip_of("\x80\x02}.", one)), "holds no tensors by name"));
  EXPECT_TRUE(contains(refusal(torch_zip_of("\x80\x02}\x85.", one)), "expected a dictionary"));
}

TEST(TorchFiles, PlacesOutsideTheStorageAreErrors) {
  const auto of = [](const std::string& tensor, const std::string& storage = little_endian(1.0f)) {
    return refusal(torch_zip_of(pickle_of("a", tensor), storage));
  };
  EXPECT_TRUE(contains(of(pickled_tensor("0", 1, {2}, {1})), "reaches element 1 of a storage of 1"));
  EXPECT_TRUE(contains(of(pickled_tensor("0", 1, {1}, {1}, 1)), "reaches element 1"));
  EXPECT_TRUE(contains(of(pickled_tensor("0", 1, {1}, {1}, -1)), "damaged"));
  EXPECT_TRUE(contains(of(pickled_tensor("0", 1, {-1}, {1})), "damaged"));
  EXPECT_TRUE(contains(of(pickled_tensor("0", 1, {1, 1}, {1})), "damaged"));
  EXPECT_TRUE(contains(of(pickled_tensor("0", 2, {2}, {1})), "storage 0 has 4 bytes, expected 8"));
  EXPECT_TRUE(contains(of(pickled_tensor("1", 1, {1}, {1})), "has no storage data/1"));
  EXPECT_TRUE(contains(of(pickled_tensor("0", 1, {std::int64_t{1} << 40}, {0})), "expanded tensors of this size"));
  const std::int64_t large = std::int64_t{1} << 47;
  EXPECT_TRUE(contains(of(pickled_tensor("0", 1, {large, large}, {0, 0})), "too large for memory"));
  EXPECT_TRUE(contains(of(pickled_tensor("0", 1, {2, 2}, {large, large})), "reaches element"));
  EXPECT_TRUE(contains(of(pickled_tensor("0", INT64_MAX, {1}, {1})), "too large for memory"));
  EXPECT_TRUE(contains(of(pickled_tensor("0", 1, std::vector<std::int64_t>(9, 1), std::vector<std::int64_t>(9, 1))),
                       "has 9 dims"));
}

TEST(TorchFiles, ArchivesMayBeDeflatedOrBeyondFourGigabytes) {
  const TemporaryFolder folder;
  const auto path = folder / "w.pth";
  const std::string pickle = pickle_of("a", pickled_tensor("0", 300, {300}, {1}));
  std::string numbers;
  for (int i = 0; i < 300; ++i) numbers += little_endian(static_cast<float>(i % 7));
  write_bytes(path, zip_of({{"a/data.pkl", pickle, true}, {"a/data/0", numbers, true}}));
  const std::vector<float> values = read_torch_zip(path).tensors.at(0).second.to_vector<float>();
  for (std::size_t i = 0; i < 300; ++i) EXPECT_EQ(values.at(i), static_cast<float>(i % 7));
  const std::string empty = pickle_of("a", pickled_tensor("0", 0, {0}, {1}));
  EXPECT_TRUE(contains(refusal(zip64_of("a/data.pkl", empty)), "has no storage data/0"));
  std::string damaged = zip64_of("a/data.pkl", empty);
  damaged.replace(damaged.find("PK\6\6") + 48, 8, 8, '\x7f');
  EXPECT_TRUE(contains(refusal(damaged), "cut off or damaged"));
}

TEST(TorchFiles, OtherArchivesAreNamed) {
  const std::string pickle = pickle_of("a", pickled_tensor("0", 1, {1}, {1})), one = little_endian(1.0f);
  EXPECT_TRUE(contains(refusal(zip_of({{"a/data.pkl", pickle}, {"a/constants.pkl", "x"}})), "TorchScript"));
  EXPECT_TRUE(contains(refusal(zip_of({{"a/data.pkl", pickle}, {"a/byteorder", "big"}})), "byte order \"big\""));
  EXPECT_TRUE(contains(refusal(zip_of({{"a/data.pkl", pickle}, {"b/data.pkl", pickle}})), "two pickles"));
  EXPECT_TRUE(contains(refusal(zip_of({{"a/data.pkl", pickle}, {"a/data.pkl", pickle}})), "in the archive twice"));
}

}  // namespace
}  // namespace vitrine
