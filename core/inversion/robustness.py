"""The robustness studies of latent-TOP (sections 3.1 and 3.2, figure 3): noisy pictures and changed source prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import metrics
from ..progress import Job, Progress, Running
from ..text_to_image import TextToImage
from .editing import PromptEditSettings, Target, edit
from .inversion import Inversion
from .methods import invert
from .solution import DEFAULTS, InversionSettings

SIGMAS = (0.0, 5.0, 10.0, 20.0)

# For a word of a prompt one that says something else of the same picture, both ways.
CONTRARY = (
    *(("smiling", "sad"), ("happy", "angry"), ("young", "old"), ("pale", "tanned"), ("bald", "bearded")),
    *(("closed", "open"), ("long", "short"), ("curly", "straight"), ("blond", "black"), ("brown", "gray")),
    *(("red", "green"), ("white", "blue"), ("man", "woman"), ("boy", "girl"), ("cat", "dog"), ("day", "night")),
    *(("summer", "winter"), ("small", "large"), ("glasses", "a hat")),
)
STOPS = re.compile(r"\s*(?:,|\b(?:with|and|in|on|at|of|wearing|holding)\b)", re.IGNORECASE)  # before what is left out


@dataclass(frozen=True)
class RobustnessResult:
    """One method on one picture. sigma: of the noise, of 255. inversion: with the noisy picture and the prompt in it.

    decoded: (1, 3, R, R), the source prompt at the working guidance as the target of an edit: what edits start from. An
    anchored source comes back exactly by construction; this says how much of that a target has.
    """

    method: str
    sigma: float
    inversion: Inversion
    decoded: Tensor

    @property
    def measures(self) -> dict[str, float]:
        """The inversion's, and "psnr decoded" and "ssim decoded", all against the noisy picture."""
        pixels = self.inversion.pixels
        return {
            **self.inversion.measures,
            "psnr decoded": metrics.psnr(self.decoded, pixels).item(),
            "ssim decoded": metrics.ssim(self.decoded, pixels).item(),
        }


def study_robustness(
    model: TextToImage,
    pixels: Tensor,
    prompts: Sequence[str],
    methods: Sequence[str],
    sigmas: Sequence[float] = SIGMAS,
    settings: InversionSettings = DEFAULTS,
    distance: metrics.Distance | None = None,
) -> Job[list[RobustnessResult]]:
    """Every method on a picture (1, 3, R, R) with each noise and the first prompt, then with each other prompt and no
    noise. Events count results.

    Raises:
        RequestError: as `invert`. ResourceError: out of memory.
    """
    variants = [(sigma, prompts[0]) for sigma in sigmas] + [(0.0, prompt) for prompt in prompts[1:]]
    results: list[RobustnessResult] = []
    total = len(methods) * len(variants)
    for sigma, prompt in variants:
        noisy = add_noise(pixels, sigma, settings.seed)
        for method in methods:
            inverting = Running(invert(model, noisy, prompt, method, settings, distance=distance))
            for event in inverting:
                yield Progress(len(results), total, f"{method}: {event.note}", event.preview)
            inversion = inverting.result
            decoding = Running(edit(model, inversion, [Target(inversion.prompt)], PromptEditSettings(attention="none")))
            for event in decoding:
                yield Progress(len(results), total, f"{method}: decoding", event.preview)
            results.append(RobustnessResult(method, sigma, inversion, decoding.result.cpu()))
            yield Progress(len(results), total, method, decoding.result)
    return results


def other_prompts(prompt: str, nothing: str) -> list[str]:
    """Source prompts to try in place of one, as section 3.2 changes them: one that says nothing of the picture, one
    that says less, and one that says something wrong. Those that cannot be had of this prompt are left out.

    nothing: what every picture of the model shows, "a face".
    """
    said = STOPS.split(prompt.strip(), maxsplit=1)[0].strip()
    found = dict.fromkeys(" ".join(text.split()) for text in (nothing, said, with_counterpart(prompt)))
    return [text for text in found if len(text.split()) > 1 and text.lower() != prompt.strip().lower()]


def with_counterpart(prompt: str) -> str:
    """A prompt with one word replaced by its counterpart, "sad" for "smiling": that of the first pair in `CONTRARY`, of
    which faces come before colours. As it is, if no word has one."""
    said = prompt.strip()
    for one, other in (way for pair in CONTRARY for way in (pair, pair[::-1])):
        if re.search(rf"\b{one}\b", said, re.IGNORECASE):
            return re.sub(rf"\b{one}\b", other, said, count=1, flags=re.IGNORECASE)
    return said


def add_noise(pixels: Tensor, sigma: float, seed: int = 0) -> Tensor:
    """Gaussian noise of sigma (of 255) on pixels (B, 3, H, W) in [-1, 1], clipped to that range."""
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed)).to(pixels)
    return (pixels + sigma / 127.5 * noise).clamp(-1, 1)
