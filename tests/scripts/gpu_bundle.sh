#!/usr/bin/env bash
# scripts/gpu-bundle must refuse wrong flags, and scripts/gpu-check wrong flags and a machine without a GPU, in one line each.
# On a bundle of stand-ins, with a driver's library that tells of a GPU, it must run the tests, survive one that dies, compare loss
# curves, give up what takes too long, and report. Nothing is built here but that library.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support/gpu_stand_ins.bash"
mkdir -p bundle content/bin

refuse 2 "--arch: its value is missing" "$root/scripts/gpu-bundle" --arch
refuse 2 "--architecture: is not a flag of it" "$root/scripts/gpu-bundle" --architecture 90a
refuse 2 "two: is one word too many" "$root/scripts/gpu-bundle" one two

need_python
cp "$root/scripts/gpu-check" bundle
refuse 2 "run gpu-check in a folder that scripts/gpu-bundle has made" bundle/gpu-check --help
cp -r "$root/scripts/gpu_check" "$root/benchmarks/gpu_plan" bundle
bundle/gpu-check --help >out 2>&1 || fail "--help without an archive: $(cat out)"
grep -qF -- "--data-dir" out || fail "--help: $(cat out)"
refuse 2 "bundle.tar.xz does not exist: run gpu-check in a folder that scripts/gpu-bundle has made" bundle/gpu-check

# A test program with tests of which one loses the GPU, one ends its process, and one fails. Every fourth one shares a process.
cat >content/bin/vitrine_tests <<'END_OF_TESTS'
#!/usr/bin/env bash
if [[ $1 == --gtest_list_tests ]]; then
  printf 'OnCuda.\n  Lost  # GetParam() = 0\n  Good\n  Fine\n  Well\n  Dies\nTensorCore.\n  Good\nRest.\n  Bad\n'
  exit
fi
lost=
for name in $(tr : ' ' <<<"${1#--gtest_filter=}"); do
  echo "[ RUN      ] $name"
  case $lost$name in
    *Dies) [[ -n $lost ]] || kill -9 $$ ;;&
    *Lost) lost=yes && echo "cudaMalloc failed: an illegal memory access was encountered" ;;&
    *.Good | *.Fine | *.Well) echo "[       OK ] $name (1 ms)" ;;
    *) echo "[  FAILED  ] $name, where GetParam() = 0 (1 ms)" ;;
  esac
done
exit 1
END_OF_TESTS
cat >content/bin/vitrine <<'END_OF_PROGRAM'
#!/usr/bin/env bash
if [[ $1 == gradcheck ]]; then
  echo '[{"op": "add", "worst_relative_error": 1e-9}]' >"${!#}"
  exit
fi
# train ... --device cpu|cuda [--amp] --output RUNS --experiment NAME: fifty epochs, those on the GPU a little off.
run="${*: -3:1}/${!#}"
mkdir -p "$run"
loss=1.000000
[[ $* != *"--device cuda"* ]] || loss=1.000020
[[ $* != *--amp* ]] || loss=1.004000
{ echo "epoch,train_loss" && for epoch in {0..49}; do echo "$epoch,$loss"; done; } >"$run/summary.csv"
END_OF_PROGRAM
# One row of the op table, and a ladder with a rung that is wrong.
cat >content/bin/ops <<'END_OF_OPS'
#!/usr/bin/env bash
echo '{"rows": [{"op": "add", "GB/s": 1, "percent_of_peak": 50}], "peak_gb_per_s": 2, "peak_tflops": 3}' >"${!#}"
END_OF_OPS
cat >content/bin/ladders <<'END_OF_LADDERS'
#!/usr/bin/env bash
echo '[{"ladder": "layer_norm", "rungs": [{"rung": "slow", "percent_of_peak": 4.1}, {"rung": "fast", "percent_of_peak": 80},
       {"rung": "bent", "failure": "differs from the loops"}]}]' >"${!#}"
