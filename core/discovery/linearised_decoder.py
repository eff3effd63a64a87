"""The decoder of a network to first order at one point of h-space, as a network that is linear (`core.linearised`)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..linearised import Linearisation
from ..unet import Features, SplitNetwork

DECODER = ("up_blocks", "conv_norm_out", "conv_act", "conv_out")


class LinearisedDecoder:
    """V (n, C, H, W) -> dG_dec/dh V (n, C_out, h, w), differentiable in V.

    G_dec(h) is the raw output of a network's decoder, dG_dec/dh its derivative at `features`, which are those of one
    picture, without guidance. The network stays as it is, and weights are shared with it where the precision is the
    same.
    """

    def __init__(self, network: SplitNetwork, features: Features, dtype: torch.dtype) -> None:
        twin = _copy_with_own_decoder(network.unet, dtype)
        self._linear = Linearisation([twin._modules[name] for name in DECODER if twin._modules[name] is not None])
        self._split = network.of(twin)
        features = features.to(dtype)
        self._linear.record(lambda: self._split.decode(features), features.emb)
        # From here on only the shapes of h and the skips are needed.
        empty = tuple(skip.new_empty((0, *skip.shape[1:])) for skip in features.skips)
        self._features = replace(features, h=features.h[:0], skips=empty)

    def __call__(self, V: Tensor) -> Tensor:
        V = V.contiguous(memory_format=torch.channels_last)
        skips = tuple(_zeros_like(skip, len(V)) for skip in self._features.skips)
        features = replace(self._features, h=torch.zeros_like(V), skips=skips)
        return self._linear.apply(lambda: self._split.decode(features, V))


def _zeros_like(skip: Tensor, rows: int) -> Tensor:
    return skip.new_zeros((rows, *skip.shape[1:])).contiguous(memory_format=torch.channels_last)


def _copy_with_own_decoder(unet: Any, dtype: torch.dtype) -> Any:
    """The same network with its own copies of the decoder's modules in `dtype`; equal weights are shared."""
    shared = {id(p): p for p in unet.parameters()} if dtype == unet.dtype else {}
    twin = copy.copy(unet)
    twin._modules = dict(unet._modules)
    for name in DECODER:
        if unet._modules[name] is not None:
            module = copy.deepcopy(unet._modules[name], dict(shared))
            twin._modules[name] = module if shared else nn.Module.to(module, dtype)
    return twin
