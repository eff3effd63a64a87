"""Inverted pictures and the cache that keeps them, so that a changed strength needs no second inversion."""

import hashlib
from dataclasses import dataclass, replace

from torch import Tensor

from .cache import Cache
from .memory import MAX_LATENTS

Key = tuple[str, str, int, int]


@dataclass(frozen=True)
class Latent:
    """x_T: float32 (B, C, H, W) in network space at t = T-1, made by `steps` inversion steps of model `model_id`.

    key: tells latents apart: (content, model, steps, iterations); steps is 0 for one that was sampled.

    A latent belongs to the precision that made it: a network in bfloat16 does not take down quite the way that the same
    network in float32 came up (`python -m benchmarks.published`). Invert again after a change of precision.
    """

    x_T: Tensor
    steps: int
    model_id: str
    key: Key

    def repeat(self, n: int) -> "Latent":
        """Every row n times in a row, for a strip of n strengths."""
        return replace(self, x_T=self.x_T.repeat_interleave(n, dim=0))

    @property
    def nbytes(self) -> int:
        return self.x_T.numel() * self.x_T.element_size()


def latent_key(pixels: Tensor, model_id: str, steps: int, iterations: int = 1) -> Key:
    """(SHA-256 of the pixels' content and shape, model id, inversion steps, iterations of each)."""
    content = pixels.detach().float().cpu().contiguous()
    digest = hashlib.sha256(str(tuple(content.shape)).encode())
    digest.update(content.numpy().tobytes())
    return digest.hexdigest(), model_id, steps, iterations


class LatentCache(Cache[Latent]):
    """Latents by their keys."""

    def __init__(self, capacity: int = MAX_LATENTS) -> None:
        super().__init__(capacity, "latents")

    def keep(self, latent: Latent) -> None:
        """Keep it, unless it is larger than the whole cache."""
        self.put(latent.key, latent)
