#!/usr/bin/env bash
# benchmarks/reproduce with ten flat images a class: its table, that it goes on where it was stopped, and its mistakes.
set -euo pipefail
vitrine=${VITRINE:?set VITRINE to the program}
reproduce=$PWD/benchmarks/reproduce
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() { echo "reproduce.sh: $*"; exit 1; }

# A dark and a light PNG of 32 x 32 pixels.
header=iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAAAAABWESUoAAAAFklEQVR42m
mkdir -p data/{train,test}/{dark,light}
for i in {0..9}; do
  for split in train test; do
    base64 -d <<<"${header}OwIQAYRhWMKhhVMFIVAAAhIfAB65A68gAAAABJRU5ErkJggg==" >data/$split/dark/$i.png
    base64 -d <<<"${header}M4QQAwjCoYVTCqYKQqAABkziAuiwTVWwAAAABJRU5ErkJggg==" >data/$split/light/$i.png
  done
done
run=("$reproduce" --program "$vitrine" --data-dir data --output out --seeds 1)
short=(-- --epochs 1 --warmup-epochs 0 --batch-size 10 --val-interval 1)

"${run[@]}" --rows '^(vit|deit-token|swin|swin-no-shift)$' "${short[@]}" >log || fail "$(cat log)"
grep -q '^| deit-token-class-head | .* | 1 | ' out/table.md || fail "no row for the class head: $(cat out/table.md)"
grep -q '^| shifted windows - not shifted | .* | +1.1 |$' out/table.md || fail "no difference: $(cat out/table.md)"
! grep -q 'hard - soft' out/table.md || fail "a difference between rows that were not trained"
cut -d, -f2,8 out/runs.csv | grep -qE '^vit,[0-9.]+$' || fail "runs.csv: $(cat out/runs.csv)"
grep -q 'shift: false' out/swin-no-shift-seed1/args.yaml || grep -q 'shift: "false"' out/swin-no-shift-seed1/args.yaml ||
  fail "the flags of the table did not arrive: $(cat out/swin-no-shift-seed1/args.yaml)"

# A second start repeats nothing; a run that was stopped goes on.
before=$(cat out/runs.csv)
"${run[@]}" --rows '^(vit|deit-token|swin|swin-no-shift)$' "${short[@]}" >log
[[ $before == "$(cat out/runs.csv)" ]] || fail "a second start changed the results"
! grep -q 'vitrine train' log || fail "a second start trained again: $(cat log)"
two=(-- --epochs 2 --warmup-epochs 0 --batch-size 10 --val-interval 1)
status=0
"${run[@]}" --rows '^deit$' "${two[@]}" --max-steps 1 >log 2>err || status=$?
[[ $status == 1 ]] && grep -q 'deit-seed1 stopped' err || fail "a run that is stopped: $status $(cat log err)"
"${run[@]}" --rows '^deit$' "${two[@]}" --max-steps 0 >log 2>&1 || fail "$(cat log)"
grep -q -- '--resume .*/deit-seed1' log && grep -q '^deit-seed1,deit,1,72.2,1,' out/runs.csv || fail "it did not go on: $(cat log)"

# Seeds from one to another, and no teacher where no row learns from one.
"$reproduce" --program "$vitrine" --data-dir data --output seeds --seeds 2-3 --rows '^vit$' "${short[@]}" >log || fail "$(cat log)"
[[ $(cut -d, -f1 seeds/runs.csv | xargs) == "run vit-seed2 vit-seed3" ]] || fail "seeds 2 to 3: $(cat seeds/runs.csv)"
[[ ! -e seeds/teacher ]] && ! grep -q teacher seeds/table.md || fail "a teacher that no row needs: $(cat seeds/table.md)"

# ---- Mistakes ----
refuse() {
  local text=$1 status=0
  shift
  "$@" >out.log 2>err || status=$?
  [[ $status == 2 ]] || fail "$*: exit status $status, expected 2"
  grep -qF -- "$text" err || fail "$*: expected '$text' in: $(cat err)"
}
refuse "--form: is 'medium', expected small or full" "$reproduce" --form medium
refuse "--sedes: is not a flag" "$reproduce" --sedes 3
refuse "--seeds: is '0'" "$reproduce" --seeds 0
refuse "--seeds: is '2-0'" "$reproduce" --seeds 2-0
refuse "has no folders train/ and test/" "$reproduce" --data-dir none
