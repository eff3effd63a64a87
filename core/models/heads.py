"""Attention with as many heads at every width, which the networks of iDDPM have and a `UNet2DModel` does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention

from ..errors import RequestError

HEADS = "hspace_attention_heads"  # in a network's configuration; diffusers itself ignores it


def build_unet(config: Mapping[str, Any]) -> UNet2DModel:
    """The network of a configuration, with the initial weights of torch.

    Raises:
        TypeError, ValueError: there is no such network. RequestError: it is told other things than timesteps.
    """
    require_timesteps(config)
    config = dict(config)
    heads = config.pop(HEADS, None)
    unet = UNet2DModel.from_config(config)
    if heads is not None:
        for module in unet.modules():
            if isinstance(module, Attention):
                set_heads(module, heads)
        unet.register_to_config(**{HEADS: heads})
    return unet


def require_timesteps(config: Mapping[str, Any]) -> None:
    """Raises RequestError: the network is told amounts of noise in place of timesteps, as in NCSN++."""
    if config.get("time_embedding_type") == "fourier":
        raise RequestError(
            "This network is told how much noise a picture has in place of a timestep (time_embedding_type “fourier”): "
            "it is no DDPM, and cannot be edited here. Choose another model."
        )


def set_heads(attention: Attention, heads: int) -> None:
    """Divide the width of an attention into so many heads. Raises ValueError: it cannot be divided so."""
    if not isinstance(heads, int) or heads < 1 or attention.inner_dim % heads:
        raise ValueError(f"{attention.inner_dim} channels cannot be divided into {heads!r} heads")
    attention.heads = attention.sliceable_head_dim = heads
    attention.scale = (attention.inner_dim // heads) ** -0.5
