"""The unedited half of Asyrp's training (Algorithm 2), which many trainings can share; and where its latents come from:
drawn at random, or inverted from pictures (appendix J.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..editing import invert
from ..errors import RequestError
from ..finite import require_finite
from ..models.loader import DiffusionModel
from ..progress import Job, Progress, Running

MAX_HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Sources:
    """Latents and what their unedited trajectories look like from T down to t_edit.

    x_T: (N, C, h, w). timesteps: (K,), descending. P: (K, N, 3, H, W) float16, predicted images at each timestep.
    h_rms: (K,), root mean square of h at each timestep.
    """

    x_T: Tensor
    steps: int
    timesteps: list[int]
    P: Tensor
    h_rms: list[float]


CHUNK = 8  # latents whose trajectories are computed together

# Of a chunk of n latents: predicted images (K, n, 3, H, W) float16, and the mean squares of h (K, n).
Part = tuple[Tensor, Tensor]


def source_trajectories(
    model: DiffusionModel,
    x_T: Tensor,
    steps: int,
    t_edit: int,
    chunk: int | None = None,
    begun: list[Part] | None = None,
) -> Job[Sources]:
    """The unedited half of Algorithm 2 (lines 14 and 16), for x_T (N, C, h, w) at S = steps.

    begun: the chunks that are done, to which the others are added; with them it goes on from where it was stopped.
    """
    chunk, parts = chunk or CHUNK, [] if begun is None else begun
    timesteps = [t for t in reversed(model.schedule.timesteps(steps)) if t >= t_edit]
    for start in range(chunk * len(parts), len(x_T), chunk):
        x, P, squares = x_T[start : start + chunk].to(model.device), [], []
        for k, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
            with torch.no_grad():
                features = model.features(x, t)
                squares.append(features.h.float().square().mean((1, 2, 3)).cpu())
                eps = model.eps(features, x, t)
                require_finite(eps)
                P_t = model.codec.decode(model.schedule.predicted_x0(x, eps, t))
                P.append(P_t.clamp(-MAX_HALF, MAX_HALF).half().cpu())  # next to noise alone 1 / sqrt(a_t) is in the 1e4
                x = model.schedule.reverse_step(x, eps, eps, t, t_prev)
            if k + 1 < len(timesteps):
                yield Progress(start, len(x_T), "preparing")
        parts.append((torch.stack(P), torch.stack(squares)))
        done = min(start + chunk, len(x_T))
        if done < len(x_T):
            yield Progress(done, len(x_T), "preparing", P[-1].float(), kept=True)
    yield Progress(len(x_T), len(x_T), "preparing")
    return joined_sources(x_T, steps, timesteps, parts)


def joined_sources(x_T: Tensor, steps: int, timesteps: list[int], parts: Sequence[Part]) -> Sources:
    """The trajectories of x_T (N, C, h, w) from those of its chunks, which may go on further down."""
    K = len(timesteps)
    P = torch.cat([P[:K] for P, _ in parts], 1)
    h_rms = torch.cat([squares[:K] for _, squares in parts], 1).mean(1).sqrt().tolist()
    return Sources(x_T, steps, timesteps, P, h_rms)


def inverted_latents(
    model: DiffusionModel, pixels: Tensor, steps: int, begun: list[Tensor] | None = None
) -> Job[Tensor]:
    """x_T (N, C, h, w) of pictures (N, 3, R, R) in [-1, 1], on the CPU: the paper's way for attributes that the model
    knows (Table 3, "from random noise": X). They keep more of a picture, and random ones change more (appendix J.2).

    begun: the chunks that are done, to which the others are added.

    Raises:
        RequestError: there are no pictures, or steps out of range. ResourceError: out of memory.
    """
    if not len(pixels):
        raise RequestError("There are no pictures to learn from. Give some, or use random ones.")
    found = [] if begun is None else begun
    for part in pixels.split(CHUNK)[len(found) :]:
        done = sum(map(len, found))
        running = Running(invert(model, part, steps))
        for _ in running:
            yield Progress(done, len(pixels), "preparing")
        found.append(running.result.x_T.cpu())
        yield Progress(done + len(part), len(pixels), "preparing", kept=True)
    return torch.cat(found)
