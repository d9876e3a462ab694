"""The part `reproduce`: rows of benchmarks/reproduce in its full form, as many as fit; those of earlier calls are not repeated."""

import csv
import os
import re

from gpu_check.job import outcome, skipped
from gpu_check.training_runs import workers

KEPT = "benchmarks/results/reproduce-full/runs.csv"


def read_runs(path):
    """The lines of a runs.csv by (row, seed); a student's two heads besides the student have rows of their own."""
    try:
        with open(path) as file:
            return {(run["row"], run["seed"]): run for run in csv.DictReader(file)}
    except OSError:
        return {}


def reproduce(job, seeds):
    if not job.arguments.data_dir:
        return skipped("no --data-dir with CIFAR-10 as images was given")
    with open(os.path.join(job.root, "benchmarks/reproduce.table")) as file:
        rows = [line.split("|")[0].strip() for line in file if not line.startswith("#")]
    wanted = [(row, str(seed)) for seed in range(1, int(seeds) + 1) for row in rows]
    merged = read_runs(os.path.join(job.root, KEPT))
    runs = {(run["row"], run["seed"]): run for run in job.earlier.get("runs", [])}
    folder, teacher, trouble = os.path.join(job.lasting, "reproduce"), job.earlier.get("teacher"), None
    for row, seed in wanted:
        if (row, seed) in merged or (row, seed) in runs or job.left() <= 1:
            continue
        status, output = job.run([os.path.join(job.root, "benchmarks/reproduce"), "--form", "full", "--rows", f"^{row}$", "--seeds",
                                  f"{seed}-{seed}", "--data-dir", job.data_dir(), "--output", folder, "--program",
                                  job.program("vitrine"), "--", "--device", "cuda", "--amp", "--workers", str(workers())])
        print(output, flush=True)
        if status == 0:
            runs.update(read_runs(os.path.join(folder, "runs.csv")))
            teacher = (re.findall(r"teacher ([\d.]+)%", output) or [teacher])[-1]
        elif status is not None:
            trouble = f"{row} with seed {seed}: exit status {status}"
            break
    left = [f"{row} {seed}" for row, seed in wanted if (row, seed) not in {**merged, **runs}]
    figures = ", ".join(f"{row} {seed}: {run['eval_top1']}%" for (row, seed), run in runs.items()) or "no row was finished"
    return outcome(trouble is None, "; ".join(filter(None, [trouble, figures, left and f"missing: {', '.join(left)}"])), bool(left),
                   runs=list(runs.values()), teacher=teacher)
