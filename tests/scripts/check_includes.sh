#!/usr/bin/env bash
# scripts/check-includes must accept a clean tree and refuse each kind of violation.
set -euo pipefail
check=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/scripts/check-includes
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree"/{tensor,nn,optim,data}

expect_refusal() { # TEXT: the check fails, and says TEXT
  local output
  if output=$("$check" "$tree"); then
    echo "accepted a tree in which it should have found: $1"
    exit 1
  fi
  [[ $output == *"$1"* ]] || { echo "did not say '$1' but: $output"; exit 1; }
}

echo '#include "tensor/tensor.h"' >"$tree/nn/linear.h"
"$check" "$tree"

echo '  #  include "nn/linear.h"' >"$tree/optim/adamw.cpp"
expect_refusal 'optim/adamw.cpp:1: optim/ may not include "nn/linear.h"'
rm "$tree/optim/adamw.cpp"

echo '#include "shape.h"' >"$tree/tensor/tensor.cu"
expect_refusal 'tensor/tensor.cu:1: includes "shape.h"'
rm "$tree/tensor/tensor.cu"

echo 'vitrine_add_library(data PUBLIC vitrine_tensor vitrine_ops)' >"$tree/data/CMakeLists.txt"
expect_refusal 'data/CMakeLists.txt: data/ may not link to vitrine_ops'
rm "$tree/data/CMakeLists.txt"

printf '//\n%.0s' {1..401} >"$tree/tensor/long.h"
expect_refusal 'tensor/long.h: has 401 lines'
printf '/%.0s' {1..133} >"$tree/tensor/long.h"
expect_refusal 'tensor/long.h:1: is longer than 132 columns'
printf '// %.0s' {1..34} >"$tree/tensor/long.h"
expect_refusal 'tensor/long.h:1: is a comment longer than 100 columns'
rm "$tree/tensor/long.h"

# A header and its source are one unit: a pair that includes each other, and a ring of three through a source.
echo '#include "tensor/b.h"' >"$tree/tensor/a.h"
echo '#include "tensor/a.h"' >"$tree/tensor/b.cpp"
expect_refusal 'tensor/a: is in a ring'
echo '#include "tensor/c.h"' >"$tree/tensor/b.cpp"
"$check" "$tree"
echo '#include "tensor/a.h"' >"$tree/tensor/c.cu"
expect_refusal 'tensor/c: is in a ring'
rm "$tree"/tensor/{a.h,b.cpp,c.cu}

mkdir -p "$tree"/data/{image,loader}
echo '#include "data/image/image.h"' >"$tree/data/loader/loader.cpp"
"$check" "$tree"
echo '#include "data/loader/loader.h"' >"$tree/data/image/png.cpp"
expect_refusal 'data/image/png.cpp:1: the room image of data/ may not include "data/loader/loader.h"'
rm "$tree/data/image/png.cpp"
mkdir "$tree/data/attic"
expect_refusal 'data/attic: is not among the rooms'
rmdir "$tree/data/attic"

for i in {1..21}; do echo >"$tree/nn/layer_$i.h"; done
expect_refusal 'nn: has 22 source files beside each other'
rm "$tree"/nn/layer_*.h

"$check" "$tree"
