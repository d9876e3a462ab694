"""What `vitrine train` does on the GPU: losses beside the CPU's, CIFAR-10, and the whole epochs of `step-g4`."""

import math
import os
import re
import shlex
import time

from gpu_check.job import outcome, skipped

CURVE_BOUND = 1e-4  # relative, for each loss in f32
EPOCH_FLOOR = 60000  # G4: images a second of whole epochs, batch 512


def workers():
    """Of the loader."""
    return max(1, len(os.sched_getaffinity(0)) - 2)


def max_of(numbers):
    """The largest; NaN where there is one."""
    return max(numbers, key=lambda x: math.inf if math.isnan(x) else x)


def curve(job):
    """An epoch is one update here, so that summary.csv has the loss of each. Heads of 64: in bf16, attention is on tensor cores."""
    flags = shlex.split("--dataset shapes --train-num-samples 64 --val-num-samples 64 --batch-size 64 --epochs 50 --lr 5e-4 "
                        "--warmup-epochs 5 --val-interval 50 --checkpoint-hist 0 --model vit_tiny_patch4_32 --model-kwargs depth=4 "
                        "--seed 1")
    losses = {}
    for amp in (False, True):
        for device in ("cpu", "cuda"):
            name = f"{device} {'bf16' if amp else 'f32'}"
            status, epochs, output = job.train(f"curve {name}", [*flags, "--device", device] + ["--amp"] * amp)
            losses[name] = [float(row["train_loss"]) for row in epochs]
            if status != 0 or len(epochs) != 50:
                return outcome(status is None, f"{name}: exit status {status}, {len(epochs)} of 50 updates", True,
                               losses=losses, output=output[-4000:])
    exact = losses["cpu f32"]
    worst = {name: max_of([abs(a - b) / abs(b) for a, b in zip(values, exact)]) for name, values in losses.items()}
    bf16_bound = 0.01 + 2 * worst["cpu bf16"]
    good = worst["cuda f32"] <= CURVE_BOUND and worst["cuda bf16"] <= bf16_bound
    return outcome(good, f"50 losses, relative to the CPU's in f32: f32 within {worst['cuda f32']:.1e} (accepted "
                   f"{CURVE_BOUND:.0e}), bf16 {worst['cuda bf16']:.1e} (accepted {bf16_bound:.1e}; the CPU's bf16 "
                   f"{worst['cpu bf16']:.1e})", losses=losses, worst=worst)


def time_epochs(job, batch, images=50000):
    """Whole epochs of `vitrine train`: crop, flip, erasing, mixup and CutMix, on the GPU. They count if the first epoch learns what
    it learns from batches that the CPU makes, within the noise of bf16."""
    flags = shlex.split(f"--model vit_tiny_patch4_32 --batch-size {batch} --device cuda --amp --cuda-autotune --lr 5e-4 "
                        "--warmup-epochs 0 --sched constant --reprob 0.25 --mixup 0.8 --cutmix 1 --val-interval 1000 "
                        "--checkpoint-hist 0")
    flags += ["--data-dir", job.data_dir(), "--workers", str(workers())]
    expected, epochs = (job.train(f"epochs {batch} {name}", [*flags, *more]) for name, more in (
        ("copied", ["--epochs", "1", "--device-data", "off"]), ("on the GPU", ["--epochs", "6"])))
    result = dict(batch=batch, copied=expected[1], on_the_gpu=epochs[1])
    if expected[0] != 0 or epochs[0] != 0:
        return dict(result, failure=f"exit status {expected[0]} and {epochs[0]}", output=(expected[2] + epochs[2])[-4000:])
    a, b = (float(rows[0]["train_loss"]) for rows in (epochs[1], expected[1]))
    if not abs(a - b) <= 0.01 * b:
        return dict(result, failure=f"the first epoch's losses differ: {a:.4f} on the GPU, {b:.4f} with copied batches")
    # The column is the mean since the start. Its clock stops before the last update of an epoch has ended.
    first, last = (float(epochs[1][i]["images_per_second"]) for i in (0, -1))
    updates = images // batch
    speed = (len(epochs[1]) - 1) / (len(epochs[1]) / last - 1 / first) * (updates - 1) / updates
    return dict(result, images_per_second=speed)


def cifar(job, recipe, goal, goal_seconds):
    """Trains recipes/RECIPE.yaml; goal: top-1 in percent, within so many seconds."""
    if not job.arguments.data_dir:
        return skipped("no --data-dir with CIFAR-10 as images was given")
    flags = ["-c", os.path.join(job.root, f"recipes/{recipe}.yaml"), "--data-dir", job.data_dir(), "--device", "cuda", "--amp",
             "--cuda-autotune", "--workers", str(workers()), "--time-limit", str(max(1, job.left() - 20) / 60)]
    start = time.monotonic()
    status, epochs, output = job.train("cifar", flags)
    wall_clock = time.monotonic() - start
    try:
        with open(os.path.join(job.scratch, "runs", "cifar", "args.yaml")) as file:
            wanted = int(re.search(r"^epochs: *(\d+)", file.read(), re.M)[1])
    except (OSError, TypeError):
        wanted = 0
    if not epochs:
        return outcome(status is None, f"exit status {status}, no epoch was finished", True, output=output[-4000:])
    evaluated = [float(row["eval_top1"]) for row in epochs if row["eval_top1"] not in ("", "nan")]
    done, top1 = len(epochs) == wanted and status == 0, evaluated[-1] if evaluated else float("nan")
    met = "met" if done and top1 >= float(goal) and wall_clock <= float(goal_seconds) else "missed"
    return outcome(status in (0, None), f"top-1 {top1:.2f}%, {len(epochs)} of {wanted} epochs in {wall_clock:.0f} s, "
                   f"{epochs[-1]['images_per_second']} img/s; goal of {goal}% in {goal_seconds} s: {met}", not done,
                   top1=top1, epochs=epochs, wall_clock_seconds=wall_clock, flags=shlex.join(flags), output=output[-4000:])
