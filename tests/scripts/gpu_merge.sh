#!/usr/bin/env bash
# scripts/gpu-merge: what it takes from a report into plan, results and document; twice; what it leaves out, and what it refuses.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support/gpu_stand_ins.bash"
need_python
command -v git >/dev/null || { echo "no git here: scripts/gpu-merge was not tested"; exit 0; }

# A small tree of its own with three commits, of which the reports tell.
mkdir -p tree/{scripts,benchmarks,docs}
cp -r "$root/scripts/gpu-merge" "$root/scripts/gpu_check" tree/scripts
cp "$root/benchmarks/reproduce.awk" tree/benchmarks
cat >tree/benchmarks/gpu_plan <<'END_OF_PLAN'
# Prose that stays.

[tests]
what = all tests
why = first
seconds = 10
files = source
run = unit_tests.tests

[profile-g1]
what = the kernels of a step
why = where time goes
seconds = 10
files = docs
run = step_kernels.profile a 1

[reproduce]
what = the papers' rows
why = accuracy
seconds = 10
files = source
run = reproduction.reproduce 3
END_OF_PLAN
cat >tree/docs/gpu-status.md <<'END_OF_STATUS'
Prose before.
<!-- gpu-merge writes from here: measurements -->
<!-- to here: measurements -->
Prose between.
<!-- gpu-merge writes from here: kernels -->
<!-- to here: kernels -->
Prose after.
END_OF_STATUS
git_in_tree() { git -C tree -c user.name=T -c user.email=t@example.com "$@"; }
git_in_tree init -q
for number in 1 2 3; do
  echo "$number" >tree/source
  git_in_tree add source
  git_in_tree commit -q -m "$number"
  commits[number]=$(git_in_tree rev-parse --short HEAD)
done

# report COMMIT CARD PARTS: report.json; PARTS is what JSON has between the braces.
report() { printf '{"hardware": {"gpu": "%s"}, "commit": "%s", "cublaslt": 1, "parts": {%s}}' "$2" "$1" "$3" >report.json; }
part() { printf '"%s": {"result": "%s", "figures": "%s", "seconds": 5.5%s}' "$@"; }
merge=tree/scripts/gpu-merge
kernels=', "kernels": [{"kernel": "f<int, 2>", "launches": 3, "microseconds": 900, "GB_moved": 1.8},
                       {"kernel": "g", "launches": 1, "microseconds": 10, "GB_moved": 0.001}]'
run() { printf '{"run": "%s-seed%s", "row": "%s", "seed": "%s", "paper": "-", "epoch": "299", "train_loss": "1", "eval_loss": "1",
  "eval_top1": "%s", "eval_top5": "99", "lr": "1e-5", "images_per_second": "9", "seconds": "60"}' "$1" "$2" "$1" "$2" "$3"; }

# ---- Taken in ----
report "${commits[1]}" "NVIDIA H200" "$(part tests failed "7 OK | 2 not" ', "output": "raw", "counts": {"OK": 7}'),
  $(part profile-g1 passed "4 launches, 0.9 ms" "$kernels, \"output\": \"raw\""),
  $(part reproduce cut "one row" ", \"teacher\": \"95.1\", \"runs\": [$(run vit 1 93.5)]"), $(part curves passed good '')"
expect 0 "$merge" report.json
says "left out: curves is not in benchmarks/gpu_plan" "written: benchmarks/gpu_plan" "written: benchmarks/results/gpu/h200/profile-g1.csv" \
  "written: benchmarks/results/gpu/h200/tests.json" "written: benchmarks/results/reproduce-full/table.md" "written: docs/gpu-status.md"

# holds FILE TEXT...
holds() {
  local file=tree/$1 text
  shift
  for text in "$@"; do grep -qF -- "$text" "$file" || fail "expected '$text' in $file: $(cat "$file")"; done
}
holds benchmarks/gpu_plan "# Prose that stays." "  ${commits[1]} | NVIDIA H200 | failed | 7 OK / 2 not" "  ${commits[1]} | NVIDIA H200 | cut | one row"
holds docs/gpu-status.md "Prose before." "Prose between." "Prose after." \
  "| \`tests\` | all tests | \`${commits[1]}\`, NVIDIA H200 | failed: 7 OK / 2 not |" \
  "The kernels of a step, one NVIDIA H200, commit ${commits[1]} ([all of them](../benchmarks/results/gpu/h200/profile-g1.csv)):" \
  "| \`f<int, 2>\` | 3 | 0.90 | 98.9% | 1.80 | 2.00 |" "| 1 more, below 2% each | 1 | 0.01 | 1.1% | 0.00 | 0.10 |"
holds benchmarks/results/gpu/h200/profile-g1.csv '"f<int, 2>",3,900.0,98.9,1.8000,2000'
holds benchmarks/results/gpu/h200/tests.json "\"commit\": \"${commits[1]}\"" '"output": "raw"' '"OK": 7'
! grep -q raw tree/benchmarks/results/gpu/h200/profile-g1.json || fail "raw output of what has passed was kept"
holds benchmarks/results/reproduce-full/runs.csv "vit-seed1,vit,1,-,299,1,1,93.5,99,1e-5,9,60,95.1,NVIDIA H200,${commits[1]}"
holds benchmarks/results/reproduce-full/table.md "| vit | 93.50 | 93.50 to 93.50 | 1 | 1.0 | - |"

# ---- Twice: nothing changes ----
git_in_tree add . && git_in_tree commit -q -m results
expect 0 "$merge" report.json
says "nothing has changed"
expect 0 "$merge"
says "nothing has changed"
[[ -z $(git_in_tree status --porcelain) ]] || fail "a second merge changed $(git_in_tree status --porcelain)"

