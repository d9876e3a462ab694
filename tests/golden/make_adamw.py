"""Makes adamw.safetensors: 100 steps of PyTorch's AdamW in float64 under timm's warm-up and cosine, and gradient clipping.

Names in the file: lr (100) = rate of step t = 0..99; grad.weight (100, 4, 6), grad.bias (100, 6) = gradients of step t;
param.weight (101, 4, 6), param.bias (101, 6) = parameters after t steps; first.*, second.* = both moments at the end.
weight has decay 0.05, bias none. clip.<case>: grad0, grad1, grad2; norm () = their global norm; clipped0 ... = after clipping.
"""

import timm
import torch
from timm.scheduler import CosineLRScheduler

from golden import generator, normal, store

STEPS, BETAS, EPS, DECAY = 100, (0.9, 0.99), 1e-8, 0.05
SCHEDULE = dict(lr_min=1e-5, warmup_lr_init=1e-6, warmup_t=10, t_initial=STEPS)
BASE_LR = 3e-2

random = generator(11)
tensors = {}


def rates(prefix):
    """timm's schedule; prefix=True starts the cosine after the warm-up, False lets the warm-up hide its beginning."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE_LR)
    schedule = CosineLRScheduler(optimizer, warmup_prefix=prefix, **SCHEDULE)
    values = []
    for step in range(STEPS):
        schedule.step(step)
        values.append(optimizer.param_groups[0]["lr"])
    return torch.tensor(values, dtype=torch.float64)


def gradients(*shape):
    """Noise around a drift, over many scales, so that eps matters in places; a few steps have no gradient at all."""
    scale = 10.0 ** torch.linspace(-9, 1, shape[-1], dtype=torch.float64)
    values = (normal(random, STEPS, *shape) + 0.5 * normal(random, *shape)) * scale
    values[20:23] = 0
    return values


def adamw():
    lr = tensors["lr"] = rates(prefix=False)
    tensors["lr_prefix"] = rates(prefix=True)
    parameters = {"weight": normal(random, 4, 6).requires_grad_(), "bias": normal(random, 6).requires_grad_()}
    sequences = {name: gradients(*parameter.shape) for name, parameter in parameters.items()}
    groups = [dict(params=[parameters["weight"]], weight_decay=DECAY), dict(params=[parameters["bias"]], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=BASE_LR, betas=BETAS, eps=EPS)
    history = {name: [parameter.detach().clone()] for name, parameter in parameters.items()}
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr[step].item()
        for name, parameter in parameters.items():
            parameter.grad = sequences[name][step].clone()
        optimizer.step()
        for name, parameter in parameters.items():
            history[name].append(parameter.detach().clone())
    for name, parameter in parameters.items():
        tensors[f"grad.{name}"] = sequences[name]
        tensors[f"param.{name}"] = torch.stack(history[name])
        tensors[f"first.{name}"] = optimizer.state[parameter]["exp_avg"]
        tensors[f"second.{name}"] = optimizer.state[parameter]["exp_avg_sq"]


def clip(case, scale, max_norm):
    parameters = [torch.zeros(*shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 4), (5,), (2, 1, 3))]
    for i, parameter in enumerate(parameters):
        parameter.grad = scale * normal(random, *parameter.shape)
        tensors[f"clip.{case}.grad{i}"] = parameter.grad.clone()
    tensors[f"clip.{case}.norm"] = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    for i, parameter in enumerate(parameters):
        tensors[f"clip.{case}.clipped{i}"] = parameter.grad.clone()
    tensors[f"clip.{case}.max_norm"] = torch.tensor(max_norm, dtype=torch.float64)


adamw()
clip("above", scale=1.0, max_norm=1.0)
clip("below", scale=0.05, max_norm=1.0)
store("adamw.safetensors", tensors, timm=timm.__version__, betas=BETAS, eps=EPS, weight_decay=DECAY, base_lr=BASE_LR, **SCHEDULE)
