"""The peer's side of the training-step benchmark: timm's ViT or Swin in PyTorch, f32 on the CPU or autocast on a GPU.

One step = zero_grad, forward, cross entropy, backward, AdamW, on the same batch each time. Run by benchmarks/compare_pytorch,
which also describes the files and the JSON that both sides share, and by benchmarks/compare_on_gpu, which asks for rounds.

The defaults here and peer_environment in compare_pytorch are the fastest of what was tried, with PyTorch 2.15.0 on two Zen 4
cores. CPU seconds of a step on one thread, batch 128, minimum of 3 steps on a busy machine:

    eager 3.65; eager, MKL with all its instructions 3.40; the same with jemalloc 3.28; with the attention unfused 3.44
    compiled 3.71; compiled, MKL with all its instructions 3.38; the same with jemalloc 3.26; with the attention unfused 3.30
    glibc's malloc without mmap and with huge pages 3.70 eager, 3.59 compiled; tcmalloc 3.58 compiled (MKL as it comes)

Wall clock on two threads, minimum of 4 steps, MKL and malloc as they come: eager 2.12 s, compiled 1.96 s. GFLOP/s of one core in
the products of this model (f32): MKL 83 to 98, MKL with all its instructions 92 to 111, OpenBLAS 0.3.21 84 to 100, BLIS 0.9 80
to 105. AdamW fused or foreach: no difference that could be seen. Other work on the same cores slows two threads several times.
"""

import argparse
import json
import os
import re
import sys
import time

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

LEARNING_RATE, WEIGHT_DECAY, BETAS, EPS = 1e-3, 0.05, (0.9, 0.999), 1e-8

# Width, depth, heads of vit_<size>_patch<P>_<image>: the names of our registry, some of which timm does not have.
SIZES = dict(tiny=(192, 12, 3), small=(384, 12, 6), base=(768, 12, 12), large=(1024, 24, 16), huge=(1280, 32, 16))

# Multiply-adds of one image, as `vitrine summary` counts them.
SWIN_MACS = dict(swin_tiny_patch4_window7_224=4_490_566_656)


def model_shape(name):
    """Image side, patch side, width, depth, heads, classes."""
    match = re.fullmatch(r"vit_(\w+)_patch(\d+)_(\d+)", name)
    if not match or match[1] not in SIZES:
        sys.exit(f"pytorch_step: --model: is {name}, expected vit_<size>_patch<P>_<image> with a size of {', '.join(SIZES)}")
    image = int(match[3])
    return image, int(match[2]), *SIZES[match[1]], 10 if image == 32 else 1000


def make_model(name):
    if name in SWIN_MACS:
        return timm.create_model(name, drop_path_rate=0.0)
    image, patch, width, depth, heads, classes = model_shape(name)
    return VisionTransformer(img_size=image, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads,
                             num_classes=classes)


def flops_per_image(name):
    """Forward and backward of one image, 2 for each multiply-add: 6 for each weight and token that it multiplies, and the two
    products of attention. The patch embedding needs no gradient of its input, so it counts 4."""
    if name in SWIN_MACS:
        return 6 * SWIN_MACS[name]  # the patch embedding's share is below 1%
    image, patch, width, depth, heads, classes = model_shape(name)
    patches, hidden = (image // patch) ** 2, 4 * width
    tokens = patches + 1
    blocks = depth * (6 * tokens * (4 * width**2 + 2 * width * hidden) + 12 * tokens**2 * width)
    return blocks + 4 * patches * 3 * patch**2 * width + 6 * width * classes


def export(arguments):
    """Writes weights.safetensors and batch.safetensors, what both sides start from."""
    torch.manual_seed(arguments.seed)
    model = make_model(arguments.model)
    image, *_, classes = (224, 1000) if arguments.model in SWIN_MACS else model_shape(arguments.model)
    images = torch.randn(arguments.batch_size, 3, image, image)
    labels = torch.randint(classes, (arguments.batch_size,))
    folder = arguments.export
    os.makedirs(folder, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, os.path.join(folder, "weights.safetensors"))
    save_file({"images": images, "labels": labels}, os.path.join(folder, "batch.safetensors"))


def make_optimizer(model, arguments):
    """No decay for norms, biases, the class token and the position embedding, as timm trains."""
    def decays(name, parameter):
        return parameter.dim() > 1 and not name.endswith(("cls_token", "pos_embed", "relative_position_bias_table"))

    named = list(model.named_parameters())
    groups = [
        dict(params=[p for n, p in named if decays(n, p)], weight_decay=WEIGHT_DECAY),
        dict(params=[p for n, p in named if not decays(n, p)], weight_decay=0.0),
    ]
    fused = arguments.optimizer == "fused"
    return torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=BETAS, eps=EPS, fused=fused, foreach=not fused)


