#!/usr/bin/env bash
# benchmarks/ladders needs a GPU: without one, and for wrong words, it says why in one line and ends with 2.
set -euo pipefail
ladders=$(dirname "${VITRINE:?set VITRINE to the program}")/benchmarks/ladders
if [[ ! -x $ladders ]]; then
  echo "$ladders was not built (VITRINE_BUILD_BENCHMARKS is off): nothing was tested"
  exit 0
fi

fail() { echo "ladders.sh: $*"; exit 1; }

# refuse TEXT ARGUMENT...: ends with 2, writes nothing to stdout, and TEXT is in the first line on stderr.
refuse() {
  local text=$1 status=0 output errors
  shift
  errors=$(mktemp)
  output=$("$ladders" "$@" 2>"$errors") || status=$?
  [[ $status == 2 ]] || fail "ladders $*: exit code $status, expected 2: $(cat "$errors")"
  [[ -z $output ]] || fail "ladders $*: printed: $output"
  head -n 1 "$errors" | grep -qE -- "$text" || fail "ladders $*: expected '$text' in: $(cat "$errors")"
  rm "$errors"
}

refuse "^ladders: --device: is 'cpu', expected cuda or cuda:N: rungs are kernels of a GPU$" --device cpu
refuse "^ladders: (this build has no CUDA|--device: is 'cuda:99', but this machine has [0-9]+ CUDA devices)" --device cuda:99
refuse "layernorm not in" layernorm
