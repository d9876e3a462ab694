"""Makes layout_*.safetensors: small models of torchvision and Hugging Face under the names of their files, and Swin's older ones.

Names in the files: param.<their name> and buffer.<their name> as in a file of that library, memory.<name> where transformers has
other names in memory, images, labels (2) i64, logits (2, 5), loss () = their mean cross entropy, grad.<their name>; float64.

Needs transformers 5.23.0 besides the libraries of the other scripts.
"""

import tempfile

import safetensors.torch
import timm
import torch
import torchvision
import transformers
from timm.models import swin_transformer as timm_swin
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from golden import generator, normal, store, uniform

LABELS = torch.tensor([3, 0])
VIT = dict(image_size=12, patch_size=4, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, layer_norm_eps=1e-6)
SWIN = dict(image_size=16, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=2, mlp_ratio=2.0, drop_path_rate=0.0)


def randomise(model, seed):
    """Values that leave no gradient trivial, in the order of the names."""
    random = generator(seed)
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        positive = name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight"))
        scale = 1 / tensor[0].numel() ** 0.5 if tensor.dim() > 1 and name.endswith("weight") else 0.4
        tensor.copy_(uniform(random, 0.5, 1.5, *tensor.shape) if positive else scale * normal(random, *tensor.shape))
        if name.endswith("attention.0.bias"):
            tensor.abs_().add_(0.3)  # so that the few units of squeeze-and-excitation are not all cut off by ReLU


def named_as_in_files(model):
    """The tensors under the names that the library writes: transformers has others in memory."""
    if not isinstance(model, transformers.PreTrainedModel):
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return {name: t.clone() for name, t in safetensors.torch.load_file(f"{folder}/model.safetensors").items()}


def make(file, model, side, seed, rename=lambda tensors: tensors, logits_of=lambda model, images: model(images), has_no_gradient=lambda name: False):
    """`has_no_gradient`: whether a parameter's gradient is 0 in exact arithmetic, as which it is stored then."""
    model = model.double().eval()
    randomise(model, seed)
    weights = rename(named_as_in_files(model))
    in_memory = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = normal(generator(seed + 1), 2, 3, side, side)
    logits = logits_of(model, images)
    loss = torch.nn.functional.cross_entropy(logits, LABELS)
    loss.backward()
    tensors = dict(images=images, labels=LABELS, logits=logits, loss=loss)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            of_keys = "k_proj.bias" in name  # softmax ignores a shift of the keys
            if has_no_gradient(name):
                assert parameter.grad.abs().max() < 1e-15, f"{name} has a gradient"
                parameter.grad.zero_()
            else:
                assert of_keys or parameter.grad.abs().max() > 1e-7, f"{name} has a trivial gradient"
            parameter.copy_(parameter.grad)
    gradients = rename(named_as_in_files(model))
    buffers = {name for name, _ in model.named_buffers()}
    for name, value in weights.items():
        is_buffer = name in buffers or name.endswith(("relative_position_index", "attn_mask"))
        tensors[f"{'buffer' if is_buffer else 'param'}.{name}"] = value
        if not is_buffer:
            tensors[f"grad.{name}"] = gradients[name]
    if set(in_memory) != set(weights) and isinstance(model, transformers.PreTrainedModel):
        tensors |= {f"memory.{name}": value for name, value in in_memory.items()}
    store(file, tensors, timm=timm.__version__, torchvision=torchvision.__version__, transformers=transformers.__version__, seed=seed)


def logits_of(model, images):
    return model(pixel_values=images).logits


def make_torchvision():
    vit = VisionTransformer(image_size=12, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5, representation_size=6)
    make("layout_vit_torchvision.safetensors", vit, side=12, seed=21)
    swin = SwinTransformer([2, 2], 8, [2, 2], [1, 2], [2, 2], mlp_ratio=2.0, stochastic_depth_prob=0.0, num_classes=5)
    make("layout_swin_torchvision.safetensors", swin, side=16, seed=23)


def make_huggingface():
    t = transformers
    vit = t.ViTForImageClassification(t.ViTConfig(**VIT, num_labels=5))
    make("layout_vit_huggingface.safetensors", vit, side=12, seed=25, logits_of=logits_of)
    deit = t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**VIT, num_labels=5))
    make("layout_deit_huggingface.safetensors", deit, side=12, seed=27, logits_of=logits_of)
    swin = t.SwinForImageClassification(t.SwinConfig(**SWIN, use_absolute_embeddings=True, num_labels=5))
    make("layout_swin_huggingface.safetensors", swin, side=16, seed=29, logits_of=logits_of)
    for layer_type, widths in (("basic", [4, 8]), ("bottleneck", [16, 32])):
        config = t.ResNetConfig(embedding_size=4, hidden_sizes=widths, depths=[1, 2], layer_type=layer_type, num_labels=5)
        make(f"layout_resnet_{layer_type}_huggingface.safetensors", t.ResNetForImageClassification(config), side=20, seed=31, logits_of=logits_of)
    regnet = t.RegNetConfig(embedding_size=10, hidden_sizes=[8, 16], depths=[1, 2], groups_width=4, num_labels=5)
    make("layout_regnet_huggingface.safetensors", t.RegNetForImageClassification(regnet), side=20, seed=39, logits_of=logits_of)


def make_microsoft():
    """The names of the files that Swin's authors released, which timm's filter turns into its own."""
    model = timm_swin.SwinTransformer(
        img_size=16, patch_size=2, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, mlp_ratio=2.0, num_classes=5, drop_path_rate=0.0
    )

    def rename(tensors):
        old = {}
        for name, tensor in tensors.items():
            old[name.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc.", "head.")] = tensor
        back = timm_swin.checkpoint_filter_fn(old, model)
        assert back.keys() == tensors.keys() and all(torch.equal(back[name], tensors[name]) for name in back)
        for stage, layer in enumerate(model.layers):
            for number, block in enumerate(layer.blocks):
                place = f"layers.{stage}.blocks.{number}"
                old[f"{place}.attn.relative_position_index"] = block.attn.relative_position_index.clone()
                if block.attn_mask is not None:
                    old[f"{place}.attn_mask"] = block.attn_mask.clone()
        return old

    make("layout_swin_microsoft.safetensors", model, side=16, seed=35, rename=rename)


if __name__ == "__main__":
    make_torchvision()
    make_huggingface()
    make_microsoft()
