"""Makes image_ops.safetensors: what PyTorch computes in float64 for ops on images, forward and input gradients.

Names as in ops.safetensors: for a case `<op>.<case>`, .x0, .x1, ... inputs, .y the result, .dy the gradient that is fed in, .g0,
.g1, ... the gradients of the inputs; options as JSON in the metadata under `<op>.<case>`. batch_norm also has .mean and .var,
the running statistics afterwards; before, they are 0.5 + c / 4 and 1 + c / 2 for channel c.
"""

import json

import torch
import torch.nn.functional as F

from golden import generator, normal, store

random = generator(11)
tensors, attributes = {}, {}


def case(name, function, *inputs, **options):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = function(*inputs, **options)
    dy = normal(random, *y.shape)
    gradients = torch.autograd.grad(y, inputs, dy)
    record = {"y": y, "dy": dy} | {f"x{i}": x for i, x in enumerate(inputs)} | {f"g{i}": g for i, g in enumerate(gradients)}
    tensors.update({f"{name}.{part}": value for part, value in record.items()})
    attributes[name] = json.dumps(options)


def convolutions():
    case("conv2d.plain", F.conv2d, normal(random, 2, 3, 6, 7), normal(random, 4, 3, 3, 3), stride=1, padding=1, groups=1)
    case("conv2d.bias", F.conv2d, normal(random, 2, 3, 9, 8), normal(random, 4, 3, 5, 3), normal(random, 4), stride=2, padding=2,
         groups=1)
    case("conv2d.groups", F.conv2d, normal(random, 2, 6, 5, 5), normal(random, 4, 3, 3, 3), normal(random, 4), stride=1,
         padding=0, groups=2)
    case("conv2d.depthwise", F.conv2d, normal(random, 2, 5, 6, 6), normal(random, 5, 1, 3, 3), stride=2, padding=1, groups=5)
    case("conv2d.pointwise", F.conv2d, normal(random, 2, 4, 5, 3), normal(random, 6, 4, 1, 1), stride=1, padding=0, groups=1)


def pools():
    x = normal(random, 2, 3, 9, 8)
    for name, options in dict(resnet=(3, 2, 1), whole=(2, 2, 0), overlapping=(4, 1, 2)).items():
        options = dict(zip(("kernel_size", "stride", "padding"), options))
        case(f"max_pool2d.{name}", F.max_pool2d, x, **options)
        case(f"avg_pool2d.{name}", F.avg_pool2d, x, **options)


def norms():
    def batch_norm(x, weight, bias, training, momentum, eps):
        c = torch.arange(x.shape[1], dtype=x.dtype)
        mean, var = 0.5 + c / 4, 1 + c / 2
        y = F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
        tensors[f"{name}.mean"], tensors[f"{name}.var"] = mean, var
        return y

    for name, training in {"batch_norm.training": True, "batch_norm.running": False}.items():
        case(name, batch_norm, normal(random, 4, 3, 5, 4), normal(random, 3), normal(random, 3), training=training, momentum=0.3,
             eps=1e-4)
    group_norm = lambda x, weight, bias, num_groups, eps: F.group_norm(x, num_groups, weight, bias, eps)
    case("group_norm.pairs", group_norm, normal(random, 3, 6, 4, 5), normal(random, 6), normal(random, 6), num_groups=3, eps=1e-5)
    standardize = lambda w, eps: F.batch_norm(w.reshape(1, len(w), -1), None, None, training=True, momentum=0, eps=eps).reshape_as(w)
    case("standardize_weight.timm", standardize, normal(random, 5, 3, 3, 3), eps=1e-6)  # timm/layers/std_conv.py


def resizes():
    for mode in ("bilinear", "bicubic"):
        for antialias in (False, True):
            for name, size in dict(smaller=(5, 4), larger=(13, 16), mixed=(4, 20)).items():
                resize = lambda x, size, mode, antialias: F.interpolate(x, size, mode=mode, antialias=antialias)
                case(f"interpolate.{mode}_{antialias}_{name}", resize, normal(random, 1, 2, 9, 11), size=size, mode=mode,
                     antialias=antialias)


for family in (convolutions, pools, norms, resizes):
    family()
store("image_ops.safetensors", tensors, **attributes)
