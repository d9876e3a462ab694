"""The parts `step-g1` to `step-g4`: a training step against PyTorch's, and with --data-dir whole epochs beside those of g4."""

import os
import shlex
import sys

from gpu_check.job import outcome, read_json, skipped
from gpu_check.training_runs import EPOCH_FLOOR, time_epochs


def step(job, workload, *more):
    """more: flags of benchmarks/compare_on_gpu."""
    epochs = [time_epochs(job, batch) for batch in (512, 128)] if workload == "g4" and job.arguments.data_dir else []
    lines = ["whole epochs were not timed: no --data-dir" if workload == "g4" and not epochs else ""]
    for result in epochs:
        line = result.get("failure") or f"{result['images_per_second']:.0f} img/s"
        if result["batch"] == 512 and "failure" not in result:
            line += f", floor of {EPOCH_FLOOR} " + ("met" if result["images_per_second"] >= EPOCH_FLOOR else "missed")
        lines.append(f"our whole epochs, batch {result['batch']}: {line}")
        print(lines[-1], flush=True)
    good = not any("failure" in result for result in epochs)
    report, cut = dict(epochs=epochs), False
    if job.run([sys.executable, "-c", "import safetensors, timm, torch"], ours=False)[0] != 0:
        if not epochs:
            return skipped(f"{sys.executable} has no torch, timm and safetensors")
        lines.append(f"no comparison: {sys.executable} has no torch, timm and safetensors")
    else:
        status, cut, compared = compare_steps(job, workload, more)
        report.update(compared)
        good = good and status in (0, None)
        lines += [f"batch {result['batch']}: {result['headline']}" for result in compared.get("results", [])]
        for result in epochs:  # the peer's rate is that of bare steps: its loader is taken to cost nothing
            sides = next((r.get("sides", {}) for r in compared.get("results", []) if r["batch"] == result["batch"]), {})
            result["of_bare_steps"] = {name: result["images_per_second"] / side["images_per_second"]
                                       for name, side in sides.items() if "images_per_second" in result}
            lines += [f"our epochs / {name}'s bare steps, batch {result['batch']}: {ratio:.2f}"
                      for name, ratio in result["of_bare_steps"].items()]
    return outcome(good, "; ".join(filter(None, lines)), cut, **report)


def compare_steps(job, workload, more):
    """Exit status of benchmarks/compare_on_gpu, whether time was over too early, and the report."""
    path = os.path.join(job.scratch, f"step-{workload}.json")
    # Our program finds CUDA's libraries through this wrapper; PyTorch must find its own.
    wrapper = os.path.join(job.scratch, "train_step")
    with open(wrapper, "w") as file:
        file.write(f'#!/bin/sh\nLD_LIBRARY_PATH={shlex.quote(job.environment["LD_LIBRARY_PATH"])} exec '
                   f'{shlex.quote(job.program("train_step"))} "$@"\n')
    os.chmod(wrapper, 0o755)
    status, output = job.run([sys.executable, os.path.join(job.root, "benchmarks/compare_on_gpu"), "--workload", workload,
                              "--ours", wrapper, "--limit", str(max(1, int(job.left()) - 10)), "--json", path, *more], ours=False)
    print(output, flush=True)
    report = read_json(path) or dict(results=[dict(batch="?", headline=f"no report, exit status {status}")], output=output[-4000:])
    cut = any(result.get("out_of_time", status is None) for result in report["results"])
    return status, cut, report
