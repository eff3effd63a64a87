"""A text-to-image model in the layout of `avatars-t2i` that needs no training, to drive the Invert tab with.

Tokenizer and text encoder are those of the embedded image-text model, the U-Net is small and random, and the
autoencoder is made by hand: latents are the picture's colours in blocks of 4x4 pixels, so that what comes out can be
told from what went in.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import nn

from core.clip import MERGES, load_embedded
from core.models.cards import MODELS
from training.text_tower import convert_text_model, convert_tokenizer
from training.train_t2i import CONTEXT, build_scheduler, build_unet

CLIP = MODELS["avatars"].clip.folder
SIGNS = (1.0, -1.0)
LARGE = 50.0  # beside it a picture does not change the deviation that group normalisation divides by
CHANNELS = 8


def save_text_model(folder: Path) -> Path:
    """Write the pipeline as `training.train_t2i.release` does."""
    torch.manual_seed(0)
    unet = build_unet((16, 16, 16))
    with torch.no_grad():
        unet.conv_out.weight *= 0.3  # a gentle network: what it inverts does not run away
    StableDiffusionPipeline(
        vae=colour_blocks(),
        text_encoder=convert_text_model(load_embedded(CLIP).model),
        tokenizer=convert_tokenizer(CLIP / MERGES, CONTEXT),
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@torch.no_grad()
def colour_blocks() -> AutoencoderKL:
    """Pixels (B, 3, 128, 128) <-> latents (B, 4, 32, 32): the mean colour of each block, and nothing in the fourth.

    Features are (c, -c) for each colour, so that SiLU, of which silu(c) - silu(-c) = c, can be undone; and a large
    constant, so that the group norms before it divide by a known number.
    """
    vae = AutoencoderKL(
        sample_size=128,
        latent_channels=4,
        block_out_channels=(CHANNELS,) * 3,
        layers_per_block=1,
        norm_num_groups=1,
        mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        scaling_factor=1.0,
    )
    for half in (vae.encoder, vae.decoder):
        for module in half.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                module.bias.zero_()
        for colour in range(3):
            for k, sign in enumerate(SIGNS):
                half.conv_in.weight[2 * colour + k, colour, 1, 1] = sign
                half.conv_out.weight[colour, 2 * colour + k, 1, 1] = sign
        half.conv_in.bias[6:] = torch.tensor(SIGNS) * LARGE
        half.conv_norm_out.weight.fill_(LARGE * (2 / CHANNELS) ** 0.5)
        half.conv_norm_out.bias.zero_()
    each = torch.arange(CHANNELS)
    for block in vae.encoder.down_blocks[:-1]:
        block.downsamplers[0].conv.weight[each, each, :2, :2] = 0.25
    for block in vae.decoder.up_blocks[:-1]:
        block.upsamplers[0].conv.weight[each, each, 1, 1] = 1
    vae.encoder.conv_out.bias[4:] = -10  # log variance
    for convolution in (vae.quant_conv, vae.post_quant_conv):
        convolution.weight.copy_(torch.eye(len(convolution.weight))[..., None, None])
        convolution.bias.zero_()
    return vae
