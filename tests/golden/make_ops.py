"""Makes ops.safetensors and more_ops.safetensors: what PyTorch computes in float64 for small inputs of each op, forward and input gradients.

Names in the files, for a case `<op>.<case>`: .x0, .x1, ... inputs; .i0 an index input (i64); .y the result; .dy the gradient
that is fed in; .g0, .g1, ... the gradients of the inputs. Whatever else an op was given (dims, eps, ...) is in the metadata
under `<op>.<case>` as JSON.
"""

import json
import math

import torch
import torch.nn.functional as F

from golden import generator, normal, store, uniform

random = generator(7)
tensors, attributes = {}, {}


def case(name, function, *inputs, index=None, **options):
    """Runs function(*inputs[, index], **options), and stores everything under `name`."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = function(*inputs, *([] if index is None else [index]), **options)
    dy = normal(random, *y.shape)
    gradients = torch.autograd.grad(y, inputs, dy)
    record = {"y": y, "dy": dy} | ({} if index is None else {"i0": index})
    record |= {f"x{i}": x for i, x in enumerate(inputs)} | {f"g{i}": g for i, g in enumerate(gradients)}
    for part, value in record.items():
        assert value.dtype == torch.int64 or value.isfinite().all(), f"{name}.{part} is not finite"
        assert tensors.setdefault(f"{name}.{part}", value) is value, f"two cases are called {name}"
    attributes[name] = json.dumps({key: value for key, value in options.items() if not isinstance(value, torch.Tensor)})


def unary():
    wide = torch.cat([uniform(random, -4, 4, 3, 17), torch.tensor([[-30.0, -9.5, -3.0, -1e-3, 1e-3, 0.5, 1.0, 2.0, 6.0,
                      9.5, 30.0, -0.25, 0.75, -1.5, 1.5, -6.0, 3.0]], dtype=torch.float64)])
    positive = torch.cat([uniform(random, 0.05, 5, 3, 7), torch.tensor([[1e-6, 1e-2, 1.0, 2.0, 10.0, 1e3, 1e6]]).double()])
    for name, function in dict(exp=torch.exp, tanh=torch.tanh, sigmoid=torch.sigmoid, silu=F.silu, relu=F.relu, sin=torch.sin,
                               gelu=F.gelu, gelu_tanh=lambda x: F.gelu(x, approximate="tanh"), softplus=F.softplus,
                               erf=torch.erf, cos=torch.cos, abs=torch.abs, neg=torch.neg, square=torch.square).items():
        case(f"{name}.wide", function, wide)
    for name in ("log", "sqrt", "rsqrt", "reciprocal"):
        case(f"{name}.positive", getattr(torch, name), positive)


def binary():
    a, row, column = normal(random, 2, 3, 4), normal(random, 4), normal(random, 2, 1, 1)
    for name in ("add", "sub", "mul", "maximum", "minimum"):
        for shape, other in dict(same=normal(random, 2, 3, 4), row=row, column=column).items():
            case(f"{name}.{shape}", getattr(torch, name), a, other)
    case("div.same", torch.div, a, uniform(random, 0.3, 2, 2, 3, 4))
    case("div.row", torch.div, a, uniform(random, -2, -0.3, 4))
    case("div.outer", torch.div, normal(random, 3, 1), uniform(random, 0.5, 2, 1, 5))
    case("pow.tensor", torch.pow, uniform(random, 0.2, 3, 2, 3, 4), normal(random, 3, 1))
    case("pow.cube", torch.pow, a, exponent=3)
    case("pow.half", torch.pow, uniform(random, 0.2, 3, 5), exponent=-0.5)


def reductions():
    x = normal(random, 2, 3, 4)
    for name, dims in dict(all=[0, 1, 2], last=[2], first=[0], middle_keepdim=[1], outer=[0, 2]).items():
        keepdim = name.endswith("keepdim")
        case(f"sum.{name}", torch.sum, x, dim=dims, keepdim=keepdim)
        case(f"mean.{name}", torch.mean, x, dim=dims, keepdim=keepdim)
        case(f"max.{name}", torch.amax, x, dim=dims, keepdim=keepdim)
        case(f"min.{name}", torch.amin, x, dim=dims, keepdim=keepdim)
        case(f"var.{name}", torch.var, x, dim=dims, keepdim=keepdim, correction=0)
        case(f"logsumexp.{name}", torch.logsumexp, 3 * x, dim=dims, keepdim=keepdim)
    case("var.unbiased", torch.var, x, dim=[1, 2], keepdim=False, correction=1)
    case("logsumexp.large", torch.logsumexp, 300 * x, dim=[2], keepdim=False)


def rows():
    x = normal(random, 3, 5, 7)
    for name in ("softmax", "log_softmax"):
        case(f"{name}.last", getattr(F, name), 3 * x, dim=-1)
        case(f"{name}.middle", getattr(F, name), 3 * x, dim=1)
        case(f"{name}.large", getattr(F, name), 200 * x, dim=-1)
    layer_norm = lambda x, w, b, eps: F.layer_norm(x, w.shape, w, b, eps)
    case("layer_norm.small", layer_norm, normal(random, 2, 3, 8), normal(random, 8), normal(random, 8), eps=1e-6)
    case("layer_norm.odd", layer_norm, normal(random, 4, 13), normal(random, 13), normal(random, 13), eps=1e-5)
    case("layer_norm.offset", layer_norm, 1000 + normal(random, 3, 16), normal(random, 16), normal(random, 16), eps=1e-6)
    case("layer_norm.flat", layer_norm, 1e-4 * normal(random, 3, 16), normal(random, 16), normal(random, 16), eps=1e-6)
    case("cross_entropy.index", F.cross_entropy, 2 * normal(random, 6, 5), index=torch.tensor([0, 4, 2, 2, 1, 3]))
    case("cross_entropy.smoothing", F.cross_entropy, 2 * normal(random, 6, 5), index=torch.tensor([3, 0, 1, 2, 4, 4]),
         label_smoothing=0.1)
    soft = torch.softmax(normal(random, 6, 5), -1)
    tensors["cross_entropy.soft.target"] = tensors["cross_entropy.soft_smoothing.target"] = soft
    case("cross_entropy.soft", F.cross_entropy, 2 * normal(random, 6, 5), target=soft)
    case("cross_entropy.soft_smoothing", F.cross_entropy, 2 * normal(random, 6, 5), target=soft, label_smoothing=0.2)


def products():
    case("matmul.plain", torch.matmul, normal(random, 4, 5), normal(random, 5, 6))
    case("matmul.batched", torch.matmul, normal(random, 2, 3, 4, 5), normal(random, 2, 3, 5, 2))
    case("matmul.broadcast", torch.matmul, normal(random, 2, 1, 4, 5), normal(random, 3, 5, 2))
    case("matmul.shared_right", torch.matmul, normal(random, 2, 3, 4, 5), normal(random, 5, 3))
    case("matmul.shared_left", torch.matmul, normal(random, 4, 5), normal(random, 3, 5, 2))
    case("linear.bias", F.linear, normal(random, 2, 3, 5), normal(random, 4, 5), normal(random, 4))
    case("linear.no_bias", F.linear, normal(random, 7, 5), normal(random, 4, 5))
    attention = F.scaled_dot_product_attention  # queries, keys and values are (B, heads, N, head size)
    case("attention.plain", attention, *(normal(random, 2, 3, 6, 4) for _ in range(3)))
    case("attention.cross", attention, normal(random, 2, 2, 3, 8), normal(random, 2, 2, 5, 8), normal(random, 2, 2, 5, 8))
    case("attention.scale", attention, *(normal(random, 1, 2, 5, 4) for _ in range(3)), scale=0.2)
    case("attention.bias", attention, *(normal(random, 2, 3, 5, 4) for _ in range(3)), 2 * normal(random, 2, 3, 5, 5))
    case("attention.shared_bias", attention, *(normal(random, 2, 3, 5, 4) for _ in range(3)), 2 * normal(random, 1, 3, 5, 5))
    case("attention.tiles", attention, *(normal(random, 1, 2, 33, 8) for _ in range(3)))


def shapes():
    x = normal(random, 3, 4, 5)
    case("embedding.repeats", lambda w, i: F.embedding(i, w), normal(random, 6, 4), index=torch.tensor([[0, 5, 2], [2, 2, 0]]))
    case("gather.last", lambda x, i, dim: x.gather(dim, i), x, index=torch.randint(5, (3, 4, 3), generator=random), dim=2)
    case("gather.middle", lambda x, i, dim: x.gather(dim, i), x, index=torch.randint(4, (2, 6, 5), generator=random), dim=1)
    case("index_select.middle", lambda x, i, dim: x.index_select(dim, i), x, index=torch.tensor([3, 0, 0, 2, 3]), dim=1)
    case("index_select.first", lambda x, i, dim: x.index_select(dim, i), x, index=torch.tensor([2, 2]), dim=0)
    case("pad.last_two", F.pad, x, pad=[1, 2, 0, 3])  # pairs (before, after), the last dim first, as PyTorch has them
    case("pad.value", F.pad, x, pad=[0, 0, 2, 1, 1, 0], value=1.5)
    case("roll.one", torch.roll, x, shifts=[2], dims=[1])
    case("roll.two", torch.roll, x, shifts=[-1, 3], dims=[0, 2])
    case("flip.last", torch.flip, x, dims=[2])
    case("flip.two", torch.flip, x, dims=[0, 1])
    concat = lambda *parts, dim: torch.cat(parts, dim)
    case("concat.first", concat, x, normal(random, 2, 4, 5), normal(random, 1, 4, 5), dim=0)
    case("concat.middle", concat, x, normal(random, 3, 1, 5), normal(random, 3, 2, 5), dim=1)
    case("concat.last", concat, x, normal(random, 3, 4, 2), dim=2)
    stack = lambda *parts, dim: torch.stack(parts, dim)
    for dim in (0, 1, 2):
        case(f"stack.dim{dim}", stack, normal(random, 3, 4), normal(random, 3, 4), dim=dim)
    case("permute.cycle", torch.permute, x, dims=[2, 0, 1])
    case("expand.rows", lambda x, size: x.expand(size), normal(random, 3, 1, 4), size=[2, 3, 5, 4])
    case("slice.step", lambda x, start, stop, step: x[:, :, start:stop:step], x, start=1, stop=5, step=2)


def fused():
    case("bias_gelu.rows", lambda x, b: F.gelu(x + b), 2 * normal(random, 2, 3, 8), normal(random, 8))
    add_layer_norm = lambda x, branch, w, b, eps: torch.stack([x + branch, F.layer_norm(x + branch, w.shape, w, b, eps)])
    case("add_layer_norm.both", add_layer_norm, normal(random, 2, 3, 8), normal(random, 2, 3, 8), normal(random, 8),
         normal(random, 8), eps=1e-6)

    def self_attention(qkv, bias=None, *, heads):  # qkv is (B, N, 3 heads D)
        q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2)

    case("self_attention.plain", self_attention, normal(random, 2, 5, 24), heads=2)
    case("self_attention.bias", self_attention, normal(random, 2, 5, 24), normal(random, 2, 5, 5), heads=2)
    bce = F.binary_cross_entropy_with_logits
    targets = tensors["binary_cross_entropy.soft.target"] = uniform(random, 0, 1, 6, 5)
    case("binary_cross_entropy.soft", bce, 3 * normal(random, 6, 5), target=targets)


def rest():
    x, small = normal(random, 3, 4, 5), uniform(random, -0.9, 0.9, 4, 5)
    case("expm1.small", torch.expm1, torch.cat([small, 1e-6 * small, 20 * small]))
    case("log1p.small", torch.log1p, torch.cat([small, 1e-6 * small, 20 * small.abs()]))
    case("clamp.both", torch.clamp, x, min=-0.5, max=0.75)
    case("where.row", lambda a, b, i: torch.where(i != 0, a, b), x, normal(random, 5), index=torch.randint(2, (4, 5),
         generator=random))
    for name in ("sign", "floor", "ceil"):
        case(f"{name}.wide", getattr(torch, name), 3 * x)
    case("transpose.outer", torch.transpose, x, dim0=0, dim1=2)
    case("reshape.merge", torch.reshape, x, shape=[6, 10])
    case("flatten.last", torch.flatten, x, start_dim=1)
    case("unsqueeze.middle", torch.unsqueeze, x, dim=1)
    case("squeeze.middle", torch.squeeze, normal(random, 3, 1, 5), dim=1)
    case("select.middle", lambda x, dim, at: x.select(dim, at), x, dim=1, at=2)
    case("split.middle", lambda x, dim, size: x.split(size, dim)[1], x, dim=2, size=2)
    partition = lambda x, w: x.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3).flatten(0, 2).flatten(1, 2)
    case("window_partition.two", partition, normal(random, 2, 4, 6, 3), w=2)


for file, families in {"ops.safetensors": (unary, binary, reductions, rows, products, shapes),
                       "more_ops.safetensors": (fused, rest)}.items():
    for family in families:
        family()
    store(file, tensors, **attributes)
    tensors.clear(), attributes.clear()
