"""Makes resize.safetensors: Pillow's antialiased bilinear and bicubic resize of one generated u8 image, down and up.

Names in the file: source (37, 53, 3) u8 in (H, W, C); <filter>.<H>x<W> (H, W, 3) u8 = Image.resize; crop.<filter>.<H>x<W> = the
same with box=(left, top, right, bottom) = (5, 3, 41, 30), the pixels that are resized.
"""

import numpy
import PIL
import torch
from PIL import Image

from golden import store

BOX = (5, 3, 41, 30)
FILTERS = dict(bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC)
# The last five go through Pillow 13's vertical pass first, but for (21, 45), which is on the other side of that border.
SIZES = [(16, 16), (24, 40), (37, 20), (36, 52), (48, 64), (7, 90), (1, 53), (36, 54), (20, 45), (21, 45)]


def picture(height=37, width=53):
    """Smooth colour, a fine checkerboard, hard edges and noise: what tells a filter's width, clamping and rounding apart."""
    y, x = numpy.mgrid[0:height, 0:width]
    image = numpy.stack([127 + 120 * numpy.sin(x / 5.0) * numpy.cos(y / 7.0), 255.0 * ((x + y) % 2), 4.8 * x], axis=-1)
    image[8:20, 10:25] = (255, 0, 0)
    image[15:30, 20:40] = (0, 255, 255)
    noise = numpy.random.Generator(numpy.random.PCG64(5)).integers(0, 256, (height, 12, 3))
    image[:, -12:] = noise
    return numpy.clip(image, 0, 255).astype(numpy.uint8)


source = picture()
tensors = {"source": torch.from_numpy(source)}
for name, resample in FILTERS.items():
    for height, width in SIZES:
        whole = Image.fromarray(source).resize((width, height), resample)
        tensors[f"{name}.{height}x{width}"] = torch.from_numpy(numpy.array(whole))
    for height, width in SIZES[:2] + SIZES[4:5]:
        part = Image.fromarray(source).resize((width, height), resample, box=BOX)
        tensors[f"crop.{name}.{height}x{width}"] = torch.from_numpy(numpy.array(part))
store("resize.safetensors", tensors, pillow=PIL.__version__, box=BOX)
