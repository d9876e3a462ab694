"""Makes images.safetensors: small image files of every format that is read, and Pillow's convert("RGB") of each.

Names in the file: <format>.<case>.file (N) u8, the bytes; <format>.<case>.rgb (H, W, 3) u8. Where Pillow writes the kind in
question, it wrote the file; else the file is put together here. Of grey with 16 bits the upper 8 are stored, because
convert("RGB") cuts all above 255 to white.
"""

import io
import struct
import warnings
import zlib

import numpy
import PIL
import torch
from PIL import Image

from golden import store

warnings.simplefilter("ignore")  # Pillow on palettes with transparency
HEIGHT, WIDTH = 10, 13
random = numpy.random.Generator(numpy.random.PCG64(14))
y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
RGB = numpy.stack([x * 20, y * 28, 250 - 10 * (x + y)], -1).astype(numpy.uint8)
RGB[2:5, 3:9] = random.integers(0, 256, (3, 6, 3))
rgb = Image.fromarray(RGB)
rgba = Image.fromarray(numpy.dstack([RGB, (x * 21).astype(numpy.uint8)]))
grey, bits, palette = rgb.convert("L"), rgb.convert("1"), rgb.quantize(11)
files = {}


def noise(*shape):
    return random.integers(0, 256, shape).astype(numpy.uint8)


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def jpegs():
    def without(marker, file):
        """Leaves out the first segment that has this marker."""
        at = 2
        while file[at + 1] != marker:
            at += 2 + struct.unpack(">H", file[at + 2 : at + 4])[0]
        return file[:at] + file[at + 2 + struct.unpack(">H", file[at + 2 : at + 4])[0] :]

    cmyk = saved(rgb.convert("CMYK"), "JPEG", quality=95)
    yield "plain", saved(rgb, "JPEG", quality=92)
    yield "progressive", saved(rgb, "JPEG", quality=92, progressive=True)
    yield "grey", saved(grey, "JPEG", quality=92)
    yield "subsampling_444", saved(rgb, "JPEG", quality=92, subsampling=0)
    yield "stored_as_rgb", saved(rgb, "JPEG", quality=92, keep_rgb=True)
    yield "orientation_6", saved(rgb, "JPEG", quality=92, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    yield "cmyk", cmyk
    yield "cmyk_without_marker", without(0xEE, cmyk)  # APP14, Adobe's
    full = Image.frombytes("CMYK", (WIDTH, HEIGHT), (255 - numpy.dstack([RGB, numpy.full_like(RGB[..., 0], 255)])).tobytes())
    yield "cmyk_without_marker_black_255", without(0xEE, saved(full, "JPEG", quality=95))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(array, depth, color, *extra):
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def pngs():
    for mode in ("1", "L", "LA", "RGB", "RGBA"):
        yield mode, saved(rgba.convert(mode), "PNG")
    for colors in (2, 4, 11, 40):
        yield f"palette_{colors}", saved(rgb.quantize(colors), "PNG")
    yield "palette_transparency", saved(palette, "PNG", transparency=bytes([0, 128, 255]))
    gamma = lambda value: chunk(b"gAMA", struct.pack(">I", value))
    yield "gamma_1", png(RGB, 8, 2, gamma(100000))
    yield "gamma_0.45", png(RGB, 8, 2, gamma(45455))
    yield "gamma_0.22", png(RGB, 8, 2, gamma(22727))
    yield "gamma_grey", png(RGB[..., 0], 8, 0, gamma(100000))
    yield "srgb", png(RGB, 8, 2, chunk(b"sRGB", b"\0"), gamma(45455))
    chroma = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)  # Adobe RGB
    yield "gamma_chroma", png(RGB, 8, 2, gamma(45455), chunk(b"cHRM", chroma))
    yield "profile", png(RGB, 8, 2, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(200))))
    yield "background", png(numpy.array(rgba), 8, 6, chunk(b"bKGD", struct.pack(">HHH", 255, 0, 0)))
    yield "transparent_color", png(RGB, 8, 2, chunk(b"tRNS", struct.pack(">HHH", 0, 0, 250)))
    yield "rgb_16", png(random.integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(">u2"), 16, 2)
    yield "grey_16", png((x * 5000 + y).astype(">u2"), 16, 0)


def webps():
    for quality in (20, 90):
        yield f"lossy_{quality}", saved(rgb, "WEBP", quality=quality)
    yield "lossy_alpha", saved(rgba, "WEBP", quality=80)
    yield "lossless", saved(rgb, "WEBP", lossless=True)
    yield "lossless_alpha", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "profile", saved(rgb, "WEBP", lossless=True, icc_profile=bytes(100))
    yield "animated", saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)], lossless=True)
    yield "animated_alpha", saved(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], lossless=True)


