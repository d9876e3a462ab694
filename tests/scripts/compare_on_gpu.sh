#!/usr/bin/env bash
# benchmarks/compare_on_gpu with stand-ins for both sides, on the CPU: PyTorch compiles first, ours comes last; what does not
# compile in time, learns something else or ends early is not counted.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/support/gpu_stand_ins.bash"
need_python
mkdir -p tree/benchmarks
cp "$root/benchmarks/compare_on_gpu" tree/benchmarks

# Both sides: `side.py --mode MODE` or, without one, ours. A step takes as long as $TIMES says of its name.
cat >tree/benchmarks/pytorch_step.py <<'END_OF_SIDE'
import json, os, sys, time
if "--export" in sys.argv:
    sys.exit()
name = sys.argv[sys.argv.index("--mode") + 1] if "--mode" in sys.argv else "ours"
name = "f32" if "--tf32" in sys.argv else name
with open("log", "a") as log:
    print(name, os.path.basename(os.environ["TORCHINDUCTOR_CACHE_DIR"]), file=log)
how = json.loads(os.environ["TIMES"]).get(name, 5)
for line in sys.stdin:
    warmup, steps = map(int, line.split())
    if how == "never":
        time.sleep(86399)
    if how == "dies":
        sys.exit("no kernel image")
    first = 3.0 if how == "astray" else 2.0
    print(json.dumps(dict(version=name, milliseconds=[5 if how == "astray" else how] * steps, losses=[first] * (warmup + steps),
                          peak_bytes=2**30, device_name="NVIDIA H200", flops_per_image=10**9, allocations=0, system_allocations=0)),
          flush=True)
END_OF_SIDE
printf '#!/bin/sh\nexec python3 tree/benchmarks/pytorch_step.py "$@"\n' >ours
chmod +x ours

# compare CODE TIMES FLAG...
compare() {
  local code=$1 times=$2
  shift 2
  rm -f log
  TIMES=$times expect "$code" python3 tree/benchmarks/compare_on_gpu --workload g1 --ours ./ours --json result.json "$@"
}

# result KEY: as JSON.
result() { python3 -c 'import json, sys; print(json.dumps(json.load(open("result.json"))["results"][0].get(sys.argv[1])))' "$1"; }

compare 0 '{"ours": 4, "eager": 9, "compile": 7, "reduce-overhead": 6}'
[[ $(xargs <log) == "compile torchinductor reduce-overhead torchinductor f32 torchinductor eager torchinductor ours torchinductor" ]] ||
  fail "the sides began in this order: $(xargs <log)"
says "ours 4.00 ms 1.0 GiB, reduce-overhead 6.00 ms 1.0 GiB, eager 9.00 ms 1.0 GiB, ours/C 1.50, ours/E 2.25, 64000 img/s"
[[ $(result compile_modes_ms) == '{"compile": 7.0, "reduce-overhead": 6.0}' ]] || fail "modes: $(result compile_modes_ms)"

# cut: whether it says that time ran out.
cut() { [[ $(result out_of_time) == "$1" ]] || fail "out_of_time is $(result out_of_time), expected $1: $(cat out)"; }
cut false

# One mode that never ends has its share of the time, 0.6 of 5 s, and no more; the others are measured all the same.
compare 0 '{"compile": 6, "reduce-overhead": "never"}' --limit 5
says "not counted: reduce-overhead: out of time" "compile 6.00 ms" "ours/C 1.20"
cut true
compare 0 '{"compile": "never"}' --limit 5
says "not counted: compile: out of time" "reduce-overhead was not tried: out of time" "ours/E 1.00" "not judged: compiled"
compare 0 '{"compile": "dies"}' --modes compile
says "not counted: compile: exit status 1: no kernel image" "not judged: compiled"
compare 0 '{"reduce-overhead": "astray", "compile": 6}'
says "not counted: reduce-overhead: its losses differ from eager's by 1.0000" "ours/E 1.00" "not judged: compiled"
compare 0 '{"f32": "dies"}' --modes reduce-overhead
says "f32: exit status 1: no kernel image; so the losses may differ by" "ours/C 1.00"
compare 1 '{"ours": "astray"}'
says "FAILED: the first losses differ: ours 3, eager 2; no ratio"
cut false
compare 0 '{"ours": "never", "compile": 6}' --modes compile --limit 4
[[ $(result headline) == '"ours: out of time; compile 6.00 ms a step; f32 5.00 ms a step; eager 5.00 ms a step"' ]] ||
  fail "what was measured before time ran out: $(result headline)"
cut true
