"""Makes regnet_*.safetensors: logits, loss and all gradients of small RegNetYs in float64, in training and at inference.

regnet_small.safetensors is timm's, whose widths need rounding, for grey images (4, 1, 33, 33); names are as in
make_resnet.py. regnet_torchvision.safetensors is torchvision's, with its names: param.<name>, buffer.<name>,
images (2, 3, 33, 33), labels (2) i64, logits (2, 5) at inference, loss () = their mean cross entropy, grad.<name> by the
running statistics.
"""

import timm
import torch
import torchvision
from timm.models.regnet import RegNet, RegNetCfg
from torchvision.models import regnet as torchvision_regnet

from golden import generator, normal, store
from make_resnet import randomise, save

SHAPE = dict(w0=8, wa=7.0, wm=1.7, depth=5)


def make_small(file, seed):
    config = SHAPE | dict(group_size=3, stem_width=10, se_ratio=0.25)
    model = RegNet(RegNetCfg(**config), num_classes=5, in_chans=1).double()
    blocks = [block for stage in (model.s1, model.s2, model.s3, model.s4) for block in stage.children()]
    assert [block.conv3.conv.out_channels for block in blocks] == [9, 15, 24, 24, 39]
    assert [block.se.fc1.out_channels for block in blocks] == [2, 2, 4, 6, 6]  # 2.5 is rounded to 2, half to even
    randomise(model, seed)
    for block in blocks:
        block.se.fc1.bias.detach().abs_().add_(0.3)  # so that its few units are not all cut off by ReLU
    save(file, model, seed, side=33, channels=1, timm=timm.__version__, **config)


def make_torchvision(file, seed):
    """Groups of 8 divide all widths, so that torchvision's way of rounding does not matter."""
    config = SHAPE | dict(wa=5.0)
    params = torchvision_regnet.BlockParams.from_init_params(
        depth=config["depth"], w_0=config["w0"], w_a=config["wa"], w_m=config["wm"], group_width=8, se_ratio=0.25
    )
    model = torchvision_regnet.RegNet(params, num_classes=5, stem_width=10).double().eval()
    randomise(model, seed)
    for name, parameter in model.named_parameters():
        if name.endswith("se.fc1.bias"):
            parameter.detach().abs_().add_(0.3)  # so that its few units are not all cut off by ReLU
    images, labels = normal(generator(seed + 1), 2, 3, 33, 33), torch.tensor([3, 0])
    logits = model(images)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    tensors = dict(images=images, labels=labels, logits=logits, loss=loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, f"{name} has a trivial gradient"
        tensors |= {f"param.{name}": parameter, f"grad.{name}": parameter.grad}
    tensors |= {f"buffer.{name}": value for name, value in model.named_buffers()}
    store(file, tensors, torchvision=torchvision.__version__, seed=seed, group_width=8, **config)


if __name__ == "__main__":
    make_small("regnet_small.safetensors", seed=17)
    make_torchvision("regnet_torchvision.safetensors", seed=21)
