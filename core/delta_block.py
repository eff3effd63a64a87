"""f_t, the implicit neural direction of Asyrp (section 3.4, Appendix E, Figure 16)."""

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DeltaBlock(nn.Module):
    """f_t: 1x1 conv -> + Linear(silu(emb)) -> GroupNorm -> silu -> 1x1 conv, zero at the start.

    The text says that the timestep is concatenated; the figure and the released weights add it, and so does this.
    Parameter names are those of the released weights for DDPM++, which load as they are.

    channels: C of h. emb_channels: width of the U-Net's time embedding. hidden: width between the convolutions, by
    default C (512 in the paper). 32 groups, or the most that divide `hidden`. pre_norm: the form that the authors use
    for iDDPM and ADM, with h first through a GroupNorm of its own and silu, and the epsilon of those networks.
    """

    def __init__(self, channels: int, emb_channels: int, hidden: int | None = None, pre_norm: bool = False) -> None:
        super().__init__()
        hidden, eps = hidden or channels, 1e-5 if pre_norm else 1e-6
        self.norm1 = nn.GroupNorm(gcd(32, channels), channels, eps) if pre_norm else None
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.temb_proj = nn.Linear(emb_channels, hidden)
        self.norm2 = nn.GroupNorm(gcd(32, hidden), hidden, eps)
        self.conv2 = nn.Conv2d(hidden, channels, 1)
        self.draw(0)

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """What it starts from: PyTorch's usual ranges, drawn by a generator of its own, and zero for the last layer.

        Neither torch's generator nor its initialisers serve here, because both belong to the whole process: another
        thread may draw between two of our lines, and while diffusers builds a model the initialisers do nothing.
        """
        generator = torch.Generator().manual_seed(seed)
        for norm in (self.norm1, self.norm2):
            if norm is not None:
                norm.weight.fill_(1)
                norm.bias.zero_()
        for layer in (self.conv1, self.temb_proj):
            bound = layer.weight[0].numel() ** -0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            assert layer.bias is not None  # both have one
            layer.bias.uniform_(-bound, bound, generator=generator)
        for parameter in self.conv2.parameters():
            parameter.zero_()

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """delta_h (B, C, H, W) for h (B, C, H, W) and time embedding emb (B, E) or (1, E)."""
        if self.norm1 is not None:
            h = F.silu(self.norm1(h))
        z = self.conv1(h) + self.temb_proj(F.silu(emb))[:, :, None, None]
        return self.conv2(F.silu(self.norm2(z)))
