// Which format a file has, folders with weights, and Google's files against timm's weights.
#include "weights/weight_files.h"

#include <gtest/gtest.h>

#include "models/hybrid.h"
#include "models/vit.h"
#include "tests/data/data_fixtures.h"
#include "tests/support/golden_model.h"
#include "tests/weights/file_bytes.h"
#include "weights/files/safetensors.h"
#include "weights/load_weights.h"
#include "weights/model_folder.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;
using vitrine::testing::TemporaryFolder;

// ---- What a file is ----

TEST(WeightFiles, WhatIsNoWeightsIsNamed) {
  struct Case {
    std::string bytes, says;
  };
  const TemporaryFolder folder;
  for (const auto& [bytes, says] : std::vector<Case>{
           {"", "is an empty file; download or save it again"},
           {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "is a Git LFS pointer"},
           {"\n <!DOCTYPE HTML><html>", "is a web page; download the file itself"},
           {"<html>", "is a web page"},
           {"<?xml version=\"1.0\"?><Error>", "is XML"},
           {zip_of({{"w/model.safetensors", "x"}}), "is a zip archive of 1 files, such as w/model.safetensors"},
           {"PK\3\4 and no end", "is a zip archive without its end: cut off"},
           {"\x1f\x8b\x08 more", "is packed by gzip; unpack it first"},
           {"\xfd"
            "7zXZ",
            "is packed by xz"},
           {"BZh9", "is packed by bzip2"},
           {"\x28\xb5\x2f\xfd more", "is packed by zstd"},
           {std::string(257, 'x') + "ustar  ", "is a tar archive"},
           {"\x80\x04}.", "is a Python pickle, but not of torch.save"},
           {"\x93NUMPY\1", "is one array of NumPy; expected an archive of named arrays, .npz"},
           {"\x89HDF\r\n", "is an HDF5 file"},
           {"GGUF\3", "is a GGUF file"},
           {"\x89PNG\r\n", "is a picture"},
           {"{\"architectures\": []}", "is JSON text; name the folder"},
           {std::string(100, '\0'), "is a file of zeros; its download was not finished"},
           {"Hello\nthere", "is no weights of a known format: its 11 bytes begin with \"Hello?there\""}}) {
    for (const char* name : {"model.safetensors", "w.pth"}) {
      const std::string text = error_of([&] { read_weight_file(write_bytes(folder / name, bytes)); });
      EXPECT_TRUE(text.starts_with((folder / name).string() + ": " + says)) << text;
      EXPECT_FALSE(contains(text, "\n")) << text;
    }
  }
}

TEST(WeightFiles, TheNameOfAFileDoesNotMatter) {
  const TemporaryFolder folder;
  for (const char* file : {"state.pth", "state_legacy.pth", "vit.npz", "expected.safetensors"}) {
    const auto renamed = write_bytes(folder / "model.safetensors", bytes_of_file(golden_file(file)));
    EXPECT_EQ(read_weight_file(renamed).tensors.size(), read_weight_file(golden_file(file)).tensors.size()) << file;
  }
}

TEST(WeightFiles, HalvesOfSafetensorsBecomeFloats) {
  const TemporaryFolder folder;
  std::string header =
      R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"I16","shape":[],"data_offsets":[4,6]}})";
  const std::string bytes = little_endian(std::uint64_t{header.size()}) + header +
                            little_endian<std::uint16_t>(0x3E00) + little_endian<std::uint16_t>(0xC100) +
                            little_endian<std::int16_t>(-7);
  const auto tensors = read_safetensors(write_bytes(folder / "half.safetensors", bytes));
  EXPECT_EQ(tensors.at("a").to_vector<float>(), (std::vector<float>{1.5f, -2.5f}));
  EXPECT_EQ(tensors.at("b").to_vector<std::int32_t>(), (std::vector<std::int32_t>{-7}));
}

// ---- Folders ----

