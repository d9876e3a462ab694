"""Makes augment.safetensors: Pillow's ImageOps, ImageEnhance, GaussianBlur and affine transforms of small generated u8 images.

Names in the file: source.<name> (H, W, 3) u8, and <name>:<op>:<amount> or <name>:<op>:<amount>:<resampling>, the result of the op of
data/augment/augment_step.cpp on that source, with the same meaning of `amount`. What an affine map leaves empty is FILL.
"""

import math

import numpy
import PIL
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from golden import store

FILL = (124, 116, 104)
RESAMPLINGS = dict(nearest=Image.Resampling.NEAREST, bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC)


def picture(height, width, low=0, high=255):
    """Smooth colour, hard edges and noise, with all values from `low` to `high`."""
    y, x = numpy.mgrid[0:height, 0:width]
    image = numpy.stack([0.5 + 0.48 * numpy.sin(x / 2.0) * numpy.cos(y / 3.0), 1.0 * ((x // 3 + y // 2) % 2), x / width], axis=-1)
    image[2:5, 3:8] = (1, 0, 0)
    image[:, -4:] = numpy.random.Generator(numpy.random.PCG64(7)).random((height, 4, 3))
    return numpy.clip(low + image * (high - low), 0, 255).astype(numpy.uint8)


def point_ops():
    """{(op, amount): function of an image}."""
    enhance = dict(color=ImageEnhance.Color, contrast=ImageEnhance.Contrast, brightness=ImageEnhance.Brightness,
                   sharpness=ImageEnhance.Sharpness)
    ops = {("auto_contrast", 0): ImageOps.autocontrast, ("equalize", 0): ImageOps.equalize, ("invert", 0): ImageOps.invert,
           ("grayscale", 0): lambda image: ImageOps.grayscale(image).convert("RGB")}
    for bits in (1, 3, 7, 8):
        ops["posterize", bits] = lambda image, bits=bits: ImageOps.posterize(image, bits)
    for threshold in (0, 26, 178.5, 256):
        ops["solarize", threshold] = lambda image, threshold=threshold: ImageOps.solarize(image, threshold)
    ops["solarize_add", 99] = lambda image: image.point([min(255, v + 99) if v < 128 else v for v in range(256)] * 3)
    for name, kind in enhance.items():
        for factor in (0.1, 0.19, 0.73, 1.81) if name == "sharpness" else (0.19, 1.81):
            ops[name, factor] = lambda image, kind=kind, factor=factor: kind(image).enhance(factor)
    for radius in (0.1, 0.5, 1.3, 2.0, 7.5):
        ops["blur", radius] = lambda image, radius=radius: image.filter(ImageFilter.GaussianBlur(radius))
    return ops


def affine_ops():
    """{(op, amount): function of an image and a resampling}."""

    def transform(matrix):
        return lambda image, resample: image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=FILL)

    ops = {("rotate", angle): lambda image, resample, angle=angle: image.rotate(angle, resample, fillcolor=FILL)
           for angle in (-27, 9.5, 90, -135, 180)}
    ops |= {("shear_x", factor): transform((1, factor, 0, 0, 1, 0)) for factor in (-0.27, 0.99)}
    ops |= {("shear_y", factor): transform((1, 0, 0, factor, 1, 0)) for factor in (0.27, -0.09)}
    ops |= {("translate_x", pixels): transform((1, 0, pixels, 0, 1, 0)) for pixels in (-6.48, 2)}
    ops |= {("translate_y", pixels): transform((1, 0, 0, 0, 1, pixels)) for pixels in (3.7, -40)}
    return ops


sources = {"wide": picture(11, 14), "pale": picture(9, 10, 60, 190), "large": picture(24, 26, 5, 240), "thin": picture(2, 9)}
tensors = {f"source.{name}": torch.from_numpy(source) for name, source in sources.items()}
for name, source in sources.items():
    for (op, amount), function in point_ops().items():
        if name in ("wide", "pale") or (name == "large" and op == "equalize") or (name == "thin" and op in ("sharpness", "blur")):
            tensors[f"{name}:{op}:{amount}"] = torch.from_numpy(numpy.array(function(Image.fromarray(source))))
for (op, amount), function in affine_ops().items():
    for resampling, code in RESAMPLINGS.items():
        result = function(Image.fromarray(sources["wide"]), code)
        tensors[f"wide:{op}:{amount}:{resampling}"] = torch.from_numpy(numpy.array(result))
assert all(math.prod(value.shape) > 0 and value.dtype == torch.uint8 for value in tensors.values())
store("augment.safetensors", tensors, pillow=PIL.__version__, fill=FILL)
