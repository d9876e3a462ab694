"""PyTorch's side of the kernel benchmark: forward and backward of the fused ops, at the sizes that our side has just used.

    pytorch_ops.py --rows FILE     FILE is what `ops --device cuda --dtype bf16 --backward --json FILE` wrote

Prints one JSON object for each row that PyTorch has too, as soon as it is there: the fastest of what PyTorch offers, checked
against its own f32, or a failure where nothing was left. Exit status 0 says that no row is missing. Run by scripts/gpu-check.
Times are medians in microseconds, from CUDA events, on inputs that rotate as on our side.
"""

import argparse
import json
import re
import statistics
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

LARGE = 2**28  # bytes: see benchmarks/support/device_rows.cpp


def sizes(row):
    """The numbers of each parenthesis of "(8320, 192) (192, 768)", the first one with its repetitions along dim 0."""
    shapes = [[int(n) for n in re.findall(r"\d+", group)] for group in re.findall(r"\(([^()]*)\)", row["size"])]
    shapes[0][0] *= int(row["repeated"])
    return shapes


def with_backend(backend, function):
    def attention(*inputs):
        with sdpa_kernel(backend):
            return function(*inputs)
    return attention


def attention_of_windows(q, k, v, bias):
    """q, k, v (B, H, N, D), bias (G, H, N, N) in turn. G windows with their heads are the heads of an image, so that the bias
    broadcasts and is not copied."""
    groups, rows, width = len(bias), q.shape[2], q.shape[3]
    q, k, v = (x.view(-1, groups * x.shape[1], rows, width) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.view(1, -1, rows, rows)).view(-1, bias.shape[1], rows, width)


def windows_as_timm_does(q, k, v, bias):
    """timm's WindowAttention without fused attention."""
    scores = (q * q.shape[-1]**-0.5) @ k.transpose(-2, -1)
    scores = scores.view(-1, *bias.shape) + bias
    return F.softmax(scores.view(-1, *bias.shape[1:]), -1) @ v


def candidates(row):
    """Shapes of the floating inputs, the op in f32, and the ways in which PyTorch can do it in bf16."""
    shapes, op = sizes(row), row["op"]
    if op == "attention":
        windows = len(shapes) > 1
        function = attention_of_windows if windows else F.scaled_dot_product_attention
        backends = dict(flash=SDPBackend.FLASH_ATTENTION, cudnn=SDPBackend.CUDNN_ATTENTION,
                        efficient=SDPBackend.EFFICIENT_ATTENTION)
        ways = {name: with_backend(backend, function) for name, backend in backends.items()}
        if windows:
            ways.update(composed=windows_as_timm_does, compiled=torch.compile(windows_as_timm_does))
        return [shapes[0]] * 3 + shapes[1:], function, ways
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


class Stopwatch:
    """Marks on the GPU, or of the clock where this script is tested on a CPU."""

    def __init__(self, device):
        self.cuda, self.marks = device == "cuda", []

    def mark(self):
        self.marks.append(torch.cuda.Event(enable_timing=True) if self.cuda else time.perf_counter())
        if self.cuda:
            self.marks[-1].record()

    def microseconds(self):
        if self.cuda:
            torch.cuda.synchronize()
        return [1e3 * a.elapsed_time(b) if self.cuda else 1e6 * (b - a) for a, b in zip(self.marks, self.marks[1:])]


def time_function(function, exact, shapes, repetitions, device):
    """Median time of forward and backward, and of backward alone."""
    bytes_of_inputs = 2 * sum(torch.Size(shape).numel() for shape in shapes)
    copies = min(64, max(2, LARGE // bytes_of_inputs))
    sets = [[torch.rand(shape, device=device).sub_(0.5).mul_(4).bfloat16().requires_grad_() for shape in shapes]
            for _ in range(copies)]
    dy = torch.randint(-2, 3, function(*sets[0]).shape, device=device).bfloat16()
    check(function, exact, sets[0], dy)
    for i in range(5):
        both_ways(function, sets[i % copies], dy)
    watch = Stopwatch(device)
    watch.mark()
    for i in range(repetitions):
        inputs = sets[i % copies]
        y = function(*inputs)
        watch.mark()
        torch.autograd.grad(y, inputs, dy)
        watch.mark()
    parts = watch.microseconds()
    whole = [a + b for a, b in zip(parts[::2], parts[1::2])]
    return statistics.median(whole), statistics.median(parts[1::2])


def time_row(row, shapes, exact, functions, arguments):
    ways, failures = {}, {}
    for name, function in functions.items():
        try:
            ways[name] = time_function(function, exact, shapes, arguments.repetitions, arguments.device)
        except Exception as error:  # whatever a backend throws, it is no peer then
            failures[name] = f"{type(error).__name__}: {error}".split("\n")[0]
        torch.cuda.empty_cache()
    result = dict(op=row["op"], size=row["size"], not_counted=failures, version=torch.__version__)
    if not ways:
        return dict(result, failure=f"nothing that PyTorch offers works: {failures}")
    best = min(ways, key=lambda name: ways[name][0])
    return dict(result, best=best, median_us=ways[best][0], backward_us=ways[best][1],
                ways_us={name: times[0] for name, times in ways.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", required=True, metavar="FILE")
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu is for testing this script")
    arguments = parser.parse_args()
    with open(arguments.rows) as file:
        rows = json.load(file)["rows"]
    for row in rows:
        found = None if "failure" in row else candidates(row)
        if found is not None:
            print(json.dumps(time_row(row, *found, arguments)), flush=True)


main()
