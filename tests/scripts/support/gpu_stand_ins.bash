# For the tests of scripts/gpu-check and scripts/gpu-merge, which need no GPU: a folder to work in, messages, and a driver's library
# that tells of devices.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
test_name=$(basename "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder/tmp
mkdir "$TMPDIR"
cd "$folder"

fail() { echo "$test_name: $*"; exit 1; }

# refuse CODE TEXT COMMAND...: ends with CODE and prints one line that contains TEXT.
refuse() {
  local code=$1 text=$2 status=0
  shift 2
  "$@" >out 2>&1 || status=$?
  [[ $status == "$code" ]] || fail "$*: exit code $status, expected $code: $(cat out)"
  [[ $(wc -l <out) == 1 ]] || fail "$*: expected one line: $(cat out)"
  grep -qF -- "$text" out || fail "$*: expected '$text' in: $(cat out)"
}

# expect CODE COMMAND...: ends with CODE; `out` has what it says.
expect() {
  local code=$1 status=0
  shift
  "$@" >out 2>&1 || status=$?
  [[ $status == "$code" ]] || fail "$*: exit code $status, expected $code: $(cat out)"
}

# says TEXT...: each is in `out`.
says() {
  local text
  for text in "$@"; do grep -qF -- "$text" out || fail "expected '$text' in: $(cat out)"; done
}

need_python() {
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && return
  echo "no python3 of at least 3.8 here: $test_name tested nothing"
  exit 0
}

# driver DEVICES: a libcuda.so.1 that tells of so many, each by the name of `card`.
driver() {
  mkdir -p driver
  cc -shared -fPIC -x c -o driver/libcuda.so.1 - <<END_OF_DRIVER
#include <string.h>
int cuInit(unsigned flags) { return flags; }
int cuDeviceGetCount(int* count) { return *count = $1, 0; }
int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
int cuDeviceGetName(char* name, int length, int device) { return strncpy(name, "${card:-Stand-in}", length), device; }
END_OF_DRIVER
  export LD_LIBRARY_PATH=$folder/driver
}

# bundle: a folder as scripts/gpu-bundle makes it, of the files in content/ and the plan in bundle/gpu_plan.
bundle() {
  mkdir -p bundle/gpu_check content
  cp "$root/scripts/gpu-check" bundle
  cp "$root"/scripts/gpu_check/*.py bundle/gpu_check
  [[ -e content/COMMIT ]] || echo v0-test >content/COMMIT
  tar -C content -cJf bundle/bundle.tar.xz .
}
