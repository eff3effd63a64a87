"""Anchored inversion: a source that comes back exactly, guided like its targets but less, and what that takes given to
targets.

Ours, after direct inversion (Ju et al. 2023) and edit-friendly DDPM (Huberman-Spiegelglas et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..progress import Job
from .decoding import Decoder, ReverseStep, State
from .solution import RANGES, InversionMethod, Solution, Task
from .trajectory import ddim_trajectory

SHARE = 0.6  # of the guidance of targets that the source has, beyond 1: 4.9 at 7.5


def invert(task: Task) -> Job[Solution]:
    """Plain DDIM inversion at guidance 1. Going down, the source is guided too and put back on that path at every step,
    as in direct inversion; what puts it back is added to targets as well, as the noise maps of edit-friendly DDPM are,
    and edits leave out as many of the first steps. The equations are those of `AnchoredStep`.

    Guided as much as its targets, the source prompt as a target would be the picture again, and another target would
    differ from it by what guidance makes of its words and not of the source's. But guided less, there is less to put
    back, and targets say their words more clearly: on portraits that the benchmark does not have, more edits succeeded
    and more of the person and of the surroundings stayed. Exact steps, as in `fixed_point`, would leave less to put
    back, too; but their noise is whiter, and edits of it kept less of the person.
    """
    settings = task.settings
    trajectory = yield from ddim_trajectory(task)
    decoder = AnchoredStep(carry=1.0, share=SHARE, skip=settings.skip)
    return Solution(trajectory, settings.guidance, task.empty, decoder)


@dataclass(frozen=True)
class AnchoredStep(Decoder):
    """The source is held on a path x_T, ..., x_0, the solution's trajectory; targets x' get what that takes.

    With DDIM steps of eta, their noise left out, at step t

        r_t      = x_{t-1} - step(x_t)           what the source's step misses,
        source:    step(x_t) + r_t               = x_{t-1},
        targets:   x'_{t-1} = step'(x'_t) + carry r_t.

    With targets of guidance G the source has guidance 1 + share (G - 1) in step; share = 0 leaves it its own. With
    eta > 0, r_t = sigma_t z_t is the noise map with which a stochastic sampler passes through the path. A target of
    strength s in [0, 1] gets 1 + s (carry - 1) times r_t, so that at strength 0 it is the source.

    skip: share of the first steps that edits leave out.
    """

    carry: float
    share: float = 0.0
    eta: float = 0.0
    skip: float = 0.0

    kind = "anchored"
    numbers = {"carry": (0, 1), "share": (0, 1), "eta": RANGES["eta"], "skip": RANGES["skip"]}
    holds_source = True

    def step(self, step: ReverseStep, state: State) -> tuple[State, torch.Tensor]:
        (x,) = state
        x_prev, x0 = step.ddim(x, self.eta)
        anchor = step.trajectory[step.i : step.i + 1]
        r = anchor - x_prev[:1]
        carry = 1 + step.strength[1:].clamp(0, 1) * (self.carry - 1)
        return (torch.cat((anchor, x_prev[1:] + carry.to(x) * r)),), x0

    def guidance_beside(self, own: float, guidance: float) -> float:
        return 1 + self.share * (guidance - 1) if self.share else own

    def with_carry(self, carry: float) -> AnchoredStep:
        return replace(self, carry=carry)


METHOD = InversionMethod(
    "anchored",
    "Anchored",
    "Steps from the picture to noise. On the way back every step is put back on that path, so that the picture comes "
    "back exactly; edits are moved by as much.",
    invert,
    AnchoredStep,
)
