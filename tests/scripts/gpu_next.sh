#!/usr/bin/env bash
# gpu-check --next, with parts of a plan that succeed, fail, are cut short, end the whole call or never end: what runs, in which
# order, what a second call takes up, what no longer fits. Nothing is built but a driver's library.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support/gpu_stand_ins.bash"
need_python
driver 1

# stand_in.play NAME HOW...: what becomes of the first attempt, the second, and so on; the last holds for all that follow.
mkdir -p bundle/gpu_check
cat >bundle/gpu_check/stand_in.py <<'END_OF_STAND_IN'
import os, signal
from gpu_check.job import outcome, skipped

def play(job, name, *ways):
    with open("log", "a+") as log:
        log.seek(0)
        how = ways[min(log.read().split().count(name), len(ways) - 1)]
        print(name, file=log)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        status, _ = job.run(["sh", "-c", "echo $$ >pid && exec sleep 86399"])
        return outcome(True, "ended" if status is not None else "out of time", status is None)
    if how == "raise":
        raise RuntimeError("by itself")
    return skipped("nothing here") if how == "skip" else outcome(how != "fail", f"{name} says {how}", how == "cut", way=how)
END_OF_STAND_IN

# plan NAME SECONDS HOW...; ...
plan() {
  local word
  for word in "$@"; do
    read -r name seconds ways <<<"$word"
    printf '[%s]\nwhat = w\nwhy = y\nseconds = %s\nfiles = f\nrun = stand_in.play %s %s\n\n' "$name" "$seconds" "$name" "$ways"
  done >bundle/gpu_plan
}

# ran NAME...: in this order since the last question.
ran() {
  [[ $(xargs <log) == "$*" ]] || fail "ran $(xargs <log), expected $*: $(cat out)"
  cat log >>all && : >log
}

next=(bundle/gpu-check --out results --next --seconds)
plan "good 20 pass" "bad 20 fail" "long 5000 pass" "short 20 cut cut pass" "none 20 skip" "mad 20 raise" "killer 20 kill pass" \
  "last 20 pass"
bundle
touch log

# ---- The first call is killed in the middle; the report has what was done ----
expect 137 "${next[@]}" 900
ran good bad short none mad killer
python3 - <<'END_OF_CHECK' || fail "the report of a call that was killed: $(cat results/report.json)"
import json, sys
report = json.load(open("results/report.json"))
results = {name: part["result"] for name, part in report["parts"].items()}
sys.exit(results != dict(good="passed", bad="failed", short="cut", none="skipped", mad="failed") or
         report["attempts"] != dict(good=1, bad=1, short=1, none=1, mad=1, killer=1) or report["commit"] != "v0-test")
END_OF_CHECK

# ---- The second takes up what is left: first what never began; what does not fit is named ----
cat all >log  # the stand-ins count their attempts there
expect 1 "${next[@]}" 900
says "killer: begun 1 times before and never finished" "passed over: long needs 5000 s, 89" "last             passed" \
  "killer           passed" "short            cut"
tail -n 4 log >new && mv new log
ran last short none killer

# ---- And so on, until nothing is missing; a skipped part costs nothing and is asked again ----
cp all log
expect 0 "${next[@]}" 900
says "short            passed" "passed over: long"
tail -n 2 log >new && mv new log
ran short none
plan "good 20 pass" "bad 20 fail"
expect 0 "${next[@]}" 900
says "nothing is missing"
ran

# ---- Another report to go on from; another commit is another report ----
plan "good 20 pass" "new 20 pass"
expect 0 bundle/gpu-check --out elsewhere --from results/report.json --next --seconds 60
ran new
python3 -c 'import json, sys; sys.exit(not {"good", "bad", "new"} <= set(json.load(open("elsewhere/report.json"))["parts"]))' ||
  fail "--from did not keep the parts of the first report"
echo v1-test >content/COMMIT && bundle
expect 0 "${next[@]}" 60
ran good new

# ---- What has run at an earlier commit, with the same files and on the same card, is not missing ----
printf 'good | Stand-in\nnew | Another card\n' >content/UNCHANGED && bundle
expect 0 bundle/gpu-check --out other --next --seconds 60
ran new

# ---- A part has the time that the plan states, and not more; small ones fit where a large one does not ----
plan "large 50 pass" "slow 2 hang" "small 5 pass"
expect 1 bundle/gpu-check --out third --next --seconds 40
says "slow             cut         2  out of time" "small            passed" "passed over: large needs 50 s, 3"
ran slow small

# ---- A call that is told to end leaves nothing running ----
plan "slow 300 hang"
rm pid
bundle/gpu-check --out fourth --next --seconds 600 >out 2>&1 &
call=$!
for _ in {1..100}; do [[ ! -s pid ]] || break; sleep 0.1; done
started=$(cat pid)
[[ -e /proc/$started ]] || fail "the stand-in does not run"
kill -TERM "$call"
for _ in {1..100}; do [[ -e /proc/$call ]] || break; sleep 0.1; done
[[ ! -e /proc/$call ]] || { kill -KILL "$call" "$started"; fail "SIGTERM: it does not end"; }
status=0
wait "$call" || status=$?
[[ $status == 143 ]] || fail "SIGTERM: exit code $status, expected 143"
for _ in {1..50}; do [[ -e /proc/$started ]] || break; sleep 0.1; done
[[ ! -e /proc/$started ]] || { kill -KILL "$started"; fail "the stand-in still runs"; }
ran slow

# ---- Mistakes ----
echo '{"parts": ' >damaged.json
refuse 2 "--from: damaged.json is no report.json of gpu-check" "${next[@]}" 60 --from damaged.json
refuse 2 "--from: none.json is no report.json of gpu-check" "${next[@]}" 60 --from none.json
refuse 2 "--seconds: is 9, expected at least 30" "${next[@]}" 9
refuse 2 "--part: is fast, expected one of slow, or what several begin with" "${next[@]}" 60 --part fast
printf '[one]\nwhat = w\nwhy = y\nseconds = 5\nfiles = f\n' >bundle/gpu_plan
refuse 2 "[one] has no \`run = ...\`" "${next[@]}" 60
printf '[one]\nwhat = w\nwhy = y\nseconds = soon\nfiles = f\nrun = a.b\n' >bundle/gpu_plan
refuse 2 "[one] has seconds soon and run a.b, expected a number and MODULE.FUNCTION" "${next[@]}" 60
printf 'what = w\n' >bundle/gpu_plan
refuse 2 "gpu_plan: File contains no section headers" "${next[@]}" 60
rm bundle/gpu_plan
refuse 2 "gpu_plan does not exist: run gpu-check in a folder that scripts/gpu-bundle has made" "${next[@]}" 60