def tiff(data, order, tags):
    """Tags: number -> list of 16-bit numbers; data follows in equal strips, where StripByteCounts (279) has several."""
    count, blocks, entries, long = len(tags) + 1, tags[279], b"", b""
    behind = 8 + 2 + 12 * count + 4
    sizes = {273: 4 * len(blocks)} | {tag: 2 * len(values) for tag, values in tags.items()}
    start = behind + sum(size for size in sizes.values() if size > 4)
    tags = tags | {273: [start + sum(blocks[:i]) for i in range(len(blocks))]}
    for tag, values in sorted(tags.items()):
        kind, letter = (4, "I") if tag == 273 else (3, "H")
        value = struct.pack(order + letter * len(values), *values)
        if len(value) > 4:
            value, long = struct.pack(order + "I", behind + len(long)), long + value
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + value.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, count)
    return head + entries + bytes(4) + long + data


def plain_tiff(array, photometric, order="<", **tags):
    """An uncompressed file of the array (H, W, samples)."""
    height, width, samples = array.shape
    layout = {256: [width], 257: [height], 258: [8 * array.itemsize] * samples, 259: [1], 262: [photometric], 277: [samples],
              278: [height], 279: [array.nbytes]}
    return tiff(array.tobytes(), order, layout | {int(tag[1:]): value for tag, value in tags.items()})


def tiffs():
    modes = {"rgb": rgb, "grey": grey, "bits": bits, "palette": palette, "rgba": rgba, "cmyk": rgb.convert("CMYK")}
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        for name, image in modes.items():
            yield f"{name}_{compression}", saved(image, "TIFF", compression=compression)
    yield "rgb_jpeg", saved(rgb, "TIFF", compression="jpeg")
    yield "ycbcr_lzw", saved(rgb.convert("YCbCr"), "TIFF", compression="tiff_lzw")
    yield "bits_group4", saved(bits, "TIFF", compression="group4")
    for orientation in range(0, 10):
        yield f"orientation_{orientation}", saved(rgb, "TIFF", tiffinfo={274: orientation})
    yield "palette_orientation_6", saved(palette, "TIFF", tiffinfo={274: 6}, compression="tiff_lzw")
    yield "several", saved(rgb, "TIFF", save_all=True, append_images=[rgb.rotate(180)])
    yield "white_is_0", plain_tiff(numpy.array(grey)[..., None], 0)
    for extra in (0, 1, 2):  # unspecified, multiplied by alpha, alpha
        yield f"extra_{extra}", plain_tiff(noise(HEIGHT, WIDTH, 4), 2, _338=[extra])
    wide = lambda order, samples: random.integers(0, 65536, (HEIGHT, WIDTH, samples)).astype(order + "u2")
    for order, name in (("<", "little"), (">", "big")):
        yield f"rgb_16_{name}", plain_tiff(wide(order, 3), 2, order)
        yield f"cmyk_16_{name}", plain_tiff(wide(order, 4), 5, order)
        yield f"grey_16_{name}", plain_tiff(wide(order, 1), 1, order)
    yield "strips", plain_tiff(RGB, 2, _278=[4], _279=[4 * WIDTH * 3, 4 * WIDTH * 3, 2 * WIDTH * 3])
    planes = {"_284": [2], "_279": [HEIGHT * WIDTH] * 3}
    yield "planes", plain_tiff(numpy.ascontiguousarray(RGB.transpose(2, 0, 1)).reshape(HEIGHT, WIDTH, 3), 2, **planes)


def gifs():
    for name, image in {"rgb": rgb, "grey": grey, "bits": bits, "palette": palette, "alpha": rgba}.items():
        yield name, saved(image, "GIF")
    yield "in_order", saved(palette, "GIF", interlace=0)
    yield "animated", saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(180)])
    transparent = saved(palette, "GIF", transparency=3)
    for name, file in {"": saved(palette, "GIF"), "transparent_": transparent}.items():
        place = file.index(b",", 13 + 3 * 16)
        for kind, canvas in {"on_canvas": (20, 17), "beyond_canvas": (11, 9)}.items():
            moved = bytearray(file)
            struct.pack_into("<HH", moved, 6, *canvas)
            struct.pack_into("<HH", moved, place + 1, 5, 4)  # left, top
            yield name + kind, bytes(moved)


