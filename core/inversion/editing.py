"""An inverted picture made again, and edited: target prompts in one batch, with attention control and a local blend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ..attention_control import StepControl
from ..calibration import calibrated
from ..directions import Direction, Part, parts_of
from ..editing import EditSettings, acts
from ..errors import RequestError, quoted
from ..progress import Job, Previews, Progress, Running
from ..regions import Region
from ..row_shifts import RowShifts
from ..text_to_image import TextToImage, read_prompt
from .alignment import align, places, scales
from .inversion import Inversion
from .sampler import Conditioning, denoise_batch
from .solution import Solution
from .word_blend import WordBlend

Attention: TypeAlias = Literal["none", "swap", "refine"]

MAX_TARGETS = 16
ASYMMETRIC = (
    "Words and directions in one pass take directions that act on the whole step. One of these acts on the predicted "
    "picture alone, as those that are trained do: apply it without words."
)
WORD_SIDE = 4  # how many times smaller than the latents the maps are by which words are blended, 16x16 at 512 pixels


@dataclass(frozen=True)
class Target:
    """What the picture is to become. strength: 0 is the source, 1 the target prompt, more goes beyond. weights: of the
    attention to words of the prompt, 1 unless given. blend: a word of the source prompt and one of this prompt; the
    picture stays outside the places of either (`word_blend`). directions: of h-space, with their strengths, which act
    whatever the target's own strength is."""

    prompt: str
    strength: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    blend: tuple[str, str] | None = None
    directions: Sequence[tuple[Direction, float]] = ()


@dataclass(frozen=True)
class PromptEditSettings:
    """How to edit.

    guidance: at the target; None: the inversion's working guidance. attention: prompt-to-prompt, "swap" where words
    are replaced, "refine" where they are added, or "none". cross_steps, self_steps: share of the steps that are done,
    from the beginning, in which cross- and self-attention maps are the source's; weight_steps: in which words are
    re-weighted. self_side: how many times smaller than the latents self-attention maps have to be to be the source's:
    at 4, those of up to 16x16 at 512 pixels. region: outside it the picture stays
    (local blend). skip: share of the steps left out; carry: how much of what holds an anchored source is added to
    targets, 0 lets them go and 1 keeps them close; None: what the method has.

    Raises:
        RequestError: a setting is out of range.
    """

    guidance: float | None = None
    attention: Attention = "swap"
    cross_steps: float = 0.8
    self_steps: float = 0.4
    region: Region | None = None
    skip: float | None = None
    carry: float | None = None
    weight_steps: float = 1.0
    self_side: int = 4

    def __post_init__(self) -> None:
        if self.guidance is not None and not 1 <= self.guidance <= 30:
            raise RequestError(f"The guidance must lie between 1 and 30, not {self.guidance}.")
        if self.attention not in ("none", "swap", "refine"):
            raise RequestError(f"There is no attention control {self.attention!r}. Choose none, swap or refine.")
        for name in ("cross_steps", "self_steps", "weight_steps"):
            if not 0 <= getattr(self, name) <= 1:
                raise RequestError(f"The share of {name.replace('_', ' ')} must lie between 0 and 1.")
        if self.skip is not None and not 0 <= self.skip <= 0.95:
            raise RequestError(f"The share of skipped steps must lie between 0 and 0.95, not {self.skip}.")
        if self.self_side < 1:
            raise RequestError(f"The side of self-attention maps must be divided by 1 or more, not {self.self_side}.")
        if self.carry is not None and not 0 <= self.carry <= 1:
            raise RequestError(f"What is carried to targets must lie between 0 and 1, not {self.carry}.")


def reconstruct(model: TextToImage, inversion: Inversion) -> Job[Tensor]:
    """The picture again, pixels (1, 3, R, R), from its latent with the source prompt.

    Where the source is held on its trajectory, nothing has to be computed for it. (With another guidance than the
    solution's: `edit` with the source prompt as the target.)

    Raises:
        RequestError: the inversion was made with another model. ResourceError: out of memory.
    """
    inversion.require(model)
    solution = inversion.solution
    if solution.decoder.holds_source:
        pixels = model.decode(solution.trajectory[:1])
        yield Progress(1, 1, "done", pixels)
        return pixels
    guidance = torch.full((1, 1, 1, 1), solution.guidance, device=model.device)
    rows = Conditioning(model.embed([inversion.prompt]), guidance, torch.ones_like(guidance))
    return (yield from _decode(model, solution, rows, 0.0, "reconstructing", slice(0, 1)))


