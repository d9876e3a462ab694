#!/usr/bin/env bash
# The kernels of a step: gpu-check's part `profile` with a stand-in for ncu, and the table that scripts/gpu-merge makes of ncu's
# output and of the CSV in benchmarks/results.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support/gpu_stand_ins.bash"
need_python
driver 1
mkdir -p bundle content/bin tools
printf '[profile-g1]\nwhat = a step\nwhy = y\nseconds = 30\nfiles = f\nrun = step_kernels.profile some_model 7\n' >bundle/gpu_plan

# Two kernels before the first step; a step is three launches of two kernels. It speaks as ncu does, with lines of the program and
# its own between; $NCU says what is wrong with it.
cat >tools/ncu <<'END_OF_NCU'
#!/usr/bin/env bash
[[ $NCU != refused ]] || { echo "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access counters"; exit 1; }
[[ " $* " == *" --metrics gpu__time_duration.sum,dram__bytes.sum "*" --no-graph "*" --warmup "[12]" "* || " $* " == *" --warmup "[12]" " ]] || exit 9
echo "==PROF== Connected to process 1"
[[ $NCU != empty ]] || exit 0
echo "some_model, batch 7: 1.00 ms a step in the median"
time=ns && [[ $NCU != units ]] || time=parsec
echo '"ID","Process ID","Kernel Name","Block Size","dram__bytes.sum","gpu__time_duration.sum"'
echo '"","","","","byte","'$time'"'
launch() { echo '"'$((id++))'","1","'$1'","(1, 1, 1)","'$2'","'$3'"'; }
id=0
launch "first" 1 1
launch "second" 1 1
for ((step = 0; step <= ${!#}; ++step)); do
  launch "void vitrine::<unnamed>::long_kernel<vitrine::bfloat16, (int)3>(const T1 *, int)" 2,000,000,000 1,500,000
  launch "void vitrine::(anonymous namespace)::short_kernel(int)" 1000 "$((step == 2 ? 2000 : 1000))"
  [[ $NCU == uneven && $step == 1 ]] || launch "void vitrine::<unnamed>::long_kernel<vitrine::bfloat16, (int)3>(const T1 *, int)" 1000000000 500000
done
END_OF_NCU
chmod +x tools/ncu
bundle

if [[ ! -e /usr/local/cuda/bin/ncu && -z $(command -v ncu) ]]; then
  NCU=none expect 0 bundle/gpu-check --out none
  says "profile-g1       skipped" "not possible: ncu was not found"
fi
export PATH=$folder/tools:$PATH
NCU=good expect 0 bundle/gpu-check --out good
says "3 launches, 2.0 ms; the longest, in ms: long_kernel 2.0, short_kernel 0.0"
python3 - <<'END_OF_CHECK' || fail "the kernels: $(cat good/report.json)"
import json, sys
long, short = json.load(open("good/report.json"))["parts"]["profile-g1"]["kernels"]
sys.exit(long != dict(kernel="long_kernel<bfloat16, (int)3>", launches=2, microseconds=2000.0, GB_moved=3.0) or
         short != dict(kernel="short_kernel", launches=1, microseconds=2.0, GB_moved=1e-6))
END_OF_CHECK
NCU=refused expect 0 bundle/gpu-check --out refused
says "skipped" "not possible: ncu may not read the GPU's counters here (ERR_NVGPUCTRPERM)"
NCU=empty expect 1 bundle/gpu-check --out empty
says "failed" "no kernels with --warmup 1, exit status 0"
NCU=units expect 1 bundle/gpu-check --out units
says "failed" "ncu's units are parsec and byte, expected one of"
NCU=uneven expect 1 bundle/gpu-check --out uneven
says "failed" "do not end in the same step"

# ---- The table, of ncu's own output ----
merge=$root/scripts/gpu-merge
NCU=good ncu --metrics gpu__time_duration.sum,dram__bytes.sum --no-graph --warmup 1 >raw.csv
expect 0 "$merge" --kernels raw.csv
says "| kernel | launches | ms | share | GB | TB/s |" "| \`long_kernel<bfloat16, (int)3>\` | 4 | 4.00 | 99.9% | 6.00 | 1.50 |" \
  "| all | 8 | 4.00 | 100% | 6.00 | 1.50 |"

# ---- And of the two steps that ran on the H200: sums by another program ----
for name in profile-g1 profile-g3; do
  csv=$root/benchmarks/results/gpu/h200/$name.csv
  expect 0 "$merge" --kernels "$csv"
  # Name, launches, microseconds, share, GB: fields are counted from the end, as names have commas.
  right=$(grep -v '^#' "$csv" | awk -F, 'NR > 1 { n += $(NF - 7); t += $(NF - 6); b += $(NF - 4) }
                                         END { printf "| all | %d | %.2f | 100%% | %.2f | %.2f |", n, t / 1e3, b, 1e3 * b / t }')
  says "$right"
  [[ $(grep -c '^| `' out) == "$(grep -cv '^#\|^kernel,' "$csv")" ]] || fail "$name: not every kernel has a line"
done
says "| \`attention_mma::dq_kernel<32, 1>\` | 12 | 6.98 | 13.7% | 5.04 | 0.72 |"

refuse 2 "none.csv: No such file or directory" "$merge" --kernels none.csv
printf 'kernel,launches\na,1\n' >damaged.csv
refuse 2 "damaged.csv: has no rows of kernel, launches, microseconds, share_percent, GB_moved" "$merge" --kernels damaged.csv
printf 'kernel,launches,microseconds,GB_moved\na,1,nan,1\n' >damaged.csv
refuse 2 "damaged.csv: has no rows of" "$merge" --kernels damaged.csv
refuse 2 "more.csv: is one file too many beside --kernels" "$merge" --kernels raw.csv more.csv
