"""The parts `profile-...`: time and bytes of every kernel of one training step, by Nsight Compute."""

import shutil

from gpu_check.job import outcome, skipped
from gpu_check.kernel_table import BYTES, TIME, TableError, read_launches, sum_by_kernel


def profile(job, model, batch):
    """The step is not recorded, as ncu sees a replayed graph as one; cuBLASLt's algorithms are its first choices, as timing them
    would be measured too. No other way is tried where ncu is missing: the build has no clock of its own for single kernels."""
    ncu = shutil.which("ncu") or shutil.which("ncu", path="/usr/local/cuda/bin")
    if not ncu:
        return skipped("not possible: ncu was not found, and nothing else here times single kernels")
    # At the clocks of a run, and with what the kernel before left in the cache: as in a step.
    command = [ncu, "--metrics", f"{TIME},{BYTES}", "--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none",
               "--cache-control", "none", job.program("train_step"), "--model", model, "--batch-size", batch, "--device", "cuda",
               "--amp", "--no-graph", "--steps", "1", "--warmup"]
    launches = []
    for warmup in ("1", "2"):  # the second run has one step more: so many launches are a step
        status, output = job.run([*command, warmup])
        if "ERR_NVGPUCTRPERM" in output:
            return skipped("not possible: ncu may not read the GPU's counters here (ERR_NVGPUCTRPERM)")
        try:
            launches.append(read_launches(output) if status == 0 else [])
        except TableError as error:
            return outcome(False, str(error), output=output[:4000])
        if not launches[-1]:
            return outcome(status is None, f"no kernels with --warmup {warmup}, exit status {status}", True, output=output[-4000:])
    fewer, more = launches
    count = len(more) - len(fewer)
    step = more[-count:] if count > 0 else []
    if not step or [name for name, *_ in step] != [name for name, *_ in fewer[-count:]]:
        return outcome(False, f"{len(fewer)} launches with a step of warm-up and {len(more)} with two do not end in the same step")
    kernels = sum_by_kernel(step)
    total = sum(row["microseconds"] for row in kernels)
    longest = ", ".join(f"{row['kernel'].split('<')[0]} {row['microseconds'] / 1e3:.1f}" for row in kernels[:4])
    return outcome(True, f"{count} launches, {total / 1e3:.1f} ms; the longest, in ms: {longest}", kernels=kernels)
