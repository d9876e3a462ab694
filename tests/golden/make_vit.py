"""Makes vit_small.safetensors and vit_small_avg.safetensors: logits, loss and all gradients of a small ViT of timm in float64.

Names in the files: param.<timm name>, images (4, 3, 16, 16), labels (4) i64, logits (4, 5), loss () = mean cross entropy,
grad.<timm name> = gradient of the loss. The configuration is in the metadata.
"""

import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from golden import generator, normal, store

CONFIG = dict(img_size=16, patch_size=4, in_chans=3, num_classes=5, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2.0)


def randomise(model, seed):
    """Gives every parameter, norms and biases too, values that leave no gradient trivial."""
    random = generator(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = normal(random, *parameter.shape)
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * values)
            elif parameter.dim() > 1 and name.endswith("weight"):
                parameter.copy_(values / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.4 * values)


def make(file, seed, **options):
    model = VisionTransformer(**CONFIG, **options).double().train()
    assert all(m.eps == 1e-6 for m in model.modules() if isinstance(m, torch.nn.LayerNorm))
    assert all(m.approximate == "none" for m in model.modules() if isinstance(m, torch.nn.GELU))
    randomise(model, seed)
    images = normal(generator(seed + 1), 4, CONFIG["in_chans"], CONFIG["img_size"], CONFIG["img_size"])
    labels = torch.tensor([3, 0, 4, 1])
    logits = model(images)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    tensors = dict(images=images, labels=labels, logits=logits, loss=loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, f"{name} has a trivial gradient"
        tensors[f"param.{name}"] = parameter
        tensors[f"grad.{name}"] = parameter.grad
    store(file, tensors, timm=timm.__version__, eps=1e-6, gelu="erf", seed=seed, **CONFIG, **options)


if __name__ == "__main__":
    make("vit_small.safetensors", seed=1, class_token=True, global_pool="token")
    make("vit_small_avg.safetensors", seed=2, class_token=False, global_pool="avg")
