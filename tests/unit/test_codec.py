"""The maps between pixels and network space undo themselves and keep noise independent."""

import pytest
import torch

from core.models.codec import CODECS, Unshuffle


@pytest.mark.parametrize("name", CODECS)
def test_there_and_back(name: str) -> None:
    codec, pixels = CODECS[name](), torch.rand(2, 3, 8, 12) * 2 - 1
    assert torch.equal(codec.decode(codec.encode(pixels)), pixels)


def test_unshuffle_is_a_permutation_of_2x2_blocks() -> None:
    x = Unshuffle().encode(torch.arange(48.0).view(1, 3, 4, 4))
    assert x.shape == (1, 12, 2, 2)
    assert sorted(x.flatten().tolist()) == list(range(48))
    assert x[0, :4, 0, 0].tolist() == [0, 1, 4, 5]  # the first block of the first colour
