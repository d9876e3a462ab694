"""Makes hybrid_*.safetensors: logits, loss and all gradients of small hybrids of timm, a ResNet in front of a ViT, in float64.

Names in the files: as in make_vit.py. hybrid_stages.safetensors has a ResNet of two stages, hybrid_stem.safetensors the stem alone
and patches of 2 x 2 places behind it. Both have norms of 4 groups, to be small; all else is as in timm's own hybrids.
"""

from functools import partial

import timm
import torch
from timm.layers import GroupNormAct, HybridEmbed, StdConv2dSame
from timm.models.resnetv2 import ResNetV2, create_resnetv2_stem
from timm.models.vision_transformer import VisionTransformer

from golden import generator, normal
from make_families import LABELS, save
from make_vit import randomise

WIDTH, GROUPS = 8, 4


def check_that_timm_builds_its_own_like_this():
    model = timm.create_model("vit_tiny_r_s16_p8_224")
    assert model.patch_embed.backbone.conv.eps == 1e-8 and model.patch_embed.backbone.norm.eps == 1e-5
    model = timm.create_model("vit_small_r26_s32_224")
    backbone = model.patch_embed.backbone
    assert {m.eps for m in backbone.modules() if isinstance(m, StdConv2dSame)} == {1e-8}
    assert {(m.eps, m.num_groups) for m in backbone.modules() if isinstance(m, GroupNormAct)} == {(1e-5, 32)}
    assert all((block.norm3.weight == 0).all() for stage in backbone.stages for block in stage.blocks)


def make(file, seed, image, depths, patch):
    layers = dict(
        stem_type="same",
        preact=False,
        conv_layer=partial(StdConv2dSame, eps=1e-8),
        norm_layer=partial(GroupNormAct, num_groups=GROUPS),
    )
    if depths:
        channels = [4 * WIDTH << stage for stage in range(len(depths))]
        backbone = ResNetV2(depths, channels, num_classes=0, global_pool="", stem_chs=WIDTH, **layers)
    else:
        backbone = create_resnetv2_stem(3, WIDTH, **layers)
    config = dict(img_size=image, patch_size=patch, num_classes=5, embed_dim=16, depth=1, num_heads=2, mlp_ratio=2.0)
    model = VisionTransformer(embed_layer=partial(HybridEmbed, backbone=backbone), **config).double().train()
    randomise(model, seed)
    images = normal(generator(seed + 1), 4, 3, image, image)
    logits = model(images)
    loss = torch.nn.functional.cross_entropy(logits, LABELS)
    save(file, model, loss, dict(images=images, logits=logits), seed=seed, depths=depths, width=WIDTH, groups=GROUPS, **config)


if __name__ == "__main__":
    check_that_timm_builds_its_own_like_this()
    make("hybrid_stages.safetensors", seed=23, image=24, depths=(2, 1), patch=1)
    make("hybrid_stem.safetensors", seed=29, image=24, depths=(), patch=2)
