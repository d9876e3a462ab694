"""Makes weight_files/: small files of weights as people have them, written by PyTorch and NumPy, not by us.

- state.pth, state_legacy.pth: a state dict with every element type, views, a shared storage, a parameter, in the zip format and in
  the one before PyTorch 1.6; expected.safetensors has what torch.load gives, row-major, float16 as float32, int8 and int16 as int32.
- checkpoint.pth.tar: what a training script keeps, with arguments, optimiser, a moving average and "module." before the names; the
  average is `average.<name>` in expected.safetensors.
- vit.npz, big_vision.npz, hybrid_stages.npz, hybrid_stem.npz: the weights of vit_small.safetensors, hybrid_stages.safetensors and
  hybrid_stem.safetensors as Google's code names and lays them out. timm's loader of such files gives those weights back, which is
  checked here.
"""

import argparse
import collections
import os
from functools import partial

import numpy as np
import torch
from safetensors.torch import load_file
from timm.layers import GroupNormAct, HybridEmbed, StdConv2dSame
from timm.models.resnetv2 import ResNetV2, create_resnetv2_stem
from timm.models.vision_transformer import VisionTransformer, _load_weights

from golden import FOLDER, generator, normal, store

OUT = os.path.join(FOLDER, "weight_files")


def state():
    random = generator(11)
    base = normal(random, 3, 4).float()
    return collections.OrderedDict(
        base=base,
        transposed=base.t(),
        row=base[1],
        every_second=base.view(-1)[1::2],
        expanded=torch.tensor([2.5]).expand(3),
        parameter=torch.nn.Parameter(normal(random, 2, 2).float()),
        half=torch.tensor([0.0, -0.0, 1.0, -2.5, 65504.0, 6e-8, 6.1e-5, 0.1]).half(),
        brain=normal(random, 5).bfloat16(),
        double=normal(random, 2, 1, 2),
        long=torch.tensor([-1, 2**40, 7]),
        int=torch.tensor([-5, 6], dtype=torch.int32),
        short=torch.tensor([-300, 300], dtype=torch.int16),
        char=torch.tensor([-128, 127], dtype=torch.int8),
        byte=torch.tensor([0, 255], dtype=torch.uint8),
        bool=torch.tensor([True, False, True]),
        unsigned_short=torch.tensor([0, 65535], dtype=torch.uint16),
        scalar=torch.tensor(3.25),
        none=torch.zeros(0, 3),
    )


def plain(tensor):
    """The tensor as expected.safetensors can hold it."""
    tensor = tensor.detach().contiguous().clone()
    if tensor.dtype in (torch.float16, torch.bfloat16, torch.float32):
        return tensor.double()
    return tensor if tensor.dtype in (torch.float64, torch.uint8) else tensor.long()


def make_torch_files(expected):
    weights = state()
    torch.save(weights, os.path.join(OUT, "state.pth"))
    del weights["unsigned_short"]  # no storage of its own name, which the older format needs
    torch.save(weights, os.path.join(OUT, "state_legacy.pth"), _use_new_zipfile_serialization=False)
    for name, tensor in torch.load(os.path.join(OUT, "state.pth")).items():
        expected[f"state.{name}"] = plain(tensor)
    torch.manual_seed(3)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    average = {f"module.{name}": tensor * 2 for name, tensor in model.state_dict().items()}
    checkpoint = dict(
        epoch=7,
        arch="vit",
        args=argparse.Namespace(lr=1e-3, betas=(0.9, 0.999), data="/data", resume=None, seed=2**70),
        best=np.float64(81.25),
        sizes=torch.Size([3, 2]),
        state_dict={f"module.{name}": tensor for name, tensor in model.state_dict().items()},
        state_dict_ema=average,
        optimizer=optimizer.state_dict(),
    )
    torch.save(checkpoint, os.path.join(OUT, "checkpoint.pth.tar"), pickle_protocol=4)
    for name, tensor in average.items():
        expected[f"average.{name}"] = plain(tensor)


# ---- Google's files ----


def linear(out, name, weights, ours):
    out[f"{name}/kernel"], out[f"{name}/bias"] = weights[f"{ours}.weight"].T, weights[f"{ours}.bias"]


def norm(out, name, weights, ours, shape=(-1,)):
    out[f"{name}/scale"] = weights[f"{ours}.weight"].reshape(shape)
    out[f"{name}/bias"] = weights[f"{ours}.bias"].reshape(shape)


def conv(weights, ours):
    return weights[f"{ours}.weight"].transpose(2, 3, 1, 0)


