#!/usr/bin/env bash
# scripts/demo must refuse a folder without images before it installs or builds anything, in one line that names it.
set -euo pipefail
demo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/scripts/demo
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/train"

status=0
output=$(cd "$folder" && "$demo" . 2>&1) || status=$?
[[ $status == 2 && $(wc -l <<<"$output") == 1 && $output == *"$folder has no folders train/ and test/"* ]] ||
  { echo "a folder without test/: exit status $status, output: $output"; exit 1; }