def bmp(width, height, depth, compression, pixels, palette=b"", masks=b"", header=40, colors=0):
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, depth, compression, len(pixels), 0, 0, colors, 0)
    if header > 40:
        info, masks = info + masks.ljust(header - 40, b"\0"), b""
    start = 14 + len(info) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + masks + palette + pixels


def bmps():
    for name, image in {"rgb": rgb, "grey": grey, "bits": bits, "palette": palette, "alpha": rgba}.items():
        yield name, saved(image, "BMP")
    width, height, colors = 7, 5, noise(1024).tobytes()
    rows = lambda depth: noise(height, (width * depth + 31) // 32 * 4).tobytes()
    for name, depth, masks in [("555", 16, (0x7C00, 0x3E0, 0x1F)), ("565", 16, (0xF800, 0x7E0, 0x1F)),
                               ("xbgr", 32, (0xFF000000, 0xFF0000, 0xFF00)), ("rgba", 32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000))]:
        yield f"masks_{name}", bmp(width, height, depth, 3, rows(depth), masks=struct.pack(f"<{len(masks)}I", *masks), header=108)
    yield "masks_behind_header", bmp(width, height, 16, 3, rows(16), masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))
    yield "rgb_15", bmp(width, height, 16, 0, rows(16))
    yield "rgb_32", bmp(width, height, 32, 0, rows(32))
    yield "from_the_top", bmp(width, -height, 24, 0, rows(24))
    for depth in (1, 4, 8):
        yield f"palette_{depth}", bmp(width, height, depth, 0, rows(depth), colors[: 4 << depth])
    yield "few_colors", bmp(width, height, 4, 0, rows(4), colors[:12], colors=3)
    runs = b"".join(bytes([3, i, 4, i + 9, 0, 0]) for i in range(height))
    single = b"".join(bytes([0, 7, i, 17, 33, 49, 65, 81, 97, 0, 0, 0]) for i in range(height))
    yield "runs_8", bmp(width, height, 8, 1, runs + b"\0\1", colors)
    yield "runs_8_single", bmp(width, height, 8, 1, single + b"\0\1", colors)
    yield "runs_8_step", bmp(width, height, 8, 1, b"\3\5\0\2\2\1\4\6\0\0" + runs, colors)
    yield "runs_4", bmp(width, height, 4, 2, b"".join(bytes([5, 16 + i, 2, 52, 0, 0]) for i in range(height)) + b"\0\1", colors[:64])
    old = struct.pack("<IHHHH", 12, width, height, 1, 8) + colors[:768]
    yield "os2", b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(old)) + old + rows(8)


def netpbms():
    yield "p1", b"P1\n# six\n6 2\n010101\n1 1 0 0 1 1\n"
    yield "p4", b"P4 11 2\n" + bytes([0xAA, 0x55, 0x0F, 0xF0])
    for most in (1, 7, 254, 255, 256, 1000, 65535):
        values = random.integers(0, most + 1, (4, 5, 3)).astype(">u2" if most > 255 else "u1")
        yield f"p6_{most}", b"P6\n# comment\n5 4 #another\n%d\n" % most + values.tobytes()
        yield f"p3_{most}", b"P3 5 4 %d\n" % most + b" ".join(b"%d" % v for v in values.flat)
        if most < 256:
            yield f"p5_{most}", b"P5 5 4 %d\n" % most + values[..., 0].tobytes()
            yield f"p2_{most}", b"P2\n#\n5 4\n%d\n" % most + b"\n".join(b"%d" % v for v in values[..., 0].flat)
    yield "p5_65535", b"P5 5 4 65535\n" + (numpy.arange(20) * 3000).astype(">u2").tobytes()


def converted(file):
    """What the reader should give."""
    image = Image.open(io.BytesIO(file))
    image.load()
    if image.mode.startswith("I") and image.format == "PPM":  # rounded, as Pillow does it for colours
        image = Image.fromarray(numpy.rint(numpy.array(image) / 257).astype(numpy.uint8))
    if image.mode.startswith("I"):
        image = Image.fromarray((numpy.array(image).astype(int) >> 8).astype(numpy.uint8))
    return numpy.array(image.convert("RGB"))


formats = {"jpeg": jpegs, "png": pngs, "webp": webps, "tiff": tiffs, "gif": gifs, "bmp": bmps, "ppm": netpbms}
tensors = {}
for name, cases in formats.items():
    for case, file in cases():
        tensors[f"{name}.{case}.file"] = torch.from_numpy(numpy.frombuffer(file, numpy.uint8).copy())
        tensors[f"{name}.{case}.rgb"] = torch.from_numpy(converted(file))
store("images.safetensors", tensors, pillow=PIL.__version__)
