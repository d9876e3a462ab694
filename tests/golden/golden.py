"""What the reference scripts of this folder share: reproducible numbers, and safetensors files whose bytes never vary."""

import json
import os
import struct

import torch

FOLDER = os.path.dirname(os.path.abspath(__file__))
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(random, *shape):
    """Standard normal float64 numbers."""
    return torch.randn(shape, generator=random, dtype=torch.float64)


def uniform(random, low, high, *shape):
    return low + (high - low) * torch.rand(shape, generator=random, dtype=torch.float64)


def store(name, tensors, **metadata):
    """Writes tests/golden/<name>, sorted by tensor name; every metadata value becomes a string, as the format asks.

    Written by hand because safetensors' own writer shuffles the metadata: the same input gives the same bytes here.
    """
    metadata = {key: str(value) for key, value in (metadata | {"torch": torch.__version__}).items()}
    header, chunks, offset = {"__metadata__": dict(sorted(metadata.items()))}, [], 0
    for key, value in sorted(tensors.items()):
        chunks.append(value.detach().contiguous().numpy().tobytes())
        end = offset + len(chunks[-1])
        header[key] = {"dtype": DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(FOLDER, name), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))
    size = 8 + len(text) + offset
    assert size < 300_000, f"{name} has {size} bytes, at most 300000 are stored"
    print(f"{name}: {len(tensors)} tensors, {size} bytes")
