"""The parts `kernels-...`: the speed of every op, of the fused ones against PyTorch's, and of the rungs of the ladders."""

import json
import os
import statistics
import sys

from gpu_check.job import outcome, read_json

FUSED = "^(attention|self_attention|layer_norm|gelu|softmax|linear|matmul|cross_entropy) "  # rows with a kernel of their own


def time_kernels(job, name, flags):
    """What benchmarks/ops reports, with its exit status, and a line about it."""
    path = os.path.join(job.scratch, f"kernels-{name}.json")
    status, output = job.run([job.program("ops"), "--device", "cuda", *flags, "--json", path])
    print(output, flush=True)
    report = dict(read_json(path) or dict(rows=[], output=output[-2000:]), exit_status=status)
    failures = [row for row in report["rows"] if "failure" in row]
    line = f"{name}: {len(report['rows']) - len(failures)} of {len(report['rows'])} rows"
    shares = [row["percent_of_peak"] for row in report["rows"] if "GB/s" in row]
    if shares:
        line += (f", {statistics.median(shares):.0f}% of {report['peak_gb_per_s']:.0f} GB/s in the median, "
                 f"{sum(share >= 70 for share in shares)} of {len(shares)} reach G11's 70%; products' peak "
                 f"{report['peak_tflops']:.0f} TFLOP/s")
    return path, report, line + ("" if status is not None else ", out of time")


def floor_of(row):
    """What G10 and G11 want of a row: which ratio, and how much of it."""
    if row["op"] == "attention":
        return "whole", 1.5 if "+" in row["size"] else 1.0  # with a bias: the windows of Swin
    return ("backward", 1.7) if row["op"] == "layer_norm" else None


def compare_kernels(job):
    """Forward and backward of the fused ops, ours and PyTorch's in turns: two rounds."""
    rounds, ratios, lines = [], {}, []
    has_torch = job.run([sys.executable, "-c", "import torch"], ours=False)[0] == 0
    for _ in range(2 if has_torch else 1):
        path, ours, line = time_kernels(job, "bf16 backward", ["--dtype", "bf16", "--backward", "--filter", FUSED])
        rounds.append(dict(ours=ours))
        lines = [line]
        if not has_torch or not ours["rows"]:
            continue
        status, output = job.run([sys.executable, f"{job.root}/benchmarks/pytorch_ops.py", "--rows", path], ours=False)
        print(output, flush=True)
        theirs = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        rounds[-1]["pytorch"] = dict(exit_status=status, rows=theirs, output=output[-4000:])
        for row in theirs:
            mine = next(r for r in ours["rows"] if (r["op"], r["size"]) == (row["op"], row["size"]))
            pair = dict(whole="median_us", backward="backward_us")
            if "failure" not in row:
                ratios.setdefault((row["op"], row["size"]), []).append({name: row[key] / mine[key] for name, key in pair.items()})
    compared = []
    for (op, size), pairs in ratios.items():
        row = dict(op=op, size=size, **{name: statistics.fmean(pair[name] for pair in pairs) for name in ("whole", "backward")})
        row["floor"] = floor_of(row)
        row["floor_met"] = row[row["floor"][0]] >= row["floor"][1] if row["floor"] else None
        compared.append(row)
        lines.append(f"{op} {size} {row['whole']:.2f} (backward {row['backward']:.2f}) x PyTorch" +
                     (f", below the floor of {row['floor'][1]}" if row["floor_met"] is False else ""))
    for i, one in enumerate(rounds):
        theirs = one.get("pytorch", dict(exit_status=0, rows=[]))
        if theirs["exit_status"] != 0:
            lines.append(f"PyTorch's side of round {i + 1}: " + (f"exit status {theirs['exit_status']}" if theirs["exit_status"]
                                                               is not None else "out of time"))
        lines += [f"PyTorch's {row['op']} {row['size']} failed" for row in theirs["rows"] if "failure" in row]
    return dict(rounds=rounds, ratios=compared), "; ".join(lines)


def climb_ladders(job):
    """What benchmarks/ladders reports, with its exit status, and a line about it."""
    path = os.path.join(job.scratch, "ladders.json")
    status, output = job.run([job.program("ladders"), "--device", "cuda", "--json", path])
    print(output, flush=True)
    report = dict(exit_status=status, rows=read_json(path) or [], output=output[-8000:])
    lines = [] if report["rows"] else ["ladders: no report" + ("" if status is not None else ", out of time")]
    for ladder in report["rows"]:
        right = [rung for rung in ladder["rungs"] if "failure" not in rung]
        line = f"ladder {ladder['ladder']}: {len(right)} of {len(ladder['rungs'])} rungs"
        if right:
            best = max(right, key=lambda rung: rung["percent_of_peak"])
            line += f", best {best['percent_of_peak']:.0f}% of peak: {best['rung']}"
        lines.append(line)
    return report, "; ".join(lines)


def judge(figures, reports, **details):
    """The outcome of a part: a report without rows says nothing, unless time was over."""
    good = all(report["exit_status"] is None or report["exit_status"] == 0 and report["rows"] for report in reports)
    good = good and not any("failure" in row for report in reports for row in report["rows"])
    return outcome(good, figures, any(report["exit_status"] is None for report in reports), **details)


def fused(job):
    both, line = compare_kernels(job)
    return judge(line, [side for one in both["rounds"] for side in one.values()], backward=both)


def every_op(job):
    _, f32, line_f32 = time_kernels(job, "f32", ["--dtype", "f32"])
    _, bf16, line_bf16 = time_kernels(job, "bf16", ["--dtype", "bf16"])
    return judge(f"{line_f32}; {line_bf16}", [f32, bf16], f32=f32, bf16=bf16)


def ladders(job):
    report, line = climb_ladders(job)
    return judge(line, [report], ladders=report["rows"], output=report["output"])
