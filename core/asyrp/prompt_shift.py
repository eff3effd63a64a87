"""The shift of h between two prompts: a direction in closed form, without training.

In a text-to-image model the prompt acts on h: with x_t the pictures of a source prompt at noise level t,

    dh_t = mean over x_t of h(x_t, t, target) - h(x_t, t, source)

is what the change of words does to h on average, whatever the picture. It is Asyrp's dh_mean (Appendix L.1) with the
network's own reading of the words in place of f_t. Skip connections and the decoder's own cross-attention stay those of
the source prompt, so a strength of 1 does less than the words themselves.

Ours, after the averaged shifts of h of Asyrp (Kwon et al. 2023), Appendix L.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..directions import GlobalDirection, PerTimestepDirection
from ..editing import sample_latent
from ..errors import RequestError
from ..memory import explain_memory_errors
from ..models.loader import DiffusionModel
from ..progress import Job, Progress

SAMPLES, STEPS = 16, 20


def prompt_shift(
    source: DiffusionModel,
    target: DiffusionModel,
    x_T: Tensor | None = None,
    samples: int = SAMPLES,
    steps: int = STEPS,
    seed: int = 0,
) -> Job[PerTimestepDirection]:
    """dh_t at every timestep of a trajectory of `steps` steps.

    source, target: one text-to-image model with two prompts (`core.prompted.with_prompt`). x_T: (N, C, h, w), latents
    of pictures that the source prompt describes; by default so many `samples` of the model under the source prompt, the
    noise of row i that of seed + i. The direction counts as made with the model's own number of steps: a strength of 1
    adds dh_t once per step of that many.

    Raises:
        RequestError: these are two models, no samples are asked for, or the step count is out of range.
        ResourceError: out of memory.
    """
    require_one_model(source, target)
    if x_T is None:
        require_samples(samples)
        x_T = sample_latent(source, seed, samples).x_T
    timesteps = source.schedule.timesteps(steps)[::-1]
    sums = [torch.zeros(source.card.h_shape) for _ in timesteps]
    total, size = len(x_T) * steps, source.rows_per_call()
    for first in range(0, len(x_T), size):
        x = x_T[first : first + size].to(source.device, torch.float32)
        for k, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
            with explain_memory_errors():
                x, shift = _step(source, target, x, t, t_prev)
            sums[k] += shift
            yield Progress(first * steps + (k + 1) * len(x), total, "reading the words")
    deltas = torch.stack(sums[::-1]) / len(x_T)
    return PerTimestepDirection(torch.tensor(timesteps[::-1]), deltas, source.card.steps)


def require_one_model(source: DiffusionModel, target: DiffusionModel) -> None:
    """Raises RequestError: two models are not one with two prompts."""
    if source.fingerprint != target.fingerprint:
        raise RequestError("The two prompts must be prompts of one model.")


def require_samples(samples: int) -> None:
    """Raises RequestError: so many pictures cannot be drawn for a comparison."""
    if not 1 <= samples <= 10_000:
        raise RequestError(f"The number of samples must lie between 1 and 10000, not {samples}.")


@torch.no_grad()
def _step(source: DiffusionModel, target: DiffusionModel, x: Tensor, t: int, t_prev: int) -> tuple[Tensor, Tensor]:
    """(x at t_prev by the source prompt, summed shift of h at t)."""
    features = source.features(x, t)
    shift = (target.features(x, t).h.float() - features.h.float()).sum(0).cpu()
    eps = source.eps(features, x, t)
    return source.schedule.reverse_step(x, eps, eps, t, t_prev), shift


def everywhere(shift: PerTimestepDirection, t_edit: int = 0) -> GlobalDirection:
    """The mean of dh_t over timesteps >= t_edit, as one shift for all of them (Asyrp's dh_global, Appendix L.1).

    Raises:
        RequestError: there are no such timesteps.
    """
    used = shift.timesteps >= t_edit
    if not used.any():
        raise RequestError(f"No step lies at noise levels from {t_edit} up. Let it act further down.")
    return GlobalDirection(shift.deltas[used].mean(0, keepdim=True), shift.steps, shift.t_start, shift.gain)
