// What the tests of every family of models ask of its summary.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "models/registry.h"

namespace vitrine {

/// Every parameter belongs to exactly one row, and the rows have as many as the model.
inline void expect_summary_counts_all(const Model& model) {
  const ModelSummary summary = model.summary();
  EXPECT_EQ(summary.parameters(), model.parameter_count()) << model.name();
  std::set<std::string> rows;
  for (const LayerSummary& layer : summary.layers) EXPECT_TRUE(rows.insert(layer.name).second) << layer.name;
  for (const auto& [name, parameter] : model.parameters()) {
    EXPECT_TRUE(rows.contains(name) || rows.contains(name.substr(0, name.rfind('.')))) << name;
  }
}

/// A row of a paper's table of models.
struct Published {
  const char* name;
  std::int64_t parameters;
  double gmacs;  // multiply-adds of one image in 10^9
};

/// `digits`: how many of gmacs are known after the point.
inline void expect_published_size(const std::string& name, std::int64_t parameters, double gmacs, int digits) {
  const ModelSummary summary = summarize_model(name);
  EXPECT_EQ(summary.name, name);
  EXPECT_EQ(summary.parameters(), parameters) << name;
  const double bound = 0.51 * std::pow(10.0, -digits);
  EXPECT_TRUE(std::abs(static_cast<double>(summary.macs()) * 1e-9 - gmacs) <= bound) << name << " " << summary.macs();
}

}  // namespace vitrine
