#!/usr/bin/env bash
# scripts/check-docs must accept true documents and refuse each kind of false one.
set -euo pipefail
check=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/scripts/check-docs
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree"/{ops,docs}

cat >"$tree/ops/double.cu" <<'END'
Tensor twice(const Tensor& x) {
  const Tensor y = add(x, x);
  return y;
}
END
good_block='```cpp
// ops/double.cu
Tensor twice(const Tensor& x) {
  // ...
return y;
```'
accept() { "$check" "$tree" || { echo "refused:"; cat "$tree/README.md"; exit 1; }; }
refuse() { # TEXT
  local output
  if output=$("$check" "$tree"); then echo "accepted:"; cat "$tree/README.md"; exit 1; fi
  [[ $output == *"$1"* ]] || { echo "did not say '$1' but: $output"; exit 1; }
}

printf '%s\n' "$good_block" '[the op](ops/double.cu) [elsewhere](https://example.org)' >"$tree/README.md"
accept
printf '```cpp\nint main() { return 0; }\n```\n' >"$tree/README.md"
accept
printf '%s\n' "${good_block/return y/return x}" >"$tree/README.md"
refuse 'README.md:1: the block is no longer what stands in ops/double.cu'
printf '%s\n' "${good_block/double/triple}" >"$tree/README.md"
refuse 'ops/triple.cu, which does not exist'
printf '```cpp\ntwice(x);\n```\n' >"$tree/README.md"
refuse 'neither a program'
echo '[the op](ops/triple.cu)' >"$tree/README.md"
refuse 'the link to ops/triple.cu leads nowhere'
