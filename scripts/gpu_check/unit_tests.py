"""Unit tests as they are, and those of the kernels under compute-sanitizer."""

import concurrent.futures
import fnmatch
import os
import re
import shutil

from gpu_check.job import outcome, read_json, skipped

SILENT_SECONDS = 120  # after which a test counts as hung
CUDA_TESTS = ["*Cuda*", "*CUDA*", "Uploading.*"]
# After one of these, no CUDA call of the process works any more: what follows says nothing about later tests.
STICKY = re.compile(r"illegal memory access|illegal instruction|misaligned address|unspecified launch failure|"
                    r"device-side assert|launch timed out|hardware stack error|invalid program counter")
SANITIZED = ["add", "sum", "softmax", "layer_norm", "gelu", "cross_entropy", "linear", "matmul", "attention", "self_attention",
             "dropout", "gather", "transpose"]
# Their heads are too narrow for the tensor cores, and their rows short: these are what reaches the kernels that matter.
MEMORY_TESTS = "TensorCore.*:AttentionCuda.*:LayerNormCuda.*:BiasGeluCuda.*:GemmCuda.Epilogues:*DeviceData*Cuda"
RACE_TESTS = ("TensorCore.*:AttentionCuda.LengthsAtTheEdgesOfTiles:AttentionCuda.MoreRowsThanSharedMemoryHolds:BiasGeluCuda.*:"
              "LayerNormCuda.*")


def list_tests(job):
    status, output = job.run([job.program("vitrine_tests"), "--gtest_list_tests"])
    names, suite = [], ""
    for line in output.splitlines():
        word = line.split("#")[0].rstrip()
        if word.startswith("  "):
            names.append(suite + word.strip())
        elif word.endswith("."):
            suite = word
    return (names if status == 0 else []), output


def run_tests(job, names):
    """Result by name and the text of what failed. A process that died, or whose GPU context did, is followed by a fresh one."""
    results, texts = {}, {}
    pending = list(names)
    while pending and job.left() > 1:
        # A kernel that never ends must not take the time of the others.
        command = [job.program("vitrine_tests"), "--gtest_filter=" + ":".join(pending)]
        status, output = job.run(command, silence=SILENT_SECONDS)
        running, text = None, []
        for line in output.splitlines():
            match = re.match(r"\[ +(RUN|OK|FAILED|SKIPPED) +\] ([^ ,]+)", line)
            if not match or (match[1] != "RUN" and match[2] != running):
                text.append(line)
            elif match[1] == "RUN":
                running, text = match[2], []
            else:
                results[running] = match[1]
                if match[1] == "FAILED":
                    texts[running] = "\n".join(text)[-2000:]
                    if STICKY.search(texts[running]):
                        running = None
                        break
                running = None
        if running is not None:  # it did not end
            results[running] = "DIED" if status is not None else "CUT" if job.left() <= 1 else "HUNG"
            texts[running] = "\n".join(text)[-2000:]
        before, pending = len(pending), [name for name in pending if name not in results]
        if len(pending) == before:
            texts["the test program"] = output[-2000:]
            break
    results.update({name: "NOT RUN" for name in pending})
    return results, texts


def run_sharded(job, names, shards):
    results, texts = {}, {}
    with concurrent.futures.ThreadPoolExecutor(shards) as pool:
        for more, more_texts in pool.map(lambda shard: run_tests(job, names[shard::shards]), range(shards)):
            results.update(more)
            texts.update(more_texts)
    return results, texts


