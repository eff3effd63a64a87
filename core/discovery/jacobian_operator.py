"""The Jacobian of P_t with respect to h as an operator: products with it and its transpose; and the point of an image
at which it is taken.

J = d codec.decode(P_t(G(h, skips, emb))) / dh at fixed (x_t, skips, emb), from h-space (C, H, W) to pixels (3, R, R).
The Jacobian of eps is the same matrix times a scalar, -sqrt(a_t / (1 - a_t)) (Region-based editing, Eq. 9 and 10): the
right singular vectors are the same, and a row of J is the change of one pixel of the predicted image.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..ascent import ascend
from ..editing import predict
from ..errors import RequestError, ResourceError
from ..memory import explain_memory_errors
from ..models.loader import DiffusionModel
from ..precision import name_of
from ..progress import Job, Progress
from .linearised_decoder import LinearisedDecoder

ROWS_PER_CALL = 16  # more rows are no faster
LINEARISED_AT = 0.6  # of T (Local editing, section 5)
PLACE_STEPS, PLACE_POWER = 6, 1.5  # of the way up to x_t


class Jacobian:
    """J at (x_t, t) as an operator; `forward` is V -> J V, `reverse` is Y -> J^T Y, for batches of rows.

    x_t: (1, C, h, w) in network space. dtype: of the products, float32 by default: on a CPU bfloat16 takes 0.6 of the
    time and is wrong by two per cent (see benchmarks/discovery.py). chunk: rows per call, by default what fits in
    memory. forwards, reverses: how many products were made. unit: in which h is measured (`ModelCard.unit`).

    Raises:
        ValueError: x_t has more than one row.
    """

    def __init__(
        self,
        model: DiffusionModel,
        x_t: Tensor,
        t: int,
        dtype: torch.dtype = torch.float32,
        chunk: int | None = None,
    ) -> None:
        if len(x_t) != 1:
            raise ValueError(f"the Jacobian is that of one image, not of {len(x_t)}")
        wide = torch.promote_types(dtype, torch.float32)
        self.model, self.t, self.dtype, self.unit = model, t, dtype, model.card.unit
        self.x_t = x_t.to(model.device, wide)
        with torch.no_grad():
            features = model.features(self.x_t, t)
            P_t = model.schedule.predicted_x0(self.x_t, model.eps(features, self.x_t, t), t)
        self._pixels = model.codec.derivative(P_t)
        branches = model.unet.shifted_branches(features)
        self._decoders = [(weight, LinearisedDecoder(network, at, dtype)) for weight, network, at in branches]
        self._chunk = chunk
        self._graph: tuple[Tensor, Tensor] | None = None
        self.forwards = self.reverses = 0
        self.h_shape = tuple(features.h.shape[1:])
        self.image_shape = tuple(model.codec.decode(self.x_t).shape[1:])

    @property
    def rows_per_call(self) -> int:
        """How many products are made at once."""
        most = self.model.codec.rows or ROWS_PER_CALL
        return self._chunk or min(most, max(1, self.model.rows_per_call() // 2))

    def forward(self, V: Tensor) -> Tensor:
        """J v of each row. V: (n, C, H, W) -> (n, 3, R, R), in float32 at least.

        Raises:
            ResourceError: out of memory, or half precision overflowed.
        """
        self.forwards += len(V)
        with torch.no_grad():
            return self._by_chunks(self._product, V, self.dtype)

    def reverse(self, Y: Tensor) -> Tensor:
        """J^T y of each row. Y: (n, 3, R, R) -> (n, C, H, W), in float32 at least.

        Raises:
            ResourceError: out of memory, or half precision overflowed.
        """
        self.reverses += len(Y)
        return self._by_chunks(self._transposed, Y, self.x_t.dtype)

    def _product(self, V: Tensor) -> Tensor:
        """What a change of h does to the predicted image.

        P_t is linear in (x_t, output of the network), and x_t does not change with h: its change is zero. From there on
        it is the derivative of the codec at P_t.
        """
        channels = self.x_t.shape[1]
        output = sum(weight * decoder(V)[:, :channels].to(self.x_t.dtype) for weight, decoder in self._decoders)
        assert isinstance(output, Tensor)
        zero, schedule = torch.zeros_like(output), self.model.schedule
        eps = schedule.eps_from_output(output, zero, self.t)
        return self.unit * self._pixels(schedule.predicted_x0(zero, eps, self.t))

    def _transposed(self, Y: Tensor) -> Tensor:
        if self._graph is None or len(self._graph[0]) != len(Y):  # one graph serves every batch of that size
            V = torch.zeros((len(Y), *self.h_shape), dtype=self.dtype, device=self.model.device, requires_grad=True)
            with torch.enable_grad():
                self._graph = V, self._product(V)
        return torch.autograd.grad(self._graph[1], self._graph[0], Y, retain_graph=True)[0]

    def _by_chunks(self, product: Callable[[Tensor], Tensor], rows: Tensor, dtype: torch.dtype) -> Tensor:
        """`product` of each row, computed at unit root mean square: half precision neither overflows nor underflows."""
        rows = rows.to(self.model.device, self.x_t.dtype)
        scale = rows.flatten(1).square().mean(1).sqrt().clamp(min=torch.finfo(rows.dtype).tiny)[:, None, None, None]
        with explain_memory_errors():
            parts = [product(part) for part in (rows / scale).to(dtype).split(self.rows_per_call)]
        products = torch.cat(parts).to(rows.dtype) * scale
        if not products.isfinite().all():
            raise ResourceError(
                f"The analysis overflowed in {name_of(self.dtype)}. Use another picture or noise level."
            )
        return products


def by_calls(
    jacobian: Jacobian, product: Callable[[Tensor], Tensor], rows: Tensor, tell: Callable[[int], Progress]
) -> Job[Tensor]:
    """Products with all rows, as a job that can be stopped after every call of the network but the last.

    product: `jacobian.forward` or `jacobian.reverse`. tell: the event after so many rows.
    """
    size, parts = jacobian.rows_per_call, []
    for first in range(0, len(rows), size):
        if first:
            yield tell(first)
        parts.append(product(rows[first : first + size]))
    return torch.cat(parts)


def nearest_timestep(model: DiffusionModel, steps: int, fraction: float = LINEARISED_AT) -> int:
    """The timestep of a trajectory of `steps` steps that is nearest to fraction * T.

    Raises:
        RequestError: the fraction is not between 0 and 1, or the step count is out of range.
    """
    if not 0 <= fraction <= 1:
        raise RequestError(f"The timestep must lie between 0 and 1 of the whole, not at {fraction}.")
    return min(model.schedule.timesteps(steps), key=lambda t: abs(t - fraction * model.schedule.T))


def place(model: DiffusionModel, pixels: Tensor, t: int, steps: int = PLACE_STEPS) -> Job[Tensor]:
    """x_t (B, C, h, w) of pictures (B, 3, H, W) in [-1, 1], in float32, by DDIM inversion up to t in few steps.

    The levels are t (k / (steps - 1))^1.5, k = 0 to steps - 1: denser near the picture, and the first at 0, where a
    trajectory of any number of steps begins. Inversions that begin elsewhere end at another noise, with another J: on
    `avatars` six steps to here keep 0.93 to 0.98 of a region's energy, six even steps from the picture 0.73 to 0.87
    (`python -m benchmarks.discover_speed avatars`). It takes steps + 1 network calls.

    Raises:
        RequestError: t or steps out of range. ResourceError: out of memory.
    """
    if steps < 2 or not 0 <= t < model.schedule.T:
        raise RequestError(f"The way to timestep {t} cannot have {steps} steps.")
    levels = sorted({round(t * (k / (steps - 1)) ** PLACE_POWER) for k in range(steps)})
    clean = model.codec.encode(pixels.to(model.device, torch.float32))
    for k, (x, _) in enumerate(ascend(model.schedule, partial(predict, model), clean, levels)):
        x_t = x
        yield Progress(k + 1, len(levels), "inverting")
    return x_t


def denoise_to(model: DiffusionModel, x_T: Tensor, t: int, steps: int) -> Job[Tensor]:
    """From x_T (B, C, h, w) down to x_t, in float32, with plain DDIM (Local editing, Algorithm 1, line 3).

    Raises:
        RequestError: t is not one of the trajectory's timesteps, or the step count is out of range.
        ResourceError: out of memory.
    """
    timesteps = model.schedule.timesteps(steps)[::-1]
    if t not in timesteps:
        raise RequestError(f"The timestep {t} is not on the way of {steps} steps.")
    x, total = x_T.to(model.device, torch.float32), timesteps.index(t)
    for k, (s, s_prev) in enumerate(zip(timesteps[:total], timesteps[1 : total + 1], strict=True)):
        eps = predict(model, x, s)
        x = model.schedule.reverse_step(x, eps, eps, s, s_prev)
        yield Progress(k + 1, total, "denoising")
    return x