def google(weights, heads, big_vision=False):
    attention, second, mlp = (0, 1, 0) if big_vision else (1, 2, 3)
    out = {"cls": weights["cls_token"], "embedding/kernel": conv(weights, "patch_embed.proj"), "embedding/bias": weights["patch_embed.proj.bias"]}
    out["pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding"] = weights["pos_embed"]
    norm(out, "Transformer/encoder_norm", weights, "norm")
    linear(out, "head", weights, "head")
    for i in range(sum(name.startswith("blocks.") and name.endswith("norm1.weight") for name in weights)):
        block, ours = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        norm(out, f"{block}/LayerNorm_0", weights, f"{ours}.norm1")
        norm(out, f"{block}/LayerNorm_{second}", weights, f"{ours}.norm2")
        linear(out, f"{block}/MlpBlock_{mlp}/Dense_0", weights, f"{ours}.mlp.fc1")
        linear(out, f"{block}/MlpBlock_{mlp}/Dense_1", weights, f"{ours}.mlp.fc2")
        layer = f"{block}/MultiHeadDotProductAttention_{attention}"
        D = weights["norm.weight"].size
        for part, name in enumerate(("query", "key", "value")):
            rows = slice(part * D, (part + 1) * D)
            out[f"{layer}/{name}/kernel"] = weights[f"{ours}.attn.qkv.weight"][rows].T.reshape(D, heads, D // heads)
            out[f"{layer}/{name}/bias"] = weights[f"{ours}.attn.qkv.bias"][rows].reshape(heads, D // heads)
        out[f"{layer}/out/kernel"] = weights[f"{ours}.attn.proj.weight"].T.reshape(heads, D // heads, D)
        out[f"{layer}/out/bias"] = weights[f"{ours}.attn.proj.bias"]
    return out


def add_backbone(out, weights, depths):
    front = "patch_embed.backbone."
    stem = f"{front}stem." if depths else front
    out["conv_root/kernel"] = conv(weights, f"{stem}conv")
    norm(out, "gn_root", weights, f"{stem}norm", (1, 1, 1, -1))
    for i, depth in enumerate(depths):
        for j in range(depth):
            unit, ours = f"block{i + 1}/unit{j + 1}", f"{front}stages.{i}.blocks.{j}"
            for k in (1, 2, 3):
                out[f"{unit}/conv{k}/kernel"] = conv(weights, f"{ours}.conv{k}")
                norm(out, f"{unit}/gn{k}", weights, f"{ours}.norm{k}", (1, 1, 1, -1))
            if f"{ours}.downsample.conv.weight" in weights:
                out[f"{unit}/conv_proj/kernel"] = conv(weights, f"{ours}.downsample.conv")
                norm(out, f"{unit}/gn_proj", weights, f"{ours}.downsample.norm", (1, 1, 1, -1))


def hybrid_model(depths, patch):
    layers = dict(stem_type="same", preact=False, conv_layer=partial(StdConv2dSame, eps=1e-8), norm_layer=partial(GroupNormAct, num_groups=4))
    channels = [32 << stage for stage in range(len(depths))]
    backbone = ResNetV2(depths, channels, num_classes=0, global_pool="", stem_chs=8, **layers) if depths else create_resnetv2_stem(3, 8, **layers)
    return VisionTransformer(
        embed_layer=partial(HybridEmbed, backbone=backbone), img_size=24, patch_size=patch, num_classes=5, embed_dim=16, depth=1, num_heads=2, mlp_ratio=2.0
    )


def make_google_file(file, source, model, heads, prefix="", depths=None):
    golden = {name[6:]: t for name, t in load_file(os.path.join(FOLDER, source)).items() if name.startswith("param.")}
    weights = {name: tensor.float().numpy() for name, tensor in golden.items()}
    arrays = google(weights, heads, big_vision=bool(prefix))
    if depths is not None:
        add_backbone(arrays, weights, depths)
    path = os.path.join(OUT, file)
    np.savez(path, **{prefix + name: array for name, array in arrays.items()})
    with torch.no_grad():
        _load_weights(model, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, golden[name].float()), f"{file}: timm's loader gives another {name}"
    print(f"{file}: {len(arrays)} arrays, {os.path.getsize(path)} bytes, the same for timm")


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    expected = {}
    make_torch_files(expected)
    store("weight_files/expected.safetensors", expected)
    vit = lambda: VisionTransformer(img_size=16, patch_size=4, num_classes=5, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2.0)
    make_google_file("vit.npz", "vit_small.safetensors", vit(), heads=3)
    make_google_file("big_vision.npz", "vit_small.safetensors", vit(), heads=3, prefix="params/")
    make_google_file("hybrid_stages.npz", "hybrid_stages.safetensors", hybrid_model((2, 1), 1), heads=2, depths=(2, 1))
    make_google_file("hybrid_stem.npz", "hybrid_stem.safetensors", hybrid_model((), 2), heads=2, depths=())