def edit(
    model: TextToImage,
    inversion: Inversion,
    targets: Sequence[Target],
    settings: PromptEditSettings = PromptEditSettings(),
) -> Job[Tensor]:
    """Target prompts from the inverted picture's latent, all in one batch with the source: pixels (n, 3, R, R).

    A target of strength s has predictions and a guidance that lie s of the way from the source's to its own; at 0 it is
    the reconstruction. (Not embeddings: those of prompts with another number of words have no common places, and half
    of the way from one to the other a word can be lost that both have.)

    Raises:
        RequestError: no targets or too many, an empty prompt, a word that is not there, another model.
        ResourceError: out of memory.
    """
    inversion.require(model)
    targets = _checked(targets, settings)
    solution = inversion.solution
    if settings.carry is not None:
        solution = replace(solution, decoder=solution.decoder.with_carry(settings.carry))
    skip = solution.decoder.skip if settings.skip is None else settings.skip

    # A control keeps all rows in one call, so many targets are done in groups, each with the source.
    size = len(targets) if settings.attention == "none" else max(1, model.rows // 2 - 1)
    groups = [targets[i : i + size] for i in range(0, len(targets), size)]
    pixels = torch.empty(0, 3, model.resolution, model.resolution, device=model.device)
    for n, group in enumerate(groups):
        rows = _conditioning(model, inversion, group, settings, solution.steps_left(skip))
        decoding = Running(_decode(model, solution, rows, skip, "editing", slice(1, None)))
        for event in decoding:
            preview = None if event.preview is None else torch.cat((pixels, event.preview))
            yield replace(event, step=n * event.total + event.step, total=len(groups) * event.total, preview=preview)
        pixels = torch.cat((pixels, decoding.result))
    return pixels


def _checked(targets: Sequence[Target], settings: PromptEditSettings) -> list[Target]:
    """The targets with their prompts as one line each. Raises RequestError."""
    if not 0 < len(targets) <= MAX_TARGETS:
        raise RequestError(f"Give between 1 and {MAX_TARGETS} target prompts, not {len(targets)}.")
    request = "Write a target prompt: what the picture should show instead."
    targets = [replace(target, prompt=read_prompt(target.prompt, request)) for target in targets]
    for target in targets:
        if (target.weights or target.blend) and settings.attention == "none":
            raise RequestError("Words can be re-weighted with attention control only: choose swap or refine.")
        if not -5 <= target.strength <= 5:
            raise RequestError(f"The strength must lie between -5 and 5, not {target.strength}.")
    return targets


def _conditioning(
    model: TextToImage, inversion: Inversion, targets: Sequence[Target], settings: PromptEditSettings, steps: int
) -> Conditioning:
    """Row 0 is the source: its maps are given to the others, and it is what stays outside the region. steps: that are
    done."""
    s = torch.tensor([0.0, *(target.strength for target in targets)], device=model.device)
    embedded = model.embed([inversion.prompt, *(target.prompt for target in targets)])
    guidance = inversion.edit_guidance if settings.guidance is None else settings.guidance
    own = inversion.solution.guidance_beside(guidance)
    strength, blend = s[:, None, None, None], word_blend(model, inversion.prompt, targets)
    return Conditioning(
        text=torch.where(s[:, None, None] == 0, embedded[:1], embedded),
        guidance=own + strength.clamp(0, 1) * (guidance - own),
        strength=strength,
        control=attention_control(model, inversion, targets, settings, blend.record if blend.acts else None),
        mask=_latent_mask(settings.region, model),
        blend=lambda done, S: blend.mask(model.latent_shape[1:], done, S),
        shifts=row_shifts(model, inversion.solution, targets, steps),
    )


def row_shifts(
    model: TextToImage, solution: Solution, targets: Sequence[Target], steps: int
) -> Callable[[int], RowShifts | None]:
    """What the directions of targets add to h at a timestep, the source's row first, which has none.

    steps: the last so many of the solution's, which are done. Strengths mean what they mean in the papers' process of
    40 steps (`core.calibration`).

    Raises:
        RequestError: one of them acts on the predicted picture alone (Asyrp), which a step with words cannot do.
    """
    strengths: dict[int, tuple[Direction, list[float]]] = {}
    for row, target in enumerate(targets, start=1):
        for direction, strength in target.directions:
            _, column = strengths.setdefault(id(direction), (direction, [0.0] * (len(targets) + 1)))
            column[row] += strength
    timesteps = model.schedule.timesteps(solution.steps)[:steps]
    settings = EditSettings(max(1, len(timesteps)), injection="symmetric")
    weighted: list[tuple[Part, Tensor]] = []
    for direction, column in strengths.values():
        placed = calibrated(model.schedule, timesteps, direction.to(model.device), settings)
        for part in parts_of(placed):
            if part.injection == "asymmetric":
                raise RequestError(ASYMMETRIC)
            weighted.append((part, part.weight * torch.tensor(column)))

    def at(t: int) -> RowShifts | None:
        acting = tuple((part.direction, c) for part, c in weighted if acts(part, t, settings) and c.any())
        return RowShifts(acting, len(timesteps)) if acting else None

    return at


def word_blend(model: TextToImage, source: str, targets: Sequence[Target]) -> WordBlend:
    """Of targets that have a word to blend by. Raises RequestError: one of these is not in its prompt."""
    tokens = []
    for prompt, word in ((p, w) for t in targets for p, w in zip((source, t.prompt), t.blend or ("", ""), strict=True)):
        tokens.append(places(model, prompt, word))
        if word and not tokens[-1].any():
            raise RequestError(f"{quoted(word)} is not a word of {quoted(prompt)}. Blend by one of its words.")
    return WordBlend(torch.stack(tokens[::2]), torch.stack(tokens[1::2]))


def attention_control(
    model: TextToImage,
    inversion: Inversion,
    targets: Sequence[Target],
    settings: PromptEditSettings,
    record: Callable[[Tensor], None] | None = None,
) -> Callable[[int, int], StepControl | None]:
    """Prompt-to-prompt as a function of step i of S, counted down. Targets of strength 0 are the source. record: as of
    `StepControl`, at every step."""
    if settings.attention == "none":
        return lambda i, S: None
    aligned = [align(model, inversion.prompt, target.prompt, settings.attention) for target in targets]
    mapping, share = (torch.stack(parts) for parts in zip(*aligned, strict=True))
    scale = torch.stack([scales(model, target.prompt, target.weights) for target in targets])
    still = torch.tensor([target.strength == 0 for target in targets])
    mapping[still], share[still], scale[still] = torch.eye(model.length), 1.0, 1.0
    mapping, share, scale = (value.to(model.device) for value in (mapping, share, scale))
    zero, one = torch.zeros_like(share), torch.ones_like(scale)
    any_weights = any(target.weights for target in targets if target.strength != 0)
    height, width = inversion.solution.trajectory.shape[-2:]
    self_tokens = (height // settings.self_side) * (width // settings.self_side)
    recorded = (height // WORD_SIDE) * (width // WORD_SIDE)

    def at(i: int, S: int) -> StepControl | None:
        done = 1 - (i + 1) / S
        cross, itself = done < settings.cross_steps, done < settings.self_steps
        weighted = any_weights and done < settings.weight_steps
        if not cross and not itself and not weighted and record is None:
            return None
        tokens = self_tokens if itself else 0
        if not cross and not weighted:
            return StepControl(len(targets), self_tokens=tokens, record=record, recorded_tokens=recorded)
        kept, weights = share if cross else zero, scale if weighted else one
        return StepControl(len(targets), mapping, kept, weights, tokens, record, recorded)

    return at


def _latent_mask(region: Region | None, model: TextToImage) -> Tensor | None:
    """(1, 1, h, w), the share of each latent's pixels that lies in the region."""
    if region is None:
        return None
    mask = torch.from_numpy(region.mask).float()[None, None]
    return F.adaptive_avg_pool2d(mask, model.latent_shape[1:]).to(model.device)


def _decode(
    model: TextToImage, solution: Solution, rows: Conditioning, skip: float, note: str, shown: slice
) -> Job[Tensor]:
    """Pixels (n, 3, R, R) of the rows that are to be shown."""
    total, previews = solution.steps_left(skip), Previews()
    x = solution.trajectory[:1]
    for i, x0, x_i in denoise_batch(model, solution, rows, skip):
        x, done = x_i, total - i
        if i > 0:
            preview = previews.after(done, total, partial(model.decode, x0[shown]))
            yield Progress(done, total, note, preview)
    pixels = model.decode(x[shown])
    yield Progress(total, total, "done", pixels)
    return pixels
