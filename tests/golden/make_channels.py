"""Makes input_channels.safetensors: a first convolution's kernel for RGB, and what timm makes of it for other channels.

Names in the file: kernel (4, 3, 2, 2) f64; channels.<C> (4, C, 2, 2) f64 = adapt_input_conv(C, kernel), in float32 as timm has it.
"""

import timm
from timm.models import adapt_input_conv

from golden import generator, normal, store

kernel = normal(generator(3), 4, 3, 2, 2).float()
tensors = {"kernel": kernel.double()}
for channels in (1, 2, 3, 4, 7):
    tensors[f"channels.{channels}"] = adapt_input_conv(channels, kernel.clone()).double()
store("input_channels.safetensors", tensors, timm=timm.__version__)
