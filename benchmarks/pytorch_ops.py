"""PyTorch's side of the kernel benchmark: forward and backward of the fused ops, at the sizes that our side has just used.

    pytorch_ops.py --rows FILE     FILE is what `ops --device cuda --dtype bf16 --backward --json FILE` wrote

Ends with one JSON object: for each op that PyTorch has too, the fastest of what it offers, checked against its own f32. Run by
scripts/gpu-check. Times are medians in microseconds, from CUDA events, on inputs that rotate as on our side.
"""

import argparse
import json
import re
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

LARGE = 2**28  # bytes: see benchmarks/support/device_rows.cpp


def sizes(row):
    """The numbers of each parenthesis of "(8320, 192) (192, 768)", the first one with its repetitions along dim 0."""
    shapes = [[int(n) for n in re.findall(r"\d+", group)] for group in re.findall(r"\(([^()]*)\)", row["size"])]
    shapes[0][0] *= int(row["repeated"])
    return shapes


def with_backend(backend):
    def attention(q, k, v):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v)
    return attention


def candidates(row):
    """Shapes of the floating inputs, the op in f32, and the ways in which PyTorch can do it in bf16."""
    shapes, op = sizes(row), row["op"]
    if op == "attention":
        backends = dict(flash=SDPBackend.FLASH_ATTENTION, cudnn=SDPBackend.CUDNN_ATTENTION,
                        efficient=SDPBackend.EFFICIENT_ATTENTION)
        ways = {name: with_backend(backend) for name, backend in backends.items()}
        return [shapes[0]] * 3, F.scaled_dot_product_attention, ways
    width = shapes[0][-1]
    functions = dict(
        layer_norm=([shapes[0], [width], [width]], lambda x, w, b: F.layer_norm(x, (width,), w, b, 1e-6)),
        softmax=([shapes[0]], lambda x: F.softmax(x, -1)),
        gelu=([shapes[0]], F.gelu),
        linear=([shapes[0], *shapes[1:2], shapes[-1][:1]], F.linear),
        matmul=(shapes[:2], torch.matmul),
    )
    if op not in functions:
        return None
    inputs, function = functions[op]
    return inputs, function, dict(eager=function, compiled=torch.compile(function))


def both_ways(function, inputs, dy):
    y = function(*inputs)
    return y, torch.autograd.grad(y, inputs, dy)


def check(function, exact, inputs, dy):
    """A way that does not give what f32 gives is no peer."""
    y, gradients = both_ways(function, inputs, dy)
    expected, expected_gradients = both_ways(exact, [x.detach().float().requires_grad_() for x in inputs], dy.float())
    for a, b in zip([y, *gradients], [expected, *expected_gradients]):
        error = ((a.float() - b).norm() / b.norm()).item()
        if not error <= 3e-2:
            raise RuntimeError(f"differs from f32 by {error:.1e}")


def time_function(function, exact, shapes, repetitions):
    """Median time of forward and backward, and of backward alone."""
    bytes_of_inputs = 2 * sum(torch.Size(shape).numel() for shape in shapes)
    copies = min(64, max(2, LARGE // bytes_of_inputs))
    sets = [[torch.rand(shape, device="cuda").sub_(0.5).mul_(4).bfloat16().requires_grad_() for shape in shapes]
            for _ in range(copies)]
    dy = torch.randint(-2, 3, function(*sets[0]).shape, device="cuda").bfloat16()
    check(function, exact, sets[0], dy)
    for i in range(5):
        both_ways(function, sets[i % copies], dy)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2 * repetitions + 1)]
    events[0].record()
    for i in range(repetitions):
        inputs = sets[i % copies]
        y = function(*inputs)
        events[2 * i + 1].record()
        torch.autograd.grad(y, inputs, dy)
        events[2 * i + 2].record()
    torch.cuda.synchronize()
    parts = [a.elapsed_time(b) for a, b in zip(events, events[1:])]
    whole = [a + b for a, b in zip(parts[::2], parts[1::2])]
    return 1e3 * statistics.median(whole), 1e3 * statistics.median(parts[1::2])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", required=True, metavar="FILE")
    parser.add_argument("--repetitions", type=int, default=30)
    arguments = parser.parse_args()
    with open(arguments.rows) as file:
        rows = json.load(file)["rows"]
    results = []
    for row in rows:
        found = None if "failure" in row else candidates(row)
        if found is None:
            continue
        shapes, exact, functions = found
        ways = {}
        for name, function in functions.items():
            try:
                ways[name] = time_function(function, exact, shapes, arguments.repetitions)
            except Exception as error:  # whatever a backend throws, it is no peer then
                print(f"{row['op']}, {name}: {error}".split("\n")[0], file=sys.stderr)
        if ways:
            best = min(ways, key=lambda name: ways[name][0])
            results.append(dict(op=row["op"], size=row["size"], best=best, median_us=ways[best][0], backward_us=ways[best][1],
                                ways_us={name: times[0] for name, times in ways.items()}))
    print(json.dumps(dict(version=torch.__version__, rows=results)))


main()