TEST(WeightFiles, AFolderIsSearched) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(error_of([&] { read_weight_file(folder.path()); }),
                       "has no weights: expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, "
                       "pytorch_model.bin.index.json in it, found nothing"));
  write_bytes(folder / "tf_model.h5", "x");
  EXPECT_TRUE(contains(error_of([&] { read_weight_file(folder.path()); }), "found tf_model.h5"));
  write_bytes(folder / "pytorch_model.bin", bytes_of_file(golden_file("state_legacy.pth")));
  EXPECT_EQ(read_weight_file(folder.path()).tensors.size(), 17u);
  write_safetensors(folder / "model.safetensors", {{"a", ones({2})}});
  EXPECT_EQ(read_weight_file(folder.path()).tensors.size(), 1u);
}

TEST(WeightFiles, ALinkToNothingIsNamed) {
  const TemporaryFolder folder;
  fs::create_symlink("../../blobs/0123", folder / "model.safetensors");
  EXPECT_TRUE(contains(error_of([&] { read_weight_file(folder.path()); }),
                       "model.safetensors: is a link to ../../blobs/0123, which does not exist"));
}

std::string index_of(const std::string& map) {
  return R"({"metadata": {"total_size": 8}, "weight_map": {)" + map + "}}";
}

TEST(WeightFiles, SeveralFilesAreReadByTheirIndex) {
  const TemporaryFolder folder;
  const auto index = folder / "model.safetensors.index.json";
  write_safetensors(folder / "1.safetensors", {{"a", full({1}, 1)}, {"b", full({1}, 2)}});
  write_safetensors(folder / "2.safetensors", {{"c", full({1}, 3)}});
  write_bytes(index, index_of(R"("c": "2.safetensors", "a": "1.safetensors", "b": "1.safetensors")"));
  for (const fs::path& path : {folder.path(), index}) {
    const FileTensors file = read_weight_file(path);
    EXPECT_EQ(file.notes, (std::vector<std::string>{"read 3 tensors from 2 files"}));
    for (const auto& [name, tensor] : file.tensors) EXPECT_EQ(tensor.item(), 1.0 + (name[0] - 'a')) << name;
  }
  const auto refusal = [&](const std::string& map) {
    write_bytes(index, index_of(map));
    return error_of([&] { read_weight_file(index); });
  };
  EXPECT_TRUE(contains(refusal(R"("c": "2.safetensors", "x": "3.safetensors")"), "3.safetensors: does not exist"));
  EXPECT_TRUE(contains(refusal(R"("c": "2.safetensors", "x": "2.safetensors")"), "lacks x"));
  EXPECT_TRUE(contains(refusal(R"("a": "1.safetensors")"), "has b, which model.safetensors.index.json does not place"));
  EXPECT_TRUE(contains(refusal(R"("c": "../2.safetensors")"), "expected the name of one beside the index"));
  EXPECT_TRUE(
      contains(refusal(R"("c": "model.safetensors.index.json")"), "is an index of several files, expected one"));
  EXPECT_TRUE(contains(refusal(""), "has no weight_map"));
  write_bytes(folder / "1.bin", torch_zip_of(pickle_of("a", pickled_tensor("0", 1, {1}, {1})), little_endian(4.0f)));
  write_bytes(index, index_of(R"("a": "1.bin")"));
  EXPECT_EQ(read_weight_file(index).tensors[0].second.item(), 4);
}

TEST(WeightFiles, HuggingFacesCacheIsAPath) {
  const TemporaryFolder folder;
  const fs::path model = folder / "models--google--vit", snapshots = model / "snapshots";
  save_weights(
      snapshots / "0123",
      create_model("vit_tiny_patch4_32", {.num_classes = 3, .embed_dim = 12, .depth = 1, .num_heads = PerStage(3)}), {},
      {"a", "b", "c"});
  EXPECT_EQ(load_model(model).label_names.size(), 3u) << "the only one";
  fs::create_directories(snapshots / "4567");
  EXPECT_TRUE(contains(error_of([&] { load_model(model); }), "has 2 folders and no refs/main"));
  fs::create_directories(model / "refs");
  write_bytes(model / "refs" / "main", "0123\n");
  EXPECT_EQ(load_model(model).model.classes(), 3);
  EXPECT_EQ(preprocessing_of_weights(model, {.crop_pct = 0.1}).crop_pct, PretrainedConfig{}.crop_pct);
  write_bytes(model / "refs" / "main", "../../..");
  EXPECT_TRUE(contains(error_of([&] { load_model(model); }), "expected one of the folders in"));
}

