"""Makes resnet_*.safetensors: logits, loss and all gradients of small ResNets of torchvision in float64, in training and at inference.

Names in the files: param.<name> and buffer.<name> as torchvision and timm call them, images (4, 3, side, side), labels (4) i64,
logits (4, 5) in training (by the statistics of the batch), loss () = their mean cross entropy, grad.<name>, after.<name> = the
buffers after that pass, eval_logits (4, 5) at inference by the buffers before it.
"""

import timm
import torch
import torchvision
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from golden import generator, normal, store, uniform
from make_families import LABELS


def small(block, depths, width, small_images):
    """torchvision's ResNet with fewer channels and stages."""
    model = ResNet(block, [1, 1, 1, 1], num_classes=5)
    model.inplanes = width
    model.conv1 = torch.nn.Conv2d(3, width, 3 if small_images else 7, 1 if small_images else 2, 1 if small_images else 3, bias=False)
    model.bn1 = torch.nn.BatchNorm2d(width)
    if small_images:
        model.maxpool = torch.nn.Identity()
    for stage in range(4):
        layers = torch.nn.Identity()
        if stage < len(depths):
            layers = model._make_layer(block, width << stage, depths[stage], stride=1 if stage == 0 else 2)
        setattr(model, f"layer{stage + 1}", layers)
    model.fc = torch.nn.Linear(model.inplanes, 5)
    return model.double()


def randomise(model, seed):
    random = generator(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        positive = name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight"))
        low, high = (0.5, 1.5) if positive else (-0.4, 0.4)
        tensor.copy_(uniform(random, low, high, *tensor.shape))


def save(file, model, seed, side, channels=3, **metadata):
    images = normal(generator(seed + 1), 4, channels, side, side)
    tensors = {f"buffer.{name}": value.clone() for name, value in model.named_buffers()}
    tensors["eval_logits"] = model.eval()(images)
    logits = model.train()(images)
    loss = torch.nn.functional.cross_entropy(logits, LABELS)
    loss.backward()
    tensors |= dict(images=images, labels=LABELS, logits=logits, loss=loss)
    tensors |= {f"after.{name}": value for name, value in model.named_buffers()}
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, f"{name} has a trivial gradient"
        tensors |= {f"param.{name}": parameter, f"grad.{name}": parameter.grad}
    store(file, tensors, seed=seed, **metadata)


def make(file, seed, side, **config):
    model = small(**config)
    randomise(model, seed)
    names = {key: getattr(value, "__name__", value) for key, value in config.items()}
    save(file, model, seed, side, torchvision=torchvision.__version__, **names)


def check_that_timm_agrees():
    """One set of weights means the same in both libraries."""
    ours, theirs = torchvision.models.resnet18(), timm.create_model("resnet18")
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(ours.eval()(images), theirs.eval()(images), atol=1e-5)


if __name__ == "__main__":
    check_that_timm_agrees()
    make("resnet_basic.safetensors", seed=11, side=9, block=BasicBlock, depths=(2, 1), width=6, small_images=True)
    make("resnet_bottleneck.safetensors", seed=13, side=37, block=Bottleneck, depths=(1, 1), width=4, small_images=False)
