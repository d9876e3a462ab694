"""Makes position_resizes.safetensors: position embeddings and Swin's bias tables, and what others make of them for other sizes.

timm resizes by bicubic, and here in float64 (it goes through float32 itself); scipy as in the ViT paper's own code, which is
bilinear (google-research/vision_transformer, vit_jax/checkpoint.py: zoom of the grid with order=1).

Names in the file: embed.<prefix tokens>, embed.<prefix tokens>.<filter>.<grid>, map.<H>x<W>, map.<H>x<W>.<filter>.<grid>,
table.<window>, table.<window>.<new window>. Needs scipy 1.17.1 besides the libraries of the other scripts.
"""

from unittest import mock

import scipy
import timm
import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from timm.layers.pos_embed import resample_abs_pos_embed_nhwc

from golden import generator, normal, store


def zoomed(grid_embed, grid):
    """The paper's resize of one grid (H, W, D)."""
    height, width, _ = grid_embed.shape
    result = torch.from_numpy(scipy.ndimage.zoom(grid_embed.numpy(), (grid / height, grid / width, 1), order=1))
    assert torch.allclose(result[-1, -1], grid_embed[-1, -1]) or grid == 1  # scipy puts 0 there for some sizes
    return result


def embeddings(random, tensors):
    for prefix in (0, 1, 2):
        name, embed = f"embed.{prefix}", normal(random, 1, prefix + 36, 3)
        tensors[name] = embed
        for grid in (4, 6, 9):
            tensors[f"{name}.bicubic.{grid}"] = resample_abs_pos_embed(embed, [grid, grid], num_prefix_tokens=prefix)
        for grid in (1, 2, 4, 6, 9, 16):
            patches = zoomed(embed[0, prefix:].reshape(6, 6, 3), grid).reshape(1, grid * grid, 3)
            tensors[f"{name}.bilinear.{grid}"] = torch.cat([embed[:, :prefix], patches], dim=1)


def maps(random, tensors):
    for height, width in ((6, 6), (5, 3), (1, 1)):
        name, embed = f"map.{height}x{width}", normal(random, 1, height, width, 3)
        tensors[name] = embed
        for grid in (1, 4, 6, 9):
            tensors[f"{name}.bicubic.{grid}"] = resample_abs_pos_embed_nhwc(embed, [grid, grid])
            tensors[f"{name}.bilinear.{grid}"] = zoomed(embed[0], grid)[None]


def bias_tables(random, tensors):
    for window in (1, 4, 7):
        table = normal(random, (2 * window - 1) ** 2, 2)
        tensors[f"table.{window}"] = table
        for other in (1, 2, 4, 7, 8, 12, 24):
            shape = ((2 * other - 1) ** 2, 2)
            tensors[f"table.{window}.{other}"] = resize_rel_pos_bias_table(table, (other, other), shape)


if __name__ == "__main__":
    random = generator(37)
    tensors = {}
    torch.set_default_dtype(torch.float64)
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):  # timm's functions in double
        embeddings(random, tensors)
        maps(random, tensors)
        bias_tables(random, tensors)
    assert all(tensor.dtype == torch.float64 for tensor in tensors.values())
    store("position_resizes.safetensors", tensors, timm=timm.__version__, scipy=scipy.__version__, seed=37)
