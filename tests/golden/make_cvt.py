"""Makes cvt_small.safetensors and layout_cvt_huggingface.safetensors: a small CvT of transformers in float64.

cvt_small.safetensors has the names of CvT's authors, which are ours, and a pass in training, with the tensors of make_resnet.py.
layout_cvt_huggingface.safetensors has transformers' names and a pass at inference, with the tensors of make_layouts.py.

Softmax ignores what shifts all keys alike: proj_k.bias, and in stages without a class token conv_proj_k.bn.bias. And of the
last block only the class token is seen, whose query comes from no convolution. The gradients of these are 0 in exact
arithmetic, and are stored as 0.

Needs transformers 5.23.0 or later besides the libraries of the other scripts.
"""

import re

import torch
import transformers

from golden import generator, normal, store
from make_families import LABELS
from make_layouts import logits_of, make, randomise

CONFIG = dict(embed_dim=[4, 8, 12], num_heads=[1, 2, 3], depth=[1, 2, 3], mlp_ratio=[2.0, 2.0, 2.0], drop_path_rate=[0.0, 0.0, 0.0])
SIDE = 24  # maps of 6, 3 and 2 positions a side: an odd side is halved, too

# What the authors (microsoft/CvT, lib/models/cls_cvt.py) call the layers of transformers.
AUTHORS_NAMES = [
    (r"^cvt\.encoder\.stages\.(\d+)\.", r"stage\1."),
    (r"embedding\.convolution_embeddings\.projection", "patch_embed.proj"),
    (r"embedding\.convolution_embeddings\.normalization", "patch_embed.norm"),
    (r"\.layers\.", ".blocks."),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"attention\.attention\.convolution_projection_(.)\w*\.convolution_projection\.convolution", r"attn.conv_proj_\1.conv"),
    (r"attention\.attention\.convolution_projection_(.)\w*\.convolution_projection\.normalization", r"attn.conv_proj_\1.bn"),
    (r"attention\.attention\.projection_(.)\w*", r"attn.proj_\1"),
    (r"attention\.output\.dense", "attn.proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
]


def authors_name(name):
    for pattern, replacement in AUTHORS_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def has_no_gradient(name):
    """In transformers' names."""
    of_key_norm = name.endswith("convolution_projection_key.convolution_projection.normalization.bias")
    return name.endswith(".projection_key.bias") or (of_key_norm and "stages.2." not in name) or "stages.2.layers.2.attention.attention.convolution_projection_query." in name


def small():
    return transformers.CvtForImageClassification(transformers.CvtConfig(**CONFIG, num_labels=5))


def make_small(file, seed):
    model = small().double()
    randomise(model, seed)
    images = normal(generator(seed + 1), 4, 3, SIDE, SIDE)
    tensors = {f"buffer.{authors_name(name)}": value.clone() for name, value in model.named_buffers()}
    tensors["eval_logits"] = logits_of(model.eval(), images)
    logits = logits_of(model.train(), images)
    loss = torch.nn.functional.cross_entropy(logits, LABELS)
    loss.backward()
    tensors |= dict(images=images, labels=LABELS, logits=logits, loss=loss)
    tensors |= {f"after.{authors_name(name)}": value for name, value in model.named_buffers()}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if has_no_gradient(name):
            assert gradient.abs().max() < 1e-15, f"{name} has a gradient"
            gradient = torch.zeros_like(gradient)
        else:
            assert gradient.abs().max() > 1e-6, f"{name} has a trivial gradient"
        tensors |= {f"param.{authors_name(name)}": parameter, f"grad.{authors_name(name)}": gradient}
    store(file, tensors, transformers=transformers.__version__, seed=seed, **CONFIG)


if __name__ == "__main__":
    make_small("cvt_small.safetensors", seed=41)
    make("layout_cvt_huggingface.safetensors", small(), side=SIDE, seed=43, logits_of=logits_of, has_no_gradient=has_no_gradient)