class Stopwatch:
    """Marks between steps: CUDA events, or the clock of the CPU. No step waits for a GPU."""

    def __init__(self, device):
        self.cuda, self.marks = device == "cuda", []

    def mark(self):
        if self.cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def milliseconds(self):
        if self.cuda:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) for a, b in zip(self.marks, self.marks[1:])]
        return [1000 * (b - a) for a, b in zip(self.marks, self.marks[1:])]


class Trial:
    def __init__(self, arguments):
        torch.set_num_threads(arguments.threads or torch.get_num_threads())
        torch.set_float32_matmul_precision("high" if arguments.tf32 else "highest")
        self.arguments = arguments
        self.model = make_model(arguments.model)
        self.model.load_state_dict(load_file(arguments.weights))
        self.model.to(arguments.device).train()
        batch = load_file(arguments.batch)
        self.images, self.labels = (batch[name].to(arguments.device) for name in ("images", "labels"))
        self.optimizer = make_optimizer(self.model, arguments)
        self.forward = self.loss
        if arguments.mode != "eager":
            self.forward = torch.compile(self.loss, mode=None if arguments.mode == "compile" else arguments.mode)

    def loss(self, images, labels):
        with torch.autocast(self.arguments.device, torch.bfloat16, enabled=self.arguments.amp):
            return torch.nn.functional.cross_entropy(self.model(images), labels)

    def step(self):
        torch.compiler.cudagraph_mark_step_begin()  # the memory of the last step may be used again
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.forward(self.images, self.labels)
        loss.backward()
        self.optimizer.step()
        # A graph of "reduce-overhead" writes the next loss to the same place.
        return loss.detach().clone() if self.arguments.device == "cuda" else loss.item()

    def round(self, warmup, steps):
        losses = [self.step() for _ in range(warmup)]
        watch, cuda = Stopwatch(self.arguments.device), self.arguments.device == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        watch.mark()
        for _ in range(steps):
            losses.append(self.step())
            watch.mark()
        milliseconds = watch.milliseconds()
        peak_bytes = torch.cuda.max_memory_allocated() if cuda else None
        if cuda:
            torch.cuda.empty_cache()  # while this side waits, its memory is for the others
        return dict(
            name="pytorch",
            version=f"PyTorch {torch.__version__}, timm {timm.__version__}, {self.arguments.mode}, "
                    f"{self.arguments.optimizer} AdamW",
            batch=len(self.labels), threads=torch.get_num_threads(), warmup=warmup, milliseconds=milliseconds,
            losses=[float(loss) for loss in losses], peak_bytes=peak_bytes,
            device_name=torch.cuda.get_device_name() if cuda else None,
            flops_per_image=flops_per_image(self.arguments.model),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", metavar="FOLDER", help="write the initial weights and the batch into FOLDER, and stop")
    parser.add_argument("--model", default="vit_tiny_patch4_32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--weights", metavar="FILE")
    parser.add_argument("--batch", metavar="FILE")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--rounds", action="store_true", help="a round for each line `WARMUP STEPS` of standard input")
    parser.add_argument("--threads", type=int, default=2, help="0 = PyTorch's choice")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--amp", action="store_true", help="autocast to bf16")
    parser.add_argument("--tf32", action="store_true", help="let f32 products round their operands to TF32")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--mode", default="compile", help="eager, compile, or a mode of torch.compile")
    parser.add_argument("--optimizer", default="fused", choices=["fused", "foreach"])
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments)
        return
    trial = Trial(arguments)
    rounds = (map(int, line.split()) for line in sys.stdin) if arguments.rounds else [(arguments.warmup, arguments.steps)]
    for warmup, steps in rounds:
        print(json.dumps(trial.round(warmup, steps)), flush=True)


main()
