// Each ladder is a file of its own; a new one gets its call here.
#include "benchmarks/ladders/all_ladders.h"

#include "benchmarks/ladders/attention.h"
#include "benchmarks/ladders/layer_norm.h"

namespace vitrine::ladders {

const std::vector<Ladder>& all_ladders() {
  static const std::vector<Ladder> ladders{layer_norm_ladder(), layer_norm_backward_ladder(), attention_ladder()};
  return ladders;
}

}  // namespace vitrine::ladders