exit 1
END_OF_LADDERS
chmod +x content/bin/*
bundle
python3 -B - <<'END_OF_CHECK' || fail "the plan runs what no module has"
import importlib, inspect, sys
sys.path.insert(0, "bundle")
from gpu_check.plan import read_plan
for one in read_plan("bundle/gpu_plan"):
    inspect.signature(getattr(importlib.import_module(f"gpu_check.{one.module}"), one.function)).bind(None, *one.arguments)
END_OF_CHECK
refuse 2 "--part: is test, expected one of tests, step-g1, profile-g1" bundle/gpu-check --part test
refuse 2 "--seconds: is 5, expected at least 30" bundle/gpu-check --seconds 5
refuse 2 "--data-dir: $folder has no folder train/ and is no archive" bundle/gpu-check --part cifar --data-dir "$folder"

if [[ -z $(ldconfig -p 2>/dev/null | grep -F libcuda.so.1) && -z ${LD_LIBRARY_PATH:-} ]]; then
  refuse 3 "no CUDA device: the driver's library libcuda.so.1 is not installed" bundle/gpu-check --part tests
fi

# A driver without devices, and one with the device that the stand-ins pretend to use.
driver 0
refuse 3 "no CUDA device: the driver answers with error 0 and 0 devices" bundle/gpu-check --part tests
driver 1
status=0
bundle/gpu-check --part cifar-vit --part tests --out results >out 2>&1 || status=$?
[[ $status == 1 ]] || fail "failing tests: exit code $status, expected 1: $(cat out)"
for text in "Stand-in, driver" "commit v0-test" "tests            failed" "cifar-vit-6m     skipped" \
  "1 DIED, 2 FAILED, 4 OK; gradcheck: 1 ops, exit 0, worst 1.0e-09"; do
  grep -qF -- "$text" out || fail "expected '$text' in: $(cat out)"
done
python3 - <<'END_OF_CHECK' || fail "results/ does not hold what it should: $(cat results/*)"
import json, sys
report = json.load(open("results/report.json"))
right = {"OnCuda.Lost": "FAILED", "OnCuda.Dies": "DIED", "Rest.Bad": "FAILED"}
sys.exit({name: entry[0] for name, entry in report["parts"]["tests"]["not_passed"].items()} != right or
         {name: part["result"] for name, part in report["parts"].items()} != {"tests": "failed", "cifar-vit-6m": "skipped"} or
         report["commit"] != "v0-test")
END_OF_CHECK

bundle/gpu-check --part curve --out results >out 2>&1 || fail "curve: $(cat out)"
grep -qF "f32 within 2.0e-05 (accepted 1e-04), bf16 4.0e-03 (accepted 1.8e-02; the CPU's bf16 4.0e-03)" out ||
  fail "curve: $(cat out)"
python3 -c 'import json, sys; sys.exit(sorted(json.load(open("results/report.json"))["parts"]) != ["cifar-vit-6m", "curve", "tests"])' ||
  fail "a second call did not keep the parts of the first"

expect 0 bundle/gpu-check --part kernels --out results
says "kernels-fused    passed" "kernels-ops      passed" "bf16: 1 of 1 rows, 50% of 2 GB/s"
expect 1 bundle/gpu-check --part ladders --out results  # a rung is wrong
says "ladders          failed" "ladder layer_norm: 2 of 3 rungs, best 80% of peak: fast"

# ---- What scripts/gpu-bundle packs, with a stand-in for cmake that builds nothing ----
git -C "$root" rev-parse --quiet --verify HEAD >/dev/null 2>&1 || { echo "no git here: scripts/gpu-bundle was not tested"; exit 0; }
mkdir tools
cat >tools/cmake <<'END_OF_CMAKE'
#!/usr/bin/env bash
for program in vitrine tests/vitrine_tests benchmarks/{ops,ladders,train_step}; do
  mkdir -p "$(dirname "$BUILD/$program")"
  echo 'int main() { return 0; }' | cc -x c - -Wl,--no-as-needed -lgcc_s -o "$BUILD/$program"
done
END_OF_CMAKE
chmod +x tools/cmake
expect 0 env BUILD="$folder/build" PATH="$folder/tools:$PATH" "$root/scripts/gpu-bundle" --build build packed
says "gpu-bundle: $folder/packed, " "commit $(git -C "$root" describe --always --dirty)"
[[ $(ls packed | xargs) == "bundle.tar.xz gpu-check gpu_check gpu_plan" ]] || fail "packed: $(ls packed)"
tar -tJf packed/bundle.tar.xz >out
says ./lib/libgcc_s.so.1 ./bin/train_step ./bin/vitrine_tests ./benchmarks/compare_on_gpu ./benchmarks/pytorch_step.py ./benchmarks/reproduce.table ./COMMIT \
  ./UNCHANGED ./recipes/cifar10-vit-6m.yaml ./recipes/reproduce/full/teacher.yaml
expect 1 packed/gpu-check --next --part ladders --part kernels --seconds 60 --out packed
says "ladders          failed" "ladders: no report" "passed over: kernels-fused needs 90 s"
