"""Makes patch_resizes.safetensors: kernels of patch embeddings, and what timm makes of them for patches of other sizes.

Names in the file: kernel.<C>.<h>x<w> (5, C, h, w), kernel.<C>.<h>x<w>.<H>x<W> (5, C, H, W); float64. timm computes in float32,
but takes the dtype from a constant of its module, which is float64 here; the script checks that both agree.
"""

from unittest import mock

import timm
import timm.layers.patch_embed as patches
import torch

from golden import generator, normal, store

CASES = ((3, (8, 8), ((12, 12), (4, 4))), (3, (16, 16), ((8, 8), (14, 14))), (1, (8, 8), ((12, 12),)), (1, (6, 9), ((12, 5), (6, 4))))

if __name__ == "__main__":
    random = generator(41)
    tensors = {}
    for channels, (h, w), sizes in CASES:
        name = f"kernel.{channels}.{h}x{w}"
        kernel = normal(random, 5, channels, h, w)
        tensors[name] = kernel
        for size in sizes:
            with mock.patch.object(patches, "DTYPE_INTERMEDIATE", torch.float64):
                resized = patches.resample_patch_embed(kernel, size)
            single = patches.resample_patch_embed(kernel.float(), size)
            assert resized.dtype == torch.float64 and (resized - single).abs().max() <= 1e-5 * resized.abs().max()
            assert (resized - single).abs().max() > 1e-12  # so it was not computed in float32 twice
            tensors[f"{name}.{size[0]}x{size[1]}"] = resized
    store("patch_resizes.safetensors", tensors, timm=timm.__version__, seed=41)
