"""What a sampling loop asks of the network, so that several can be answered in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from .unet import Features, SplitNetwork

Shift = Callable[[Features], Tensor | None]


@dataclass(frozen=True)
class Query:
    """The noise at some rows, with or without shifts of h.

    x: (B, C, h, w) in network space, encoded once each. t: their timestep, or one each. rows: (N,) of `x`, the ones
    that are decoded, in this order; None: each of them once. shift: delta_h for the features of those N rows,
    broadcastable to their h, or None.
    """

    x: Tensor
    t: int | Sequence[int]
    rows: Tensor | None = None
    shift: Shift | None = None

    @property
    def timesteps(self) -> list[int]:
        """One for each row of x."""
        return [self.t] * len(self.x) if isinstance(self.t, int) else list(self.t)

    @property
    def size(self) -> int:
        """The rows of its larger part: those encoded or those decoded."""
        return len(self.x) if self.rows is None else max(len(self.x), len(self.rows))


@torch.no_grad()
def outputs(
    unet: SplitNetwork, queries: Sequence[Query], chunk: int | None = None
) -> list[tuple[Tensor, Tensor, int | list[int]]]:
    """The network's raw output (N, C_out, h, w) for each query, with the rows of x and the timesteps that it is for:
    one each, or a single one for all.

    One call of the encoder and one of the decoder, whatever the timesteps. chunk: rows per call of the decoder, where
    all of them are too many: an edit has two for a row that is encoded once.
    """
    x = torch.cat([query.x for query in queries]) if len(queries) > 1 else queries[0].x
    timesteps = [t for query in queries for t in query.timesteps]
    features = unet.encode(x.to(unet.device, unet.dtype), timesteps)

    # Which rows are decoded, and the shift of each.
    starts = [0, *accumulate(len(query.x) for query in queries)]
    if any(query.rows is not None for query in queries):
        every = (torch.arange(len(query.x)) if query.rows is None else query.rows.cpu() for query in queries)
        rows = torch.cat([start + own for start, own in zip(starts, every, strict=False)])
        features = features.select(rows.to(unet.device))
    else:
        rows = torch.arange(len(x))
    counts = [len(query.x) if query.rows is None else len(query.rows) for query in queries]
    ends = list(accumulate(counts))
    shares = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    shifts = [
        query.shift(features.select(share)) if query.shift is not None else None
        for query, share in zip(queries, shares, strict=True)
    ]
    delta_h = None
    if any(shift is not None for shift in shifts):
        delta_h = features.h.new_zeros(features.h.shape, dtype=torch.float32)
        for share, shift in zip(shares, shifts, strict=True):
            if shift is not None:
                delta_h[share] = shift

    output = decoded(unet, features, delta_h, chunk or len(rows))
    x = x[rows.to(x.device)]
    used = [timesteps[row] for row in rows.tolist()]
    return [
        (output[share], x[share], query.t if isinstance(query.t, int) else used[share])
        for query, share in zip(queries, shares, strict=True)
    ]


def decoded(unet: SplitNetwork, features: Features, delta_h: Tensor | None, chunk: int) -> Tensor:
    """The decoder's output, `chunk` rows at a time."""
    count = len(features.h)
    if count <= chunk:
        return unet.decode(features, delta_h)
    parts = [slice(first, first + chunk) for first in range(0, count, chunk)]
    return torch.cat([unet.decode(features.select(part), None if delta_h is None else delta_h[part]) for part in parts])
