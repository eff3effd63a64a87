"""The maps between pixels and network space undo themselves; Haar coefficients are what they are called."""

import pytest
import torch

from core.models.codec import CODECS, Haar


def test_without_colour() -> None:
    """The mean of the colours goes in, and comes out as a gray picture that it is the mean of."""
    codec, pixels = CODECS["gray"](), torch.rand(2, 3, 8, 12) * 2 - 1
    x = codec.encode(pixels)
    assert x.shape == (2, 1, 8, 12)
    assert torch.allclose(x[:, 0], (pixels[:, 0] + pixels[:, 1] + pixels[:, 2]) / 3, atol=1e-6)
    gray = codec.decode(x)
    assert torch.equal(gray, torch.stack((x[:, 0],) * 3, 1))
    assert torch.allclose(codec.encode(gray), x, atol=1e-6)


@pytest.mark.parametrize("name", sorted(CODECS.keys() - {"gray"}))
def test_there_and_back(name: str) -> None:
    codec, pixels = CODECS[name](), torch.rand(2, 3, 8, 12) * 2 - 1
    assert torch.allclose(codec.decode(codec.encode(pixels)), pixels, atol=1e-6)


def test_haar_coefficients_of_blocks() -> None:
    """A step to the right is horizontal detail, one downwards vertical, a chessboard diagonal; the rest is the mean."""
    right, down = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]), torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    for row, block in enumerate((torch.ones(2, 2), right, down, right * down)):
        pixels = torch.zeros(1, 3, 4, 6)
        pixels[0, 1, 2:, 2:4] = block
        x = Haar((3.0, 5.0, 7.0)).encode(pixels)
        assert x.shape == (1, 12, 2, 3)
        expected = torch.zeros(12, 2, 3)
        expected[3 * row + 1, 1, 1] = 2 * (1, -3, -5, 7)[row]
        assert torch.equal(x[0], expected)


def test_haar_without_gains_is_orthonormal() -> None:
    matrix = Haar((1.0, 1.0, 1.0)).encode(torch.eye(48).view(48, 3, 4, 4)).flatten(1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(48), atol=1e-6)
