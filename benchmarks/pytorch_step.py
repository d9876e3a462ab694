"""The peer's side of the training-step benchmark: ViT-Ti/4 at 32 px in timm and PyTorch, f32 on the CPU, one JSON object.

One step = zero_grad, forward, cross entropy, backward, AdamW, on the same batch each time. Run by benchmarks/compare_pytorch,
which also describes the files and the JSON that both sides share.

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
import sys
import time

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

LEARNING_RATE, WEIGHT_DECAY, BETAS, EPS = 1e-3, 0.05, (0.9, 0.999), 1e-8


def make_model():
    return VisionTransformer(img_size=32, patch_size=4, embed_dim=192, depth=12, num_heads=3, num_classes=10)


def export(folder, seed, batch):
    """Writes weights.safetensors and batch.safetensors, what both sides start from."""
    torch.manual_seed(seed)
    model = make_model()
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    os.makedirs(folder, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, os.path.join(folder, "weights.safetensors"))
    save_file({"images": images, "labels": labels}, os.path.join(folder, "batch.safetensors"))


def make_optimizer(model, fused):
    """No decay for norms, biases, the class token and the position embedding, as timm trains."""
    def decays(name, parameter):
        return parameter.dim() > 1 and name not in ("cls_token", "pos_embed")

    named = list(model.named_parameters())
    groups = [
        dict(params=[p for n, p in named if decays(n, p)], weight_decay=WEIGHT_DECAY),
        dict(params=[p for n, p in named if not decays(n, p)], weight_decay=0.0),
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPS, fused=fused, foreach=not fused)


def run(arguments):
    torch.set_num_threads(arguments.threads)
    model = make_model()
    model.load_state_dict(load_file(arguments.weights))
    model.train()
    batch = load_file(arguments.batch)
    images, labels = batch["images"], batch["labels"]
    optimizer = make_optimizer(model, arguments.optimizer == "fused")

    def forward(images, labels):
        return torch.nn.functional.cross_entropy(model(images), labels)

    if arguments.mode != "eager":
        forward = torch.compile(forward, mode=None if arguments.mode == "compile" else arguments.mode)

    milliseconds, losses = [], []
    for _ in range(arguments.warmup + arguments.steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = forward(images, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        milliseconds.append(1000 * (time.perf_counter() - start))
    return dict(
        name="pytorch",
        version=f"PyTorch {torch.__version__}, timm {timm.__version__}, {arguments.mode}, {arguments.optimizer} AdamW",
        batch=len(labels), threads=torch.get_num_threads(), warmup=arguments.warmup,
        milliseconds=milliseconds[arguments.warmup:], losses=losses,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", metavar="FOLDER", help="write the initial weights and the batch into FOLDER, and stop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--weights", metavar="FILE")
    parser.add_argument("--batch", metavar="FILE")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mode", default="compile", help="eager, compile, or a mode of torch.compile")
    parser.add_argument("--optimizer", default="fused", choices=["fused", "foreach"])
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments.export, arguments.seed, arguments.batch_size)
    else:
        json.dump(run(arguments), sys.stdout)
        print()


main()