def tests(job):
    # In this order: what all kernels of the tensor cores rest on takes a second; what needs much memory runs alone.
    groups = dict(tensor_cores=[], cuda=[], large=[], others=[])
    names, output = list_tests(job)
    for name in names:
        suite, on_cuda = name.split(".")[0], any(fnmatch.fnmatchcase(name, pattern) for pattern in CUDA_TESTS)
        groups[dict(TensorCore="tensor_cores", LargeOnCuda="large").get(suite, "cuda" if on_cuda else "others")].append(name)
    if not groups["cuda"] or not groups["others"]:
        return outcome(False, "the test program does not list tests of CUDA and others", output=output[:2000])
    cores = len(os.sched_getaffinity(0))
    results, texts = {}, {}

    def run_group(name, shards):
        more, more_texts = run_sharded(job, groups[name], shards)
        results.update(more)
        texts.update(more_texts)
        print(f"tests: {sum(result == 'OK' for result in more.values())} of {len(more)} OK: {name}", flush=True)

    run_group("tensor_cores", 1)
    run_group("cuda", max(1, min(4, cores // 2)))
    run_group("large", 1)
    gradients_file = os.path.join(job.scratch, "gradcheck.json")
    status, output = job.run([job.program("vitrine"), "gradcheck", "--device", "cuda", "--json", gradients_file])
    gradients = read_json(gradients_file) or []
    print(output.strip().split("\n")[-1], flush=True)
    run_group("others", max(1, min(8, cores // 2)))
    counts = {kind: sum(result == kind for result in results.values()) for kind in sorted(set(results.values()))}
    left_out = [name for name, result in results.items() if result in ("CUT", "NOT RUN")]
    bad = [name for name, result in results.items() if result not in ("OK", "SKIPPED", "CUT", "NOT RUN")]
    for name in bad[:20]:
        print(f"{results[name]}: {name}\n" + "\n".join(texts.get(name, "").splitlines()[:6]))
    cut = job.left() <= 1
    good = not bad and (cut or (not left_out and status == 0 and len(gradients) > 0))
    figures = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    worst = max((row["worst_relative_error"] for row in gradients), default=float("nan"))
    gradients_say = f"gradcheck: {len(gradients)} ops, exit {status}, worst {worst:.1e}" if status is not None else "gradcheck: cut"
    return outcome(good, f"{figures}; {gradients_say}", cut, counts=counts,
                   not_passed={name: [results[name], texts.get(name, "")] for name in bad}, left_out=left_out,
                   other_texts={name: text for name, text in texts.items() if name not in results}, gradcheck=gradients,
                   gradcheck_output=output[-20000:])


def sanitizer(job, kind):
    """kind: memcheck or racecheck."""
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if not tool:
        return skipped("compute-sanitizer was not found")
    rows = SANITIZED if kind == "memcheck" else SANITIZED[1:4] + ["attention"]
    plan = dict(kernels=MEMORY_TESTS if kind == "memcheck" else RACE_TESTS,
                rows=":".join(f"*OpTableOnCuda.{dtype}/{row}" for dtype in ("F32", "Bf16") for row in rows))
    runs, lines, good = {}, [], True
    for i, (what, tests) in enumerate(plan.items()):
        # cudaEventQuery answers "not ready" as a matter of course, which memcheck would report as an error.
        more = ["--report-api-errors", "no"] if kind == "memcheck" else []
        status, output = job.run([tool, "--tool", kind, *more, "--error-exitcode", "9", "--print-limit", "20",
                                  job.program("vitrine_tests"), f"--gtest_filter={tests}"], seconds=job.left() / (len(plan) - i))
        if "Device not supported" in output:
            return skipped("compute-sanitizer does not support this device")
        ran = len(re.findall(r"^\[       OK \]", output, re.M))
        # Without a summary, because time was over, what was said of single accesses counts.
        errors = re.findall(r"^=+ (?:Invalid|Misaligned|Error: ).*|^\[  FAILED  \].*", output, re.M)
        last = [line for line in output.splitlines() if "SUMMARY" in line][-1:] or [f"no summary, {len(errors)} errors so far"]
        good = good and (status == 0 and ran > 0 or status is None and not errors)
        runs[what] = dict(exit_status=status, tests=ran, errors=errors[:20], output=output[-20000:])
        lines.append(f"{kind} of {what}: {ran} tests, {last[0].strip('= ')}" + ("" if status is not None else ", out of time"))
    return outcome(good, "; ".join(lines), any(run["exit_status"] is None for run in runs.values()), runs=runs)
