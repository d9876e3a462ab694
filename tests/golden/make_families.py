"""Makes deit_distilled.safetensors and swin_*.safetensors: logits, loss and all gradients of small models of timm in float64.

Names in the files: param.<timm name>, images, labels (4) i64, logits (4, 5), loss () = mean cross entropy, grad.<timm name>
= gradient of the loss. A distilled model also has dist_logits; its loss is that of both heads together, and `mean_logits`
are what it answers at inference. The configuration is in the metadata.
"""

import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer

from golden import generator, normal, store
from make_vit import randomise

LABELS = torch.tensor([3, 0, 4, 1])


def check(model, eps):
    assert all(m.eps == eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm))
    assert all(m.approximate == "none" for m in model.modules() if isinstance(m, torch.nn.GELU))


def save(file, model, loss, tensors, **metadata):
    loss.backward()
    tensors |= dict(labels=LABELS, loss=loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, f"{name} has a trivial gradient"
        tensors[f"param.{name}"] = parameter
        tensors[f"grad.{name}"] = parameter.grad
    store(file, tensors, timm=timm.__version__, **metadata)


def make_deit(file, seed):
    config = dict(img_size=16, patch_size=4, num_classes=5, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2.0)
    model = VisionTransformerDistilled(**config).double()
    check(model, 1e-6)
    randomise(model, seed)
    images = normal(generator(seed + 1), 4, 3, 16, 16)
    model.eval()
    mean_logits = model(images)
    model.train()
    model.set_distilled_training(True)
    logits, dist_logits = model(images)
    loss = sum(torch.nn.functional.cross_entropy(x, LABELS) for x in (logits, dist_logits))
    tensors = dict(images=images, logits=logits, dist_logits=dist_logits, mean_logits=mean_logits)
    save(file, model, loss, tensors, seed=seed, **config)


def make_swin(file, seed, **options):
    config = dict(patch_size=2, num_classes=5, embed_dim=8, depths=(2, 2), num_heads=(1, 2), mlp_ratio=2.0) | options
    model = SwinTransformer(**config).double().train()
    check(model, 1e-5)
    for module in model.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    randomise(model, seed)
    side = config["img_size"]
    images = normal(generator(seed + 1), 4, 3, side, side)
    logits = model(images)
    save(file, model, torch.nn.functional.cross_entropy(logits, LABELS), dict(images=images, logits=logits), seed=seed, **config)


if __name__ == "__main__":
    make_deit("deit_distilled.safetensors", seed=3)
    make_swin("swin_small.safetensors", seed=5, img_size=16, window_size=4)  # the second stage is one window
    make_swin("swin_odd.safetensors", seed=7, img_size=26, window_size=3)  # 13 and 7 places: padding, odd sides to merge
