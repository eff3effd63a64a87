"""The noise schedule and the arithmetic of DDIM, in the notation of Asyrp (Eq. 3 and 5).

`a_t` is the cumulative product (`alphas_cumprod`), `a_{-1} = 1` the clean image. One reverse step is
`x_prev = sqrt(a_prev) P_t(eps_P) + D_t(eps_D) + sigma_t z`; eps_P != eps_D makes it asymmetric (Eq. 6).
Coefficients are Python floats from float64, so the arithmetic has the precision of the tensors it is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal, get_args

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from .errors import RequestError

PredictionType = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True)
class Schedule:
    """Noise levels a_t, t = 0..T-1, and what the network predicts.

    alphas_cumprod: float64 (T,), decreasing. prediction_type: "epsilon", "v_prediction" or "sample" (x0). truncated:
    timesteps are cut to whole numbers and not rounded, see `timesteps`.

    Raises:
        ValueError: another prediction type.
    """

    alphas_cumprod: Tensor
    prediction_type: PredictionType = "epsilon"
    truncated: bool = False

    def __post_init__(self) -> None:
        if self.prediction_type not in get_args(PredictionType):
            raise ValueError(f"unknown prediction type {self.prediction_type!r}")

    @classmethod
    def from_scheduler(cls, scheduler: SchedulerMixin | Mapping[str, Any]) -> "Schedule":
        """From a diffusers scheduler or its configuration, a DDPM's if that does not say whose; only noise levels and
        prediction type are used.

        Raises:
            RequestError: the noise levels are not those of a DDPM, which come from betas, or end in noise alone.
        """
        made = _built(scheduler) if isinstance(scheduler, Mapping) else scheduler
        config, name = made.config, type(made).__name__
        prediction_type = config.get("prediction_type", "epsilon")
        levels = getattr(made, "alphas_cumprod", None)
        if levels is None or config.get("use_flow_sigmas") or prediction_type not in get_args(PredictionType):
            raise _no_ddpm(name if levels is None else f"{name} that predicts {prediction_type}")
        if config.get("rescale_betas_zero_snr") or levels[-1] <= 0:
            raise RequestError("Noise levels that end in noise alone (rescale_betas_zero_snr) cannot be inverted.")
        return cls(levels.cpu().double(), prediction_type)

    @property
    def T(self) -> int:
        return len(self.alphas_cumprod)

    def alpha(self, t: int) -> float:
        """a_t; the clean image is t = -1, with a_{-1} = 1."""
        return 1.0 if t < 0 else self.alphas_cumprod[t].item()

    def timesteps(self, steps: int) -> list[int]:
        """S timesteps from 0 to T-1, ascending, evenly spaced and rounded.

        Asyrp (Algorithm 1, lines 3 and 9) says no more than that they go from 0 to T. The authors' released code cuts
        them to whole numbers, in floating point: `truncated`. With S = 40 and T = 1000, 18 of them are one lower then.

        The noise levels that a trajectory visits are [-1] + timesteps.

        Raises:
            RequestError: fewer than 2 steps or more than T.
        """
        if not 2 <= steps <= self.T:
            raise RequestError(f"The number of steps must lie between 2 and {self.T}, not {steps}.")
        if self.truncated:
            return [int(share * (self.T - 1)) for share in np.linspace(0, 1, steps)]  # as they write it
        return torch.linspace(0, self.T - 1, steps, dtype=torch.float64).round().long().tolist()

    def eps_from_output(self, output: Tensor, x: Tensor, t: int | Sequence[int]) -> Tensor:
        """The noise that the network's output means at (x, t); with v, eps = sqrt(1 - a) x + sqrt(a) v.

        t: one timestep for all rows, or one per row.
        """
        signal, noise = self._amplitudes(t, x)
        match self.prediction_type:
            case "epsilon":
                return output
            case "v_prediction":
                return noise * x + signal * output
            case "sample":
                return (x - signal * output) / noise

    def _amplitudes(self, t: int | Sequence[int], x: Tensor) -> tuple[Any, Any]:
        """sqrt(a_t) and sqrt(1 - a_t): numbers, or tensors that x (B, C, h, w) can be multiplied with."""
        if isinstance(t, int):
            a = self.alpha(t)
            return sqrt(a), sqrt(1 - a)
        of_rows = self.alphas_cumprod[list(t)][:, None, None, None]
        return of_rows.sqrt().to(x), (1 - of_rows).sqrt().to(x)

    def noised(self, x0: Tensor, eps: Tensor, t: int) -> Tensor:
        """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps."""
        a = self.alpha(t)
        return sqrt(a) * x0 + sqrt(1 - a) * eps

    def predicted_x0(self, x: Tensor, eps: Tensor, t: int) -> Tensor:
        """P_t = (x_t - sqrt(1 - a_t) eps) / sqrt(a_t)."""
        a = self.alpha(t)
        return (x - sqrt(1 - a) * eps) / sqrt(a)

    def sigma(self, t: int, t_prev: int, eta: float) -> float:
        """sigma_t = eta sqrt((1 - a_prev) / (1 - a_t)) sqrt(1 - a_t / a_prev); eta = 1 is DDPM."""
        a, a_prev = self.alpha(t), self.alpha(t_prev)
        return eta * sqrt((1 - a_prev) / (1 - a)) * sqrt(1 - a / a_prev)

    def direction_term(self, eps: Tensor, t: int, t_prev: int, sigma: float = 0.0) -> Tensor:
        """D_t = sqrt(1 - a_prev - sigma^2) eps, the direction pointing to x_t."""
        return sqrt(max(0.0, 1 - self.alpha(t_prev) - sigma**2)) * eps

    def reverse_step(
        self,
        x: Tensor,
        eps_P: Tensor,
        eps_D: Tensor,
        t: int,
        t_prev: int,
        eta: float = 0.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """x_prev = sqrt(a_prev) P_t(eps_P) + D_t(eps_D) + sigma_t z (Asyrp Eq. 8).

        Plain DDIM has eps_P = eps_D. x, eps_P, eps_D: (B, C, H, W); noise: z, broadcastable to x, needed if eta > 0.

        Raises:
            ValueError: eta > 0 without noise.
        """
        sigma = self.sigma(t, t_prev, eta)
        x_prev = sqrt(self.alpha(t_prev)) * self.predicted_x0(x, eps_P, t)
        x_prev = x_prev + self.direction_term(eps_D, t, t_prev, sigma)
        if sigma > 0:
            if noise is None:
                raise ValueError("eta > 0 needs noise")
            x_prev = x_prev + sigma * noise
        return x_prev

    def eps_between(self, x: Tensor, x_prev: Tensor, t: int, t_prev: int) -> Tensor:
        """The eps with which a deterministic `reverse_step` leads from x at level t to x_prev at level t_prev."""
        a, a_prev = self.alpha(t), self.alpha(t_prev)
        return (x / sqrt(a) - x_prev / sqrt(a_prev)) / (sqrt(1 / a - 1) - sqrt(1 / a_prev - 1))

    def invert_step(self, x: Tensor, eps: Tensor, t_prev: int, t: int) -> Tensor:
        """From level t_prev up to level t: x_t = sqrt(a_t) P + sqrt(1 - a_t) eps, P from (x, eps) at level t_prev.

        The exact inverse of `reverse_step` with the same eps. In an inversion eps is the network's at (x, t): the
        target timestep, as in diffusers.
        """
        a = self.alpha(t)
        return sqrt(a) * self.predicted_x0(x, eps, t_prev) + sqrt(1 - a) * eps


def _built(config: Mapping[str, Any]) -> SchedulerMixin:
    """The scheduler of a configuration, of the kind that it names: kinds differ in what their numbers mean.

    Raises: RequestError: diffusers has no such kind, or it knows no such betas. ValueError, TypeError, RuntimeError:
    the configuration is damaged.
    """
    name = str(config.get("_class_name", "DDPMScheduler"))
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if not isinstance(kind, type) or not issubclass(kind, SchedulerMixin):
        raise _no_ddpm(name)
    try:
        return kind.from_config(dict(config))  # type: ignore[attr-defined]
    except NotImplementedError as error:
        raise _no_ddpm(f"{name} with the betas “{config.get('beta_schedule')}”") from error


def _no_ddpm(what: str) -> RequestError:
    return RequestError(
        f"The noise levels of a {what[:80]} are not those of a DDPM, which are all that can be used here. Give the "
        "DDPMScheduler or DDIMScheduler that the network was trained with, or choose another model."
    )


def extrapolate(earlier: Tensor, latest: Tensor, t_earlier: int, t_latest: int, t: int) -> Tensor:
    """The value at t of the straight line through those at two timesteps before: predicts the eps of the next step."""
    return latest + (t - t_latest) / (t_latest - t_earlier) * (latest - earlier)
