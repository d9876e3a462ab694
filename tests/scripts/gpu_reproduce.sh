#!/usr/bin/env bash
# gpu-check's part `reproduce`, with a program that trains nothing: rows that were merged or measured before are not repeated, what
# no longer fits is named, and the next call takes it up.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support/gpu_stand_ins.bash"
need_python
driver 1
kept=benchmarks/results/reproduce-full
mkdir -p bundle data/train data/test content/{bin,recipes/reproduce,$kept}
cp "$root"/benchmarks/reproduce{,.awk} content/benchmarks
cp -r "$root/recipes/reproduce/full" content/recipes/reproduce
printf 'vit|vit||-\nslow|vit||-\ndeit-hard|deit|--kd-model-name TEACHER|74.3\n' >content/benchmarks/reproduce.table
head=run,row,seed,paper,epoch,train_loss,eval_loss,eval_top1,eval_top5,lr,images_per_second,seconds
printf '%s,teacher,card,commit\nvit-seed2,vit,2,-,0,1,1,90,99,0,1,60,,NVIDIA H200,abc\n' $head >content/$kept/runs.csv
printf '[reproduce]\nwhat = w\nwhy = y\nseconds = 8\nfiles = f\nrun = reproduction.reproduce 2\n' >bundle/gpu_plan

cat >content/bin/vitrine <<'END_OF_PROGRAM'
#!/usr/bin/env bash
# train ... --output RUNS --experiment NAME ...: one epoch, of the teacher 95%, else 92%. `slow` takes too long the first time.
flags=" $* "
[[ $flags == *" --device cuda --amp --workers "* ]] || exit 9
runs=${flags##* --output } name=${flags##* --experiment }
runs=${runs%% *} name=${name%% *}
[[ $flags != *" --resume "* ]] || { runs=${flags##* --resume }; name=$(basename "${runs%% *}"); runs=$(dirname "${runs%% *}"); }
[[ $flags != *" --resume "* ]] || echo -n resumed- >>"$LOG"
echo "$name" >>"$LOG"
mkdir -p "$runs/$name"
echo "epochs: 1" >"$runs/$name/args.yaml"
touch "$runs/$name/last.safetensors"
[[ $name != slow-seed1 || $(grep -c slow-seed1 "$LOG") -gt 1 ]] || sleep 86399
[[ $name != "${BREAK:-}" ]] || { echo "train: NaN"; exit 1; }
top1=92 && [[ $name != teacher ]] || top1=95
printf 'epoch,train_loss,eval_loss,eval_top1,eval_top5,lr,images_per_second,seconds\n0,1,1,%s,99,0,1,60\n' $top1 >"$runs/$name/summary.csv"
echo "best: epoch 0"
END_OF_PROGRAM
chmod +x content/bin/vitrine
bundle
export LOG=$folder/log
next=(bundle/gpu-check --out results --next --seconds 60)

expect 0 "${next[@]}"
says "reproduce        skipped" "no --data-dir with CIFAR-10"
expect 1 "${next[@]}" --data-dir data
says "reproduce        cut" "vit 1: 92%; missing: slow 1, deit-hard 1, slow 2, deit-hard 2"
[[ $(xargs <log) == "vit-seed1 slow-seed1" ]] || fail "trained: $(xargs <log)"

rm -r "$TMPDIR"/vitrine-gpu-check-*-lasting/reproduce/vit-seed1  # the report has it: it is not missed
expect 1 env BREAK=slow-seed2 "${next[@]}" --data-dir data
says "reproduce        failed" "slow with seed 2: exit status 1" "vit 1: 92%, slow 1: 92%, deit-hard 1: 92%; missing: slow 2, deit-hard 2"
[[ $(tail -n +3 log | xargs) == "resumed-slow-seed1 teacher deit-hard-seed1 slow-seed2" ]] || fail "trained then: $(tail -n +3 log | xargs)"

expect 0 bundle/gpu-check --out results --part reproduce --data-dir data
says "reproduce        passed" "slow 2: 92%, deit-hard 2: 92%"
python3 - <<'END_OF_CHECK' || fail "the runs: $(cat results/report.json)"
import json, sys
part = json.load(open("results/report.json"))["parts"]["reproduce"]
right = ["vit-seed1", "slow-seed1", "deit-hard-seed1", "slow-seed2", "deit-hard-seed2"]
sys.exit([run["run"] for run in part["runs"]] != right or part["teacher"] != "95")
END_OF_CHECK
expect 0 "${next[@]}" --data-dir data
says "nothing is missing"
