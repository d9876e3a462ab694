// What ops/ops.h and ops/composed.h promise of every op that they declare: a row in the op table, a
// formula, the gradient of each operand, and a comparison with the composition.
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>

#include "op_table/op_table.h"
#include "tests/support/source_dir.h"

namespace vitrine {
namespace {

struct DeclaredOp {
  std::string name;
  std::string comment;                // above the declaration and behind it
  std::vector<std::string> operands;  // the tensors among its parameters
};

/// Every op that a header declares. The comment directly above a declaration belongs to it; where
/// it begins with "The same", it goes on from the comment of the op before.
std::vector<DeclaredOp> declared_ops(const std::string& header) {
  std::ifstream file(source_dir() + "/" + header);
  EXPECT_TRUE(file) << "cannot read " << header;
  const std::regex first_line(R"(^(?:Tensor|SumAndNorm|std::vector<Tensor>) (\w+)\()");
  const std::regex operand(R"(const (?:Tensor|OptionalTensor|std::vector<Tensor>)& (\w+))");
  std::vector<DeclaredOp> ops;
  std::string comment;
  for (std::string line; std::getline(file, line);) {
    std::smatch match;
    if (line.starts_with("//")) {
      comment += line + " ";
    } else if (std::regex_search(line, match, first_line)) {
      const bool goes_on = comment.starts_with("/// The same ") && !ops.empty();
      DeclaredOp op{match[1], goes_on ? ops.back().comment + comment : comment, {}};
      std::string declaration;
      do {
        const auto code_end = line.find("//");
        declaration += line.substr(0, code_end);
        if (code_end != std::string::npos) op.comment += line.substr(code_end + 2) + " ";
      } while (declaration.find(';') == std::string::npos && std::getline(file, line));
      for (std::sregex_iterator i(declaration.begin(), declaration.end(), operand), end; i != end; ++i) {
        op.operands.push_back((*i)[1]);
      }
      ops.push_back(op);
      comment.clear();
    } else {
      comment.clear();
    }
  }
  return ops;
}

const OpRow* row_of(const std::string& op) {
  for (const OpRow& row : op_table()) {
    if (row.op == op) return &row;
  }
  return nullptr;
}

TEST(OpsHeader, EveryOpHasOneRow) {
  std::set<std::string> declared, rows;
  for (const DeclaredOp& op : declared_ops("ops/ops.h")) declared.insert(op.name);
  EXPECT_GT(declared.size(), 50u);
  for (const OpRow& row : op_table()) EXPECT_TRUE(rows.insert(row.op).second) << "two rows for " << row.op;
  EXPECT_EQ(declared, rows);
}

TEST(OpsHeader, EveryOpHasItsFormula) {
  const std::regex formula(R"(\b(y(\[[^\]]*\])?|sum) = )");  // add_layer_norm calls its first result sum
  for (const DeclaredOp& op : declared_ops("ops/ops.h")) {
    EXPECT_TRUE(std::regex_search(op.comment, formula)) << op.name << " has no \"y = \" in ops/ops.h";
  }
}

TEST(OpsHeader, EveryOperandHasItsGradient) {
  const std::set<std::string> not_floating{"index", "labels", "condition"};
  for (const DeclaredOp& op : declared_ops("ops/ops.h")) {
    const OpRow* row = row_of(op.name);
    if (!row) continue;  // another test says so
    if (!row->differentiable) {
      EXPECT_TRUE(std::regex_search(op.comment, std::regex("[Nn]o gradient")))
          << op.name << " is not differentiable; ops/ops.h does not say \"no gradient\"";
      continue;
    }
    for (const std::string& operand : op.operands) {
      const std::regex gradient("\\bd" + operand + R"((\[\w+\])? = )");
      EXPECT_TRUE(not_floating.contains(operand) || std::regex_search(op.comment, gradient))
          << op.name << " has no \"d" << operand << " = \" in ops/ops.h";
    }
  }
}

TEST(OpsHeader, EveryCompositionIsInTheRowOfItsOp) {
  const auto compositions = declared_ops("ops/composed.h");
  EXPECT_GT(compositions.size(), 5u);
  std::set<std::string> declared, compared;
  for (const DeclaredOp& composed : compositions) declared.insert(composed.name);
  for (const OpRow& row : op_table()) {
    if (row.composition) compared.insert(row.op + "_composed");
  }
  EXPECT_EQ(declared, compared);
}

}  // namespace
}  // namespace vitrine
