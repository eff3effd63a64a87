"""What is done to the skip connections of `avatars` in training, on a small network."""

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor

from core.unet import SplitUNet
from training.skips import SkipDropout, cut, skip_channels
from training.train_ddpm import build_unet

CHANNELS = (16, 16, 32, 32)


@pytest.fixture
def unet() -> UNet2DModel:
    torch.manual_seed(0)
    return build_unet(CHANNELS)


def skips_of(unet: UNet2DModel) -> tuple[tuple[Tensor, ...], SplitUNet]:
    split = SplitUNet(unet)
    with torch.no_grad():
        return split.encode(torch.randn(2, 12, 64, 64), 500), split


def test_skip_channels_are_those_of_the_encoder(unet: UNet2DModel) -> None:
    features, _ = skips_of(unet)
    flat = [channels for block in skip_channels(unet) for channels in block]
    assert flat == [skip.shape[1] for skip in reversed(features.skips)]


def test_a_cut_level_hears_nothing_of_its_skip_connections(unet: UNet2DModel) -> None:
    """Twice the skip connection is the same to a group norm of its own, so other values are put in, in whole groups."""
    cut(unet)
    features, split = skips_of(unet)

    def output(index: int) -> Tensor:
        skips = list(features.skips)
        skips[index] = skips[index].flip(0, 2)
        with torch.no_grad():
            return split.decode(type(features)(features.h, tuple(skips), features.emb, features.t))

    plain = split.decode(features)
    torch.testing.assert_close(output(-1), plain, atol=1e-6, rtol=0)  # 32 + 32 channels: the groups do not mix
    assert (output(0) - plain).abs().max() > 1e-3  # the finest level has its own


def test_what_was_cut_does_not_grow_back() -> None:
    torch.manual_seed(0)
    unet = build_unet(CHANNELS)
    cut(unet)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=1e-2, weight_decay=0.0)
    weight = unet.up_blocks[0].resnets[0].conv1.weight
    before = weight.detach().clone()
    for _ in range(2):
        optimiser.zero_grad()
        unet(torch.randn(2, 12, 64, 64), 500).sample.square().mean().backward()
        optimiser.step()
    taken = skip_channels(unet)[0][0]
    assert weight[:, -taken:].abs().max() == 0
    assert (weight - before)[:, :-taken].abs().max() > 1e-3


def test_dropped_rows_lose_their_skip_connections_and_others_keep_them(unet: UNet2DModel) -> None:
    dropout, x = SkipDropout(unet), torch.randn(2, 12, 64, 64)
    unet.eval()
    with torch.no_grad():
        whole = unet(x, 500).sample
        dropout.kept = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(2, 2, 1, 1, 1)
        one_dropped = unet(x, 500).sample
    torch.testing.assert_close(one_dropped[0], whole[0], atol=1e-5, rtol=1e-5)
    assert (one_dropped[1] - whole[1]).abs().max() > 1e-3


def test_the_share_of_dropped_skip_connections(unet: UNet2DModel) -> None:
    dropout = SkipDropout(unet, rate=0.25)
    dropout.draw(4000, torch.Generator().manual_seed(0))
    assert dropout.kept.shape == (2, 4000, 1, 1, 1)
    assert dropout.kept.mean().item() == pytest.approx(0.75, abs=0.02)
    assert (dropout.kept[0] != dropout.kept[1]).any()  # each on its own
