#!/usr/bin/env bash
# The program vitrine from outside: exit codes, one-line errors, output formats, signals, resuming.
set -euo pipefail
vitrine=${VITRINE:?set VITRINE to the program}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() { echo "program.sh: $*"; exit 1; }

# refuse CODE TEXT ARGUMENT...: the program ends with CODE, prints one line on stderr that contains TEXT, and names the command.
refuse() {
  local code=$1 text=$2 status=0
  shift 2
  "$vitrine" "$@" >out 2>err || status=$?
  [[ $status == "$code" ]] || fail "vitrine $*: exit code $status, expected $code: $(cat err)"
  [[ $(wc -l <err) == 1 ]] || fail "vitrine $*: expected one line on stderr: $(cat err)"
  grep -qF -- "$text" err || fail "vitrine $*: expected '$text' in: $(cat err)"
}

small=(--dataset shapes --model vit_tiny_patch4_32 --model-kwargs patch_size=8 embed_dim=12 depth=1 num_heads=3
  --batch-size 8 --train-num-samples 40 --val-num-samples 16 --epochs 2 --warmup-epochs 0)

# ---- Mistakes ----
refuse 2 "vitrine: expected a command"
refuse 2 "vitrine: trian: is not a command; did you mean 'train'?" trian
refuse 2 "vitrine train: --lrr: is not a flag of it; did you mean '--lr'?" train --lrr 1
refuse 2 "vitrine train: --lr: 'fast' is not accepted, expected a number above 0" train --lr fast
refuse 2 "vitrine train: --lr: its value is missing" train --lr
refuse 2 "vitrine train: foo: is one word too many" train foo
refuse 2 "vitrine train: --data-dir: is not given" train
refuse 2 "vitrine train: none.yaml: cannot be opened" train -c none.yaml
printf 'epochs: 3\nlearning-rate: 1\n' >bad.yaml
refuse 2 "vitrine train: bad.yaml:2: 'learning-rate' is not a setting" train -c bad.yaml
refuse 2 "--batch-size: is 7, expected an even number" train "${small[@]}" --mixup 1 -b 7
refuse 2 "no model is called" train "${small[@]}" --model vit_tyni
refuse 1 "batch size is 41, expected at most the 40 samples" train "${small[@]}" -b 41
refuse 1 "/none" train "${small[@]}" --dataset folder --data-dir /none
refuse 1 "none: no such file or folder" eval --checkpoint none
refuse 1 "none.safetensors: cannot be opened" train --resume none.safetensors
refuse 2 "matches no differentiable op" gradcheck 'nope*'
refuse 2 "matches none of the" list-models 'nope*'
refuse 2 "vitrine train: --model-kwargs: 'dim' is not an option of models" train "${small[@]}" --model-kwargs dim=3
refuse 2 "vitrine train: create_model: resnet18 has no option patch_size, expected one of num_classes, img_size" train "${small[@]}" --model resnet18
refuse 2 "vitrine summary: create_model: vit_tiny_patch4_32 has no option window_size" \
  summary vit_tiny_patch4_32 --model-kwargs window_size=3
refuse 2 "vitrine augment: --model-kwargs: depth is 'x'" augment none.png --model-kwargs depth=x
refuse 2 "vitrine eval: --model-kwargs: depth is 'x'" \
  eval --checkpoint bad.yaml --dataset shapes --model vit_tiny_patch4_32 --model-kwargs depth=x
