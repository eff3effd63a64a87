"""The two halves of the U-Net against the model's own forward, for every architecture of the registry and more."""

import pytest
import torch
from diffusers import UNet2DModel
from small_models import small_unet
from torch import Tensor

from core.models.cards import MODELS, Embedded, Hub
from core.models.codec import CODECS
from core.models.opening import shapes
from core.unet import Features, SplitUNet

# As in the repositories' config.json; `attention_head_dim` None is one head.
GOOGLE_DDPM = {
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
    "attention_head_dim": None,
    "norm_eps": 1e-6,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "downsample_padding": 0,
}
AVATARS = {
    "in_channels": 12,
    "out_channels": 12,
    "block_out_channels": (32, 64, 128, 256),
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "attention_head_dim": 32,
    "down_block_types": ("DownBlock2D",) * 3 + ("AttnDownBlock2D",),
    "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * 3,
}
ADM = {  # iDDPM, ADM and P2 checkpoints, with narrower levels
    "out_channels": 6,
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
    "norm_num_groups": 32,
    "attn_norm_num_groups": 32,
    "attention_head_dim": 32,
    "down_block_types": ("ResnetDownsampleBlock2D",) * 2 + ("AttnDownBlock2D", "ResnetDownsampleBlock2D"),
    "up_block_types": ("ResnetUpsampleBlock2D", "AttnUpBlock2D") + ("ResnetUpsampleBlock2D",) * 2,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
}
SKIP = {  # NCSN++: a second, image-sized skip path, Fourier time embedding, output divided by t
    "block_out_channels": (32, 32, 64),
    "layers_per_block": 1,
    "attention_head_dim": 32,
    "norm_num_groups": None,
    "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipDownBlock2D"),
    "up_block_types": ("SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D"),
    "time_embedding_type": "fourier",
    "mid_block_scale_factor": 2**0.5,
}
CENTRED = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "center_input_sample": True,
    "attention_head_dim": 8,
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
}
NO_MIDDLE = CENTRED | {"mid_block_type": None}
LDM = {  # Rombach et al. 2022, table 12: faces, f = 4
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "attention_head_dim": 32,
    "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * 3),
    "up_block_types": (*("AttnUpBlock2D",) * 3, "UpBlock2D"),
}
ARCHITECTURES = {
    "google-ddpm": GOOGLE_DDPM,
    "avatars": AVATARS,
    "adm": ADM,
    "skip": SKIP,
    "centred": CENTRED,
    "no-middle": NO_MIDDLE,
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def unet(request: pytest.FixtureRequest) -> UNet2DModel:
    torch.manual_seed(0)
    size = 64 if request.param in ("google-ddpm", "avatars") else 32
    return UNet2DModel(**({"sample_size": size} | ARCHITECTURES[request.param])).eval().requires_grad_(False)


@torch.no_grad()
def test_the_halves_make_the_whole(unet: UNet2DModel) -> None:
    split = SplitUNet(unet)
    x = torch.randn(2, *split.x_shape)
    for t in (1, 703):
        whole = unet(x, t).sample
        assert torch.allclose(split.decode(split.encode(x, t)), whole, rtol=0, atol=1e-6 * whole.abs().max().item())


@torch.no_grad()
def test_delta_h_is_added_to_the_output_of_the_mid_block(unet: UNet2DModel) -> None:
    split, bottom = SplitUNet(unet), unet.mid_block or unet.down_blocks[-1]
    x = torch.randn(2, *split.x_shape)
    features = split.encode(x, 300)
    delta_h = torch.randn(1, *features.h.shape[1:])

    def shift(module: torch.nn.Module, inputs: object, output: Tensor | tuple) -> Tensor | tuple:
        return output + delta_h if isinstance(output, Tensor) else (output[0] + delta_h, *output[1:])

    hook = bottom.register_forward_hook(shift)
    try:
        shifted = unet(x, 300).sample
    finally:
        hook.remove()
    plain = unet(x, 300).sample
    scale = shifted.abs().max().item()
    assert torch.allclose(split.decode(features, delta_h), shifted, rtol=0, atol=1e-6 * scale)
    assert (shifted - plain).abs().max() > 1e-3 * scale
    # Decoding has not changed the features.
    assert torch.allclose(split.decode(features), plain, rtol=0, atol=1e-6 * scale)


def test_the_registry_says_the_shape_of_h() -> None:
    """The architectures above are the registry's, and their h has the shape on the card."""
    for card in MODELS.values():
        if card.codec == "vq":
            assert shapes({"sample_size": 64, **LDM}) == (3, card.resolution // 4, card.h_shape)
            continue
        name = "google-ddpm" if isinstance(card.source, Hub) else "avatars"
        config = ARCHITECTURES[name]
        side = CODECS[card.codec]().encode(torch.zeros(1, 3, card.resolution, card.resolution)).shape[-1]
        levels = len(config["block_out_channels"])
        assert card.h_shape == (config["block_out_channels"][-1], *(side // 2 ** (levels - 1),) * 2), card.id


def test_google_ddpm_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        unet = UNet2DModel(sample_size=256, **GOOGLE_DDPM)
    assert sum(p.numel() for p in unet.parameters()) == 113_673_219


def test_the_shipped_network_is_split_exactly() -> None:
    card = MODELS["avatars"]
    assert isinstance(card.source, Embedded)
    unet = UNet2DModel.from_pretrained(card.source.folder / "unet", local_files_only=True, torch_dtype=torch.float32)
    split = SplitUNet(unet)
    x = torch.randn(2, *split.x_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = split.encode(x, 412)
        assert torch.allclose(split.decode(features), unet(x, 412).sample, atol=1e-5)
    assert tuple(features.h.shape[1:]) == card.h_shape


@pytest.fixture
def features() -> Features:
    split = SplitUNet(small_unet())
    with torch.no_grad():
        return split.encode(torch.randn(3, *split.x_shape), 100)


def test_rows_can_be_selected_and_repeated(features: Features) -> None:
    chosen = features.select(torch.tensor([2, 0, 2]))
    assert torch.equal(chosen.h, features.h[[2, 0, 2]])
    assert all(torch.equal(a, b[[2, 0, 2]]) for a, b in zip(chosen.skips, features.skips, strict=True))
    repeated = features.repeat(2)
    assert torch.equal(repeated.h, features.h[[0, 0, 1, 1, 2, 2]])
    assert torch.equal(repeated.emb, features.emb[[0, 0, 1, 1, 2, 2]])
    assert torch.equal(features.select(slice(1, 2)).expand(4).skips[0], features.skips[0][[1, 1, 1, 1]])
    with pytest.raises(ValueError, match="one row"):
        features.expand(2)


def test_derivatives_of_the_decoder() -> None:
    """Reverse and forward mode (through plain attention) against central differences, in float64."""
    split = SplitUNet(small_unet().double())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        features = split.encode(torch.randn(1, *split.x_shape, dtype=torch.float64, generator=generator), 400)
        fused = split.decode(features)
    u = torch.randn(features.h.shape, dtype=torch.float64, generator=generator)
    w = torch.randn(fused.shape, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        difference = (split.decode(features, 1e-5 * u) - split.decode(features, -1e-5 * u)) / 2e-5

    delta_h = torch.zeros_like(features.h, requires_grad=True)
    (gradient,) = torch.autograd.grad((split.decode(features, delta_h) * w).sum(), delta_h)
    assert (gradient * u).sum().item() == pytest.approx((difference * w).sum().item(), rel=1e-6)

    split.use_plain_attention()
    plain, product = torch.func.jvp(lambda d: split.decode(features, d), (torch.zeros_like(u),), (u,))
    assert torch.allclose(plain, fused, atol=1e-10)
    assert torch.allclose(product, difference, atol=1e-6 * difference.abs().max().item())
    split.use_plain_attention(False)
    with torch.no_grad():
        assert torch.allclose(split.decode(features), fused, atol=1e-10)


def test_class_conditional_networks_are_refused() -> None:
    unet = UNet2DModel(
        num_class_embeds=3,
        block_out_channels=(32,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    with pytest.raises(ValueError, match="class-conditional"):
        SplitUNet(unet)