TEST(WeightFiles, AFolderWhoseWeightsAreNaNIsNoModel) {
  const TemporaryFolder folder;
  Model model =
      create_model("vit_tiny_patch4_32", {.num_classes = 3, .embed_dim = 12, .depth = 1, .num_heads = PerStage(3)});
  for (auto& [name, tensor] : model.state_dict()) {
    if (name == "norm.bias") copy_into(tensor, full({12}, NAN));
  }
  save_weights(folder.path(), model, {}, {});
  EXPECT_EQ(error_of([&] { load_model(folder.path()); }),
            folder.path().string() + ": load_weights: norm.bias holds nan at element 0 of 12, expected finite numbers");
}

// ---- Google's files: make_weight_files.py checked that timm reads these weights from them ----

template <class M>
void compare_with_golden(const std::string& file, const std::string& golden, M model, const std::string& names) {
  SCOPED_TRACE(file);
  const auto expected = read_safetensors(source_dir() + "/tests/golden/" + golden);
  const WeightLoad load = load_weights(model, read_weights(golden_file(file)));
  EXPECT_TRUE(contains(load.notes.at(0), "under the names of " + names)) << load.notes.at(0);
  for (const auto& [name, tensor] : state_dict(model)) {
    const Tensor wanted = cast_data(cast_data(expected.at("param." + name), DType::f32), DType::f64);
    EXPECT_EQ(relative_error(tensor, wanted), 0) << name;
  }
  EXPECT_TRUE(relative_error(model(expected.at("images")), expected.at("logits")) <= 1e-5);
}

TEST(GoldenGoogle, WeightsAreThoseThatTimmReads) {
  const Initializer init(1, DType::f64);
  const ViTConfig vit{.image = 16, .patch = 4, .classes = 5, .dim = 24, .depth = 2, .heads = 3, .mlp_ratio = 2};
  compare_with_golden("vit.npz", "vit_small.safetensors", VisionTransformer::make(vit, init), "Google's ViT");
  compare_with_golden("big_vision.npz", "vit_small.safetensors", VisionTransformer::make(vit, init),
                      "Google's big_vision ViT");
  HybridConfig hybrid{.vit = {.image = 24, .patch = 8, .classes = 5, .dim = 16, .depth = 1, .heads = 2, .mlp_ratio = 2},
                      .depths = {2, 1},
                      .width = 8,
                      .groups = 4};
  compare_with_golden("hybrid_stages.npz", "hybrid_stages.safetensors", HybridVisionTransformer::make(hybrid, init),
                      "Google's hybrid");
  hybrid.depths = {};
  compare_with_golden("hybrid_stem.npz", "hybrid_stem.safetensors", HybridVisionTransformer::make(hybrid, init),
                      "Google's hybrid with a stem");
}

TEST(GoldenGoogle, WhatDoesNotFitIsNamedAsInTheFile) {
  const ViTConfig other{.image = 32, .patch = 4, .classes = 3, .dim = 24, .depth = 2, .heads = 3, .mlp_ratio = 2};
  auto model = VisionTransformer::make(other, Initializer(1));
  const StateDict weights = read_weights(golden_file("vit.npz"));
  const std::string text = error_of([&] { load_weights(model, weights); });
  EXPECT_TRUE(contains(text, "head/kernel has shape (24, 5), expected (24, 3)")) << text;
  EXPECT_TRUE(contains(text, "Transformer/posembed_input/pos_embedding has shape (1, 17, 24), expected (1, 65, 24)"));
  EXPECT_TRUE(load_weights(model, weights, {.strict = false}).report.clean());
}

}  // namespace
}  // namespace vitrine
