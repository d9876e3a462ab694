// Golden files of ops: the loop over their cases, and the comparison of a value and its gradients.
#pragma once

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "autograd/tape.h"
#include "tests/support/expectations.h"
#include "tests/support/source_dir.h"
#include "weights/files/safetensors.h"

namespace vitrine {

/// check(file, "op.case", its entry of `ops`, its options) for every case of the files. Each op
/// must have a case.
template <class Ops, class Check>
void for_each_golden_case(const std::vector<std::string>& files, const Ops& ops, const Check& check) {
  std::set<std::string> seen;
  for (const std::string& name_of_file : files) {
    const SafetensorsReader file(source_dir() + "/tests/golden/" + name_of_file);
    for (const auto& [name, options] : file.metadata()) {
      if (name == "torch") continue;  // the version
      SCOPED_TRACE(name);
      const std::string op = name.substr(0, name.find('.'));
      ASSERT_TRUE(ops.contains(op)) << "the file has an op that this test does not know";
      seen.insert(op);
      check(file, name, ops.at(op), options);
    }
  }
  EXPECT_EQ(seen.size(), ops.size()) << "an op of this test has no case in the files";
}

/// The inputs `.x0`, `.x1`, ... of a case.
inline std::vector<Tensor> golden_inputs(const SafetensorsReader& file, const std::string& name, Tape& tape) {
  std::vector<Tensor> inputs;
  while (file.contains(fmt::format("{}.x{}", name, inputs.size()))) {
    inputs.push_back(tape.watch(file.read(fmt::format("{}.x{}", name, inputs.size()))));
  }
  return inputs;
}

/// y against `.y`, and the gradients of the inputs, from `.dy`, against `.g0`, `.g1`, ...
inline void expect_golden(const SafetensorsReader& file, const std::string& name, Tape& tape,
                          const std::vector<Tensor>& inputs, const Tensor& y, double bound) {
  const double value_error = relative_error(y, file.read(name + ".y"));
  EXPECT_TRUE(value_error <= bound) << value_error;
  const Gradients gradients = tape.backward(y, file.read(name + ".dy"));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const double error = relative_error(gradients[inputs[i]], file.read(fmt::format("{}.g{}", name, i)));
    EXPECT_TRUE(error <= bound) << "input " << i << ": " << error;
  }
}

}  // namespace vitrine