# No machine has a hundred GPUs.
refuse 2 "vitrine train: --device: is 'cuda:99', expected cpu" train "${small[@]}" --device cuda:99
refuse 2 "vitrine eval: --device: is 'cuda:99', expected cpu" eval --checkpoint bad.yaml --dataset shapes --device cuda:99
refuse 2 "vitrine predict: --device: is 'cuda:99', expected cpu" predict --checkpoint none none.png --device cuda:99
refuse 2 "vitrine gradcheck: --device: is 'cuda:99', expected cpu" gradcheck relu --device cuda:99
if ! "$vitrine" --help | grep -q 130; then fail "--help does not document the exit codes"; fi
[[ $("$vitrine" --version) =~ ^vitrine\ [0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "--version: $("$vitrine" --version)"

# ---- Models and gradients ----
[[ $("$vitrine" list-models 'vit_huge*') == vit_huge_patch14_224 ]] || fail "list-models"
"$vitrine" summary vit_base_patch16_224 --json | tr -d ' \n' | grep -q '"parameters":86567656' || fail "summary"
"$vitrine" gradcheck 'layer_n?rm' --json checked.json | grep -q '1 ops, .* 0 ops failed' || fail "gradcheck"
"$vitrine" gradcheck --list 'layer*' | grep -qx layer_norm || fail "gradcheck --list"
grep -q '"op": "layer_norm"' checked.json && grep -q '"failed": 0' checked.json || fail "gradcheck --json: $(cat checked.json)"

# ---- A warning where flags depart from the recipe's batch and rate ----
printf 'batch-size: 16\n' >sixteen.yaml
"$vitrine" train -c sixteen.yaml "${small[@]}" --experiment departed --max-steps 1 >log
grep -qx 'warning: the total batch is 8, the recipe was made for 16' log || fail "the batch departs: $(cat log)"
grep -q "^warning: the learning rate is .*, the recipe's, with its total batch of 16, " log || fail "the rate departs: $(cat log)"

# ---- A run, its evaluation, its predictions ----
"$vitrine" train "${small[@]}" --experiment whole >log
grep -q '^learning rate: ' log && grep -q '^epoch 1: train loss .* top-1 .*%, top-5 ' log || fail "train: $(cat log)"
if grep -q $'\r' log; then fail "a progress bar where stdout is not a terminal"; fi
"$vitrine" eval --checkpoint runs/whole --json | grep -q '"images":16' || fail "eval"
best=$("$vitrine" eval --checkpoint runs/whole | sed 's/.*top-1 \([0-9.]*\)%.*/\1/')
grep -q "^best: epoch ., top-1 $best%" log || fail "eval gives $best: $(grep best: log)"
# A grey 2 x 2 PNG.
printf '%s' iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAADklEQVR4nGMQaGD44AAABHYBwbLowq0AAAAASUVORK5CYII= | base64 -d >grey.png
"$vitrine" predict --checkpoint runs/whole grey.png --top 3 >predictions || fail "predict: $(cat predictions)"
[[ $(grep -c '%  ' predictions) == 3 ]] || fail "predict: $(cat predictions)"
refuse 1 "none.png" predict --checkpoint runs/whole none.png
# One bad image of three: the others are predicted.
printf 'version https://git-lfs.github.com/spec/v1\n' >lfs.jpg
refuse 1 "vitrine predict: lfs.jpg: is a Git LFS pointer" predict --checkpoint runs/whole grey.png lfs.jpg grey.png --top 1
[[ $(grep -c '%  ' out) == 2 ]] || fail "predict: $(cat out)"
refuse 1 "lfs.jpg: is a Git LFS pointer" predict --checkpoint runs/whole grey.png lfs.jpg grey.png --top 1 --json
[[ $(grep -c '"predictions"' out) == 2 && $(grep -c '"error": "lfs.jpg: is a Git LFS pointer' out) == 1 ]] || fail "predict: $(cat out)"

# ---- Folders of images ----
for class in {1..10}; do mkdir -p numbers/test/$class/deep && cp grey.png numbers/test/$class/deep; done
touch numbers/test/notes.txt numbers/test/1/._x.png
mkdir numbered unnamed && cp runs/whole/model.safetensors numbered
numbers=(--dataset folder --data-dir numbers)
"$vitrine" eval --checkpoint numbered --model vit_tiny_patch4_32 --num-classes 10 \
  --model-kwargs patch_size=8 embed_dim=12 depth=1 num_heads=3 "${numbers[@]}" >out 2>err || fail "eval of numbers: $(cat err)"
grep -q '^warning: class folders are sorted as torchvision does it' err || fail "no warning of another class order: $(cat err)"
grep -qx 'data: left out 2 files of numbers/test: notes.txt (no image extension), 1/._x.png (hidden)' err || fail "left out: $(cat err)"
tr -d '\n' <runs/whole/config.json | sed 's/, *"label_names": *\[[^]]*\]//' >unnamed/config.json
cp runs/whole/model.safetensors unnamed
"$vitrine" eval --checkpoint unnamed "${numbers[@]}" --json >natural 2>err || fail "eval of numbers: $(cat err)"
grep -q '^class folders in natural order, as timm has it' err || fail "no note on the class order: $(cat err)"
"$vitrine" eval --checkpoint unnamed "${numbers[@]}" --json --class-order natural 2>/dev/null | cmp - natural || fail "--class-order natural"
"$vitrine" eval --checkpoint unnamed "${numbers[@]}" --json --class-order sorted >three 2>err || fail "--class-order sorted: $(cat err)"
if grep -q 'class folders' err; then fail "a warning beside --class-order: $(cat err)"; fi
cp -r numbers/test numbers/train
more=(--model vit_tiny_patch4_32 --model-kwargs patch_size=8 embed_dim=12 depth=1 num_heads=3 --num-classes 10
  "${numbers[@]}" --batch-size 3 --epochs 1 --warmup-epochs 0 --initial-checkpoint numbered)
"$vitrine" train "${more[@]}" --experiment sorted >log || fail "train on numbers: $(cat log)"
grep -q '^warning: class folders are sorted as torchvision does it; if timm trained' log || fail "no warning: $(cat log)"
"$vitrine" train "${more[@]}" --class-order natural --experiment natural >log || fail "train on numbers: $(cat log)"
if grep -q 'class folders' log; then fail "a warning beside --class-order: $(cat log)"; fi
tr -d ' \n' <runs/natural/config.json | grep -q '"label_names":\["1","2","3","4","5","6","7","8","9","10"\]' || fail "--class-order: $(cat runs/natural/config.json)"
mkdir named && cp runs/natural/{model.safetensors,config.json} named
for weights in runs/natural named; do
  "$vitrine" eval --checkpoint $weights "${numbers[@]}" >out 2>err || fail "eval in natural order: $(cat err)"
  if grep -q 'warning' err; then fail "a warning where names tell the order: $(cat err)"; fi
done

# ---- What would go wrong without a word ----
names=$(sed -n 's/.*"label_names": *\[\(.*\)\].*/\1/p' <<<"$(tr -d '\n' <runs/whole/config.json)" | tr -d '" ')
second=$(cut -d, -f2 <<<"$names")
mkdir -p "few/test/$second" "few/test/$(cut -d, -f3 <<<"$names")"
for class in few/test/*; do cp grey.png "$class"; done
"$vitrine" eval --checkpoint runs/whole --dataset folder --data-dir few >log 2>&1 || fail "eval of data that lack classes: $(cat log)"
grep -qE 'the data have 2 of the [0-9]+ classes of the weights, matched by name: .* is number . of the data and output [0-9]+' log ||
  fail "eval of data that lack classes: $(cat log)"
refuse 2 "--img-size: needs --model" eval --checkpoint runs/whole --img-size 64
mkfifo recipe.pipe
echo 'bogus: 1' >recipe.pipe &
refuse 2 "recipe.pipe: is no ordinary file" train -c recipe.pipe
(export WORLD_SIZE=2; refuse 1 "WORLD_SIZE is 2, expected 1" train "${small[@]}")

# ---- Weights that are none ----
weights=(--checkpoint downloaded.pth --model vit_tiny_patch4_32 --dataset shapes)
echo '<!DOCTYPE html><html></html>' >downloaded.pth
refuse 1 "vitrine eval: downloaded.pth: is a web page; download the file itself" eval "${weights[@]}"
printf 'version https://git-lfs.github.com/spec/v1\n' >downloaded.pth
refuse 1 "vitrine eval: downloaded.pth: is a Git LFS pointer" eval "${weights[@]}"
refuse 1 "downloaded.pth: is a Git LFS pointer" train "${small[@]}" --pretrained-path downloaded.pth
refuse 1 "downloaded.pth: is a Git LFS pointer" train --resume downloaded.pth
refuse 1 "downloaded.pth: is a Git LFS pointer" convert downloaded.pth renamed.safetensors --to huggingface
: >downloaded.pth
refuse 1 "downloaded.pth: is an empty file" eval "${weights[@]}"
# ---- Grey ----
"$vitrine" train "${small[@]}" --in-chans 1 --pretrained-path runs/whole --experiment grey >log || fail "--in-chans 1: $(cat log)"
grep -q 'adapted patch_embed.proj.weight from 3 channels to 1 (their sum)' log || fail "--in-chans 1: $(cat log)"
tr -d ' \n' <runs/grey/config.json | grep -q '"input_size":\[1,32,32\].*"in_chans":1' || fail "--in-chans 1: $(cat runs/grey/config.json)"
"$vitrine" eval --checkpoint runs/grey >/dev/null && "$vitrine" predict --checkpoint runs/grey grey.png >/dev/null || fail "eval, predict: grey"
refuse 2 "--in-chans: '4' is not accepted, expected 0, 1 or 3" train "${small[@]}" --in-chans 4

# ---- Weights under other names ----
"$vitrine" convert runs/whole converted --to huggingface | grep -q "from the names of timm to those of huggingface" || fail "convert"
grep -qa vit.encoder.layer.0.attention.attention.query.weight converted/model.safetensors || fail "convert: the names"
tr -d ' \n' <converted/config.json | grep -q '"model_type":"vit".*"id2label":{"0":"' || fail "convert: $(cat converted/config.json)"
"$vitrine" convert converted again --to timm | grep -q 'with config.json' || fail "convert: from Hugging Face's folder"
for weights in runs/whole converted again; do
  "$vitrine" eval --checkpoint $weights --dataset shapes --val-num-samples 16 2>/dev/null | sed 's/.*: 16/16/' >"$weights.eval"
  cmp runs/whole.eval "$weights.eval" || fail "convert: eval of $weights gives $(cat "$weights.eval")"
done
[[ $(tr -d '\n' <again/config.json | sed 's/.*"label_names"//') == "$(tr -d '\n' <runs/whole/config.json | sed 's/.*"label_names"//')" ]] ||
  fail "convert: the labels are $(cat again/config.json)"
mkdir nothing_beside
cp runs/whole/model.safetensors nothing_beside/back.safetensors
"$vitrine" convert nothing_beside/back.safetensors bare_folder --to huggingface >log
grep -q '^no config.json was written, since none lies beside nothing_beside/back.safetensors' log || fail "convert: $(cat log)"
"$vitrine" convert converted/model.safetensors back.safetensors --to timm >/dev/null || fail "convert back"
"$vitrine" convert runs/whole copy --to timm | grep -q 'with config.json' || fail "convert --to timm"
cp copy/config.json . # beside back.safetensors
"$vitrine" eval --checkpoint back.safetensors --dataset shapes --val-num-samples 16 >one
"$vitrine" eval --checkpoint copy --dataset shapes --val-num-samples 16 >two
cmp one two || fail "convert: eval gives $(cat one) and $(cat two)"
"$vitrine" eval --checkpoint copy --dataset shapes --val-num-samples 16 --mean 0 0 0 >three
if cmp -s two three; then fail "eval: --mean changes nothing beside config.json"; fi
# A file alone, under torchvision's names: images are prepared as torchvision does it, unless flags say otherwise.
mkdir bare
"$vitrine" convert runs/whole bare/weights.safetensors --to torchvision >log || fail "convert --to torchvision"
flags=$(sed -n 's/^no config.json was written, torchvision has none: say to vitrine eval //p' log)
"$vitrine" eval --checkpoint bare/weights.safetensors --dataset shapes --val-num-samples 16 $flags 2>/dev/null >three
cmp two three || fail "convert: eval $flags gives $(cat three), not $(cat two)"
named=(--dataset shapes --val-num-samples 16 --model vit_tiny_patch4_32
  --model-kwargs patch_size=8 embed_dim=12 depth=1 num_heads=3 --checkpoint bare/weights.safetensors)
"$vitrine" eval "${named[@]}" >three 2>notes
grep -q "torchvision's, so images are prepared as there.*: mean 0.485 0.456 0.406, std 0.229 0.224 0.225" notes || fail "$(cat notes)"
if cmp -s two three; then fail "eval: torchvision's names change nothing"; fi
"$vitrine" eval "${named[@]}" --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5 >three 2>/dev/null
cmp two three || fail "eval: --mean and --std give $(cat three), not $(cat two)"
refuse 1 "copy/model.safetensors: exists already" convert runs/whole copy --to timm
refuse 2 "vitrine convert: --to" convert runs/whole other --to keras
refuse 1 "none: no such file or folder" convert none other --to timm

# ---- A contact sheet ----
"$vitrine" augment grey.png grey.png --aa rand-m9-mstd0.5-inc1 --mixup 0.8 --versions 3 -o sheet.png >log || fail "augment: $(cat log)"
grep -q '^sheet.png: [0-9]*x[0-9]* pixels, 2 images, 3 versions of each, policy rand' log || fail "augment: $(cat log)"
[[ $(head -c 4 sheet.png | tail -c 3) == PNG ]] || fail "augment: sheet.png is not a PNG file"
"$vitrine" augment grey.png --mixup 0.8 -o one.png | grep -q 'give an even number' || fail "augment: mixup of one image"
refuse 2 'vitrine augment: --aa: augmentation policy "rand-q1": "q1" is not understood' augment grey.png --aa rand-q1
refuse 2 "vitrine augment: images is required" augment
refuse 1 "none.png" augment none.png
refuse 1 "/none/sheet.png" augment grey.png -o /none/sheet.png

# ---- Stopping and going on ----
# begin NAME ARGUMENT...: starts a run that would take forever, and returns when its first epoch is over. Sets `process`.
begin() {
  local name=$1
  shift
  : >"$name.log"
  "$vitrine" train "${small[@]}" --epochs 100000 --experiment "$name" "$@" >"$name.log" 2>&1 &
  process=$!
  for _ in $(seq 600); do
    if grep -q '^epoch 0: ' "$name.log"; then return; fi
    sleep 0.1
  done
  fail "$name: no epoch in a minute: $(cat "$name.log")"
}

for signal in INT TERM; do
  begin "$signal"
  kill -s "$signal" "$process"
  status=0
  wait "$process" || status=$?
  last=$(tail -n 3 "$signal.log")
  [[ $status == $((128 + $(kill -l "$signal"))) ]] || fail "SIG$signal: exit code $status: $last"
  grep -q "^saved runs/$signal/last.safetensors" "$signal.log" || fail "SIG$signal: $last"
  grep -q "go on with: vitrine train --resume runs/$signal\$" "$signal.log" || fail "SIG$signal: $last"
done
"$vitrine" train "${small[@]}" --experiment parts --max-steps 3 >/dev/null
"$vitrine" train --resume runs/parts >log
grep -q '^resumed: epoch 0, batch 3, update 3 of runs/parts/last.safetensors' log || fail "resume: $(cat log)"
cmp runs/whole/model.safetensors runs/parts/model.safetensors || fail "the resumed run ended with other weights"

refuse 2 "--experiment: is 'other', but the run that --resume goes on with has 'parts'" \
  train --resume runs/parts --experiment other
refuse 2 "--seed: is '3'" train --resume runs/parts --seed 3
refuse 2 "--threads: '100000' is not accepted, expected an integer from 0 to 1024" train "${small[@]}" --threads 100000

# ---- Standard output is closed: the run is saved ----
status=0
"$vitrine" train "${small[@]}" --epochs 100000 --experiment closed 2>closed.err | head -n 1 >/dev/null || status=$?
[[ -e runs/closed/last.safetensors && ! -s closed.err ]] || fail "closed output: $(cat closed.err)"

# ---- kill -9 at any moment leaves files that can be read ----
begin killed --recovery-interval 1
kill -9 "$process"
wait "$process" 2>/dev/null || true
"$vitrine" train --resume runs/killed --epochs 100000 --max-steps 1 >log || fail "after kill -9: $(cat log)"
"$vitrine" eval --checkpoint runs/killed/last.safetensors >/dev/null || fail "after kill -9"

# ---- A full disk, where this user may mount a small one ----
mkdir disk
if mount -t tmpfs -o size=300k none disk 2>/dev/null; then
  trap 'umount "$folder/disk"; rm -rf "$folder"' EXIT
  refuse 1 "bytes needed" train "${small[@]}" --model-kwargs patch_size=8 embed_dim=96 depth=2 num_heads=3 --output disk
  grep -q 'bytes free on its disk' err || fail "$(cat err)"
fi
echo "program.sh: all as expected"
