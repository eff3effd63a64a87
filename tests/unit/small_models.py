"""Small models with random weights, for tests of the algebra and of the loops."""

import torch
from diffusers import DDIMScheduler, UNet2DModel

from core.delta_block import DeltaBlock
from core.models.cards import Embedded, EmbeddedClip, ModelCard
from core.models.codec import CODECS
from core.models.loader import DiffusionModel
from core.schedule import Schedule
from core.unet import SplitUNet


def small_unet(channels: int = 12, size: int | tuple[int, int] = 16, seed: int = 0) -> UNet2DModel:
    """Like the avatars' network, with fewer channels: h is (32, size/4, size/4), attention at the lowest level."""
    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(16, 16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=16,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    ).eval()


def small_card(model_id: str = "small", folder: str = "nowhere", codec: str = "haar") -> ModelCard:
    return ModelCard(
        id=model_id,
        title="Small",
        description="Random weights.",
        source=Embedded(folder),
        resolution=32,
        h_shape=(32, 4, 4),
        codec=codec,
        domain_word="face",
        clip=EmbeddedClip("nowhere"),
        perceptual="embedded",
        curves="nowhere.json",
        licence="mit",
    )


def small_model(prediction_type: str = "v_prediction", dtype: torch.dtype = torch.float32) -> DiffusionModel:
    """12 channels of Haar coefficients: pictures of 32x32."""
    unet = small_unet().to(dtype)
    schedule = Schedule.from_scheduler(DDIMScheduler(prediction_type=prediction_type))
    card = small_card()
    device = torch.device("cpu")
    return DiffusionModel(card, SplitUNet(unet), schedule, CODECS[card.codec](), device, dtype, "0" * 16)


def trained_block(emb_channels: int = 16, seed: int = 0) -> DeltaBlock:
    """An f_t for 32 channels that is not zero."""
    torch.manual_seed(seed)
    f_t = DeltaBlock(channels=32, emb_channels=emb_channels, hidden=64)
    torch.nn.init.normal_(f_t.conv2.weight, std=0.1)
    return f_t.requires_grad_(False)
