#!/usr/bin/env bash
# scripts/demo must refuse a wrong flag, and a folder without images, before it installs or builds anything, in one line that says why.
set -euo pipefail
demo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/scripts/demo
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/train"

# refuse TEXT ARGUMENT...
refuse() {
  local text=$1 status=0 output
  shift
  output=$(cd "$folder" && "$demo" "$@" 2>&1) || status=$?
  [[ $status == 2 && $(wc -l <<<"$output") == 1 && $output == *"$text"* ]] ||
    { echo "demo $*: exit status $status, output: $output"; exit 1; }
}
refuse "$folder has no folders train/ and test/" .
refuse "$folder/vti has no folders train/ and test/" vti
refuse "$folder has no folders train/ and test/" swin .
refuse "--fast: is not a flag of it; usage: scripts/demo [vit|deit|swin] [DATA_DIR]" --fast
[[ $("$demo" --help) == "Usage: scripts/demo [vit|deit|swin]"* ]] || { echo "demo --help: $("$demo" --help)"; exit 1; }
