"""The quick group norm against PyTorch's, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from core.group_norm import group_norm, quick_group_norm
from tests.unit.small_models import small_unet


@pytest.mark.parametrize(("channels", "size", "groups"), [(32, 64, 16), (96, 32, 16), (24, 32, 3), (32, 8, 16)])
def test_values_and_gradients_are_those_of_pytorch(channels: int, size: int, groups: int) -> None:
    torch.manual_seed(0)
    shape = (3, channels, size, size)
    x = (3 * torch.randn(shape) + 1).contiguous(memory_format=torch.channels_last).requires_grad_()
    w, b = torch.randn(channels, requires_grad=True), torch.randn(channels, requires_grad=True)
    up = torch.randn(shape)
    ours = group_norm(x, groups, w, b, 1e-5)
    theirs = F.group_norm(x.double(), groups, w.double(), b.double(), 1e-5)
    torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-5)
    got = torch.autograd.grad(ours, (x, w, b), up)
    expected = torch.autograd.grad(theirs, (x, w, b), up.double())
    for mine, reference in zip(got, expected, strict=True):
        assert (mine.double() - reference.double()).norm() < 1e-5 * reference.double().norm()


def test_a_network_s_gradient_is_unchanged_and_the_block_leaves_no_trace() -> None:
    unet = small_unet(size=64).to(memory_format=torch.channels_last)
    x = torch.randn(2, 12, 64, 64).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = unet.conv_in.weight

    def gradients() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(unet(x, 300).sample.square().sum(), (x, weight))

    expected = gradients()
    with quick_group_norm(unet):
        got = gradients()
    for mine, reference in zip(got, expected, strict=True):
        assert (mine - reference).norm() < 1e-4 * reference.norm()
    assert not any("forward" in vars(module) for module in unet.modules())
