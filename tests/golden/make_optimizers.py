"""Makes optimizers.safetensors: runs of timm's Lion and Muon.

For each <case>, after a dot: lr (T) = rate of step t; grad.<name> (T, ...) = gradients of step t; param.<name> (T + 1, ...) =
parameters after t steps; state.<name>.<timm's name> = the state at the end. Parameters that begin with "weight" have the
decay of the metadata, the others none. All are float64, but for muon_bf16, which is float32 as timm trains: there timm's
Newton-Schulz iteration runs in bfloat16. In the other Muon cases it runs in float64.
"""

import functools

import timm
import torch
from timm.optim import muon
from timm.optim.lion import Lion

from golden import generator, normal, store

DECAY, LION_BETAS, MUON_BETAS, MUON_EPS = 0.05, (0.9, 0.98), (0.9, 0.95), 1e-7
ITERATE = muon.zeropower_via_newtonschulz

random = generator(23)
tensors = {}


def run(case, steps, shapes, make, dtype=torch.float64, base_lr=3e-3):
    """`make` gets the parameter groups. The rate falls linearly; a third of the way there are steps without any gradient."""
    lr = base_lr * (1 - torch.arange(steps, dtype=torch.float64) / steps)
    parameters = {name: normal(random, *shape).to(dtype).requires_grad_() for name, shape in shapes.items()}
    gradients = {}
    for name, shape in shapes.items():
        gradients[name] = (normal(random, steps, *shape) + 0.5 * normal(random, *shape)).to(dtype)
        gradients[name][steps // 3] = 0
    decayed = [parameter for name, parameter in parameters.items() if name.startswith("weight")]
    exempt = [parameter for name, parameter in parameters.items() if not name.startswith("weight")]
    groups = [dict(params=list_, weight_decay=decay) for list_, decay in ((decayed, DECAY), (exempt, 0.0)) if list_]
    optimizer = make(groups)
    history = {name: [parameter.detach().clone()] for name, parameter in parameters.items()}
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr[step].item()
        for name, parameter in parameters.items():
            parameter.grad = gradients[name][step].clone()
        optimizer.step()
        for name, parameter in parameters.items():
            history[name].append(parameter.detach().clone())
    tensors[f"{case}.lr"] = lr
    for name, parameter in parameters.items():
        tensors[f"{case}.grad.{name}"] = gradients[name]
        tensors[f"{case}.param.{name}"] = torch.stack(history[name])
        for key, value in optimizer.state[parameter].items():
            if torch.is_tensor(value) and value.ndim > 0:
                tensors[f"{case}.state.{name}.{key}"] = value


def make_muon(nesterov, adjust, dtype):
    muon.zeropower_via_newtonschulz = functools.partial(ITERATE, dtype=dtype)
    return functools.partial(
        muon.Muon, momentum=0.95, nesterov=nesterov, ns_steps=5, ns_coefficients="original", eps=MUON_EPS,
        adjust_lr_fn=adjust, betas=MUON_BETAS,
    )


# Wide, tall, a convolution (flattened to 8 x 12), a matrix too narrow for Muon, a vector.
MATRICES = {"weight_wide": (6, 10), "weight_tall": (12, 5), "weight_conv": (8, 3, 2, 2)}
OTHERS = {"weight_narrow": (3, 7), "bias": (6,)}

run("lion", 60, {"weight": (4, 6), "bias": (6,)}, functools.partial(Lion, betas=LION_BETAS))
run("muon_original", 12, MATRICES | OTHERS, make_muon(False, "original", torch.float64))
# timm's Nesterov form also takes NAdamW for the other parameters, so here are none.
run("muon_nesterov", 12, MATRICES, make_muon(True, "match_rms_adamw", torch.float64))
run("muon_bf16", 12, MATRICES, make_muon(True, "match_rms_adamw", torch.bfloat16), dtype=torch.float32)
store(
    "optimizers.safetensors", tensors, timm=timm.__version__, weight_decay=DECAY, lion_betas=LION_BETAS,
    muon_betas=MUON_BETAS, muon_eps=MUON_EPS,
)