# ---- A newer run replaces; an older one, one that was cut and one that was skipped do not; another card has its own line ----
report "${commits[3]}" "NVIDIA H200" "$(part tests passed "9 OK" ''), $(part profile-g1 cut "nothing yet" ''),
  $(part reproduce cut "one more" ", \"teacher\": \"95.3\", \"runs\": [$(run vit 2 93.7)]")"
expect 0 "$merge" report.json
says "left out: profile-g1 was cut short, and there is a whole run at ${commits[1]}"
holds benchmarks/gpu_plan "  ${commits[3]} | NVIDIA H200 | passed | 9 OK" "  ${commits[1]} | NVIDIA H200 | passed | 4 launches"
! grep -q "7 OK" tree/benchmarks/gpu_plan || fail "the older run is still in the plan"
holds benchmarks/results/reproduce-full/table.md "| vit | 93.60 | 93.50 to 93.70 | 2 | 1.0 | - |"
report "${commits[2]}" "NVIDIA H200" "$(part tests passed "8 OK" ''), $(part profile-g1 skipped "no ncu" '')"
expect 0 "$merge" report.json
says "left out: tests is of an older commit than the run at ${commits[3]}" "left out: profile-g1 was skipped: no ncu" "nothing has changed"
report "${commits[2]}" "NVIDIA H100 80GB HBM3" "$(part tests passed "8 OK" '')"
expect 0 "$merge" report.json
holds benchmarks/gpu_plan "  ${commits[2]} | NVIDIA H100 80GB HBM3 | passed | 8 OK" "  ${commits[3]} | NVIDIA H200 | passed | 9 OK"
holds benchmarks/results/gpu/h100-80gb-hbm3/tests.json '"figures": "8 OK"'

# ---- What has run and need not run again: whole, and with the same files since ----
[[ $(python3 -B tree/scripts/gpu_check/plan.py | xargs) == "tests | NVIDIA H200" ]] ||
  fail "unchanged: $(python3 -B tree/scripts/gpu_check/plan.py), expected tests at ${commits[3]} alone"
echo 4 >tree/source
[[ -z $(python3 -B tree/scripts/gpu_check/plan.py) ]] || fail "a file has changed, but: $(python3 -B tree/scripts/gpu_check/plan.py)"

# ---- A build of a changed tree is entered as what it is, and does not count as having run ----
git_in_tree checkout -q source
report "${commits[3]}-dirty" "NVIDIA H200" "$(part tests passed "9 OK" '')"
expect 0 "$merge" report.json
holds benchmarks/gpu_plan "  ${commits[3]}-dirty | NVIDIA H200 | passed | 9 OK"
[[ -z $(python3 -B tree/scripts/gpu_check/plan.py) ]] || fail "of a changed tree, but: $(python3 -B tree/scripts/gpu_check/plan.py)"

# ---- Refused: one line, and nothing is written ----
git_in_tree add . && git_in_tree commit -q -m more
refuse 2 "none.json: No such file or directory" "$merge" none.json
report "${commits[3]}" "NVIDIA H200" "$(part tests passed new '')"
head -c -9 report.json >damaged.json
refuse 2 "damaged.json: is no JSON" "$merge" damaged.json
echo '[1, 2]' >damaged.json
refuse 2 "damaged.json: has not hardware, commit, parts, expected the report.json of gpu-check, whole" "$merge" damaged.json
echo '{"hardware": {}, "commit": "a", "parts": {}}' >damaged.json
refuse 2 "damaged.json: has no name of a GPU" "$merge" damaged.json
report "${commits[3]}" "NVIDIA H200" '"tests": {"result": "passed", "figures": "new"}'
refuse 2 "report.json: has a part tests without result, figures and seconds" "$merge" report.json
report "${commits[3]}" "NVIDIA H200" "$(part tests great new '')"
refuse 2 "report.json: has a part tests without result" "$merge" report.json
report "${commits[3]}" "NVIDIA H200" "$(part tests passed new ''), $(part profile-g1 passed new ', "kernels": [{"kernel": "f"}]')"
refuse 2 "the report's part profile-g1 is damaged: KeyError: 'microseconds'" "$merge" report.json
report 0123abc "NVIDIA H200" "$(part tests passed new '')"
refuse 2 "report.json: is of commit 0123abc, which this repository does not have" "$merge" report.json
[[ -z $(git_in_tree status --porcelain) ]] || fail "a report that was refused changed $(git_in_tree status --porcelain)"

expect 2 "$merge" --kernel
says "expected one argument"
expect 2 "$merge" --next report.json
says "unrecognized arguments: --next"

report "${commits[3]}" "NVIDIA H200" "$(part tests passed new '')"
sed -i '/to here: kernels/d' tree/docs/gpu-status.md
refuse 1 "docs/gpu-status.md: has not the markers of kernels once each and in order" "$merge" report.json
sed -i '/^run = unit/d' tree/benchmarks/gpu_plan
refuse 1 "[tests] has no \`run = ...\`" "$merge" report.json

# ---- The document of this tree has the tables that follow from its plan and results ----
mkdir -p own/{scripts,docs,benchmarks/results}
cp -r "$root/scripts/gpu-merge" "$root/scripts/gpu_check" own/scripts
cp "$root/benchmarks/gpu_plan" own/benchmarks
cp -r "$root/benchmarks/results/gpu" own/benchmarks/results
cp "$root/docs/gpu-status.md" own/docs
expect 0 own/scripts/gpu-merge
says "nothing has changed"
