"""A checkpoint of an iDDPM or ADM network as a folder that diffusers, and this app, can load."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from ..errors import ModelUnavailable, RequestError, ResourceError
from ..intervals import PUBLISHED
from . import adm
from .adm import Architecture
from .folders import fingerprint_of
from .opening import read_word
from .reading import NOTES


@dataclass(frozen=True)
class Converted:
    """What came of a checkpoint. guesses: in words, what its tensors do not tell."""

    folder: Path
    architecture: Architecture
    guesses: Sequence[str]
    fingerprint: str


MIN_STEPS = {"linear": 21, "cosine": 2}  # fewer linear betas, stretched, reach 1: noise alone
MAX_STEPS = 100_000
MAX_LICENCE = 80  # characters


@dataclass(frozen=True)
class Training:
    """How a network was trained, which no tensor tells.

    steps: T. betas: of all released networks of ADM and P2 linear, of iDDPM's cosine. rescaled: the network was told
    1000 t / T in place of t (rescale_timesteps, the default of iDDPM's code).
    """

    steps: int = 1000
    betas: Literal["linear", "cosine"] = "linear"
    rescaled: bool = False

    def scheduler(self) -> DDPMScheduler:
        """Noise levels for timesteps as the network is told them, without clipping.

        Linear betas are those of 1000 steps, stretched (Nichol and Dhariwal 2021). A network that was told 1000 t / T
        is one of 1000 steps: every (T / 1000)-th level.

        Raises:
            RequestError: T cannot be used like that.
        """
        least = MIN_STEPS[self.betas]
        if not least <= self.steps <= MAX_STEPS or (self.rescaled and self.steps % 1000):
            raise RequestError(
                f"The number of training steps cannot be {self.steps}: it lies between {least} and {MAX_STEPS}; "
                "rescaled, it is a multiple of 1000."
            )
        plain = {"prediction_type": "epsilon", "clip_sample": False, "variance_type": "fixed_small"}
        stretch = 1000 / self.steps
        if self.betas == "cosine":
            full = DDPMScheduler(self.steps, beta_schedule="squaredcos_cap_v2", **plain)
        else:
            full = DDPMScheduler(self.steps, beta_start=stretch * 1e-4, beta_end=stretch * 0.02, **plain)
        if not self.rescaled or self.steps == 1000:
            return full
        levels = full.alphas_cumprod.double()[:: self.steps // 1000]
        betas = 1 - levels / torch.cat((torch.ones(1, dtype=torch.float64), levels[:-1]))
        return DDPMScheduler(1000, trained_betas=betas.tolist(), **plain)


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a network in a .pt or .safetensors file, in float32; nothing in the file is executed.

    Raises:
        ModelUnavailable: it cannot be read, holds more than tensors, or another kind of network.
    """
    if not path.is_file():
        raise ModelUnavailable(f"There is no file {path}.")
    try:
        safe = path.suffix == ".safetensors"
        content = load_file(path) if safe else torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # the unpickler raises almost anything on a file that is none
        raise ModelUnavailable(f"{path} cannot be read: it is damaged, or holds more than numbers.") from error
    return adm.network_state(content)


def convert_file(
    path: Path,
    out: Path,
    *,
    heads: int | None = None,
    head_channels: int | None = None,
    size: int | None = None,
    new_order: bool = False,
    chosen_class: int | None = None,
    training: Training | None = None,
    domain_word: str = "picture",
    curves: str | None = None,
    licence: str = "unknown",
) -> Converted:
    """Write the network of a checkpoint into a new folder: `unet`, `scheduler`, model_index.json, a card.

    heads, head_channels, size, new_order: see `adm.infer`. chosen_class: see `adm.convert`. training: by default 1000
    steps with linear betas. domain_word: what the pictures show. curves: key of `core.intervals.PUBLISHED`, where the
    intervals of these weights are known.

    Raises:
        ModelUnavailable, RequestError: see `adm.infer`, `adm.convert` and `read_checkpoint`. ResourceError: the folder
            cannot be written.
    """
    if curves is not None and curves not in PUBLISHED:
        raise RequestError(f"There are no published intervals of {curves!r}. Known ones: {', '.join(PUBLISHED)}.")
    domain_word, scheduler = read_word(domain_word) or "picture", (training or Training()).scheduler()
    if len(licence) > MAX_LICENCE or not licence.isprintable():
        raise RequestError(f"A licence is named in up to {MAX_LICENCE} characters on one line, such as apache-2.0.")
    state = read_checkpoint(path)
    found, guesses = adm.infer(state, heads=heads, head_channels=head_channels, size=size, new_order=new_order)
    if training is None:
        guesses.append("noise has 1000 steps with linear betas, as in ADM (--train-steps, --noise-schedule)")
    unet = adm.convert(state, found, chosen_class)
    notes: dict[str, str | int | None] = {
        "domain_word": domain_word,
        "curves": curves,
        "licence": licence,
        "made_from": path.name,
    }
    if chosen_class is not None:
        notes["class"] = chosen_class
    card = _card(path.name, found, guesses, chosen_class, domain_word, licence)
    _write(out, unet, scheduler, notes, card)
    return Converted(out, found, guesses, fingerprint_of(unet))


def _write(out: Path, unet: UNet2DModel, scheduler: DDPMScheduler, notes: dict, card: str) -> None:
    """Whole or not at all."""
    index = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".hspace-") as made:
            folder = Path(made) / "model"
            (folder / "unet").mkdir(parents=True)
            unet.save_config(folder / "unet")
            save_file(unet.state_dict(), folder / "unet" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
            scheduler.save_pretrained(folder / "scheduler")
            for name, content in (("model_index.json", index), (NOTES, notes)):
                (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            (folder / "README.md").write_text(card, encoding="utf-8")
            for file in folder.rglob("*.safetensors"):
                file.chmod(0o644)
            os.replace(folder, out)
    except OSError as error:
        raise ResourceError(f"The folder {out} could not be written ({error.strerror}).") from error


def _card(
    file: str, found: Architecture, guesses: Sequence[str], chosen_class: int | None, domain_word: str, licence: str
) -> str:
    """A model card."""
    resampling = {"resnet": "residual blocks", "conv": "convolutions", "plain": "no parameters"}[found.resampling]
    sides = [found.size >> level for level, attends in enumerate(found.attention) if attends]
    lines = [
        "---",
        "library_name: diffusers",
        "pipeline_tag: unconditional-image-generation",
        f"license: {licence if licence != 'unknown' else 'other'}",
        "---",
        "",
        f"# {file}, converted",
        "",
        f"The network in `{file}` (iDDPM/ADM) as a diffusers `DDPMPipeline`, made by `hspace convert`. "
        f"Its pictures show: {domain_word}.",
        "",
        f"- {found.size}x{found.size} pixels, {found.channels} channels, {found.blocks} residual blocks per level",
        f"- attention at {', '.join(map(str, sides)) or 'no level'} and in the middle; resampled with {resampling}",
    ]
    if chosen_class is not None:
        lines.append(f"- of {found.classes} classes, number {chosen_class} alone")
    if guesses:
        lines += ["", "Not in the tensors, and assumed:", "", *(f"- {guess}" for guess in guesses)]
    if adm.HEADS in found.config():
        lines += [
            "",
            f"All its attentions have {found.heads} heads, which diffusers cannot be told: loaded without `hspace` the "
            "network computes something else.",
        ]
    return "\n".join(lines) + "\n"
