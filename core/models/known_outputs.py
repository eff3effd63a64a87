"""Published outputs of real networks for a fixed input: one pass proves weights, reading and precision.

The figures are those of diffusers' own script (`presets/models/known_outputs.json` has the source). What is compared
are the first values of the first row of channel 0, for noise of seed 0 at timestep 10, in float32.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import UNet2DModel

from ..kept_on_disk import keep, recall
from .cards import PRESETS, BaseCard, Hub

log = logging.getLogger(__name__)

Outcome = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """What a comparison said. repo: the network that the outputs are of, where there is one. error: the largest
    difference, None if shapes differ or nothing was compared."""

    outcome: Outcome
    repo: str | None = None
    error: float | None = None

    @property
    def words(self) -> str:
        """For whoever chose the model."""
        off = "" if self.error is None else f" (largest difference {self.error:.2g})"
        match self.outcome:
            case "pass":
                return f"The network gives the published outputs of {self.repo}{off}."
            case "fail":
                return (
                    f"The network does not give the published outputs of {self.repo}{off}: its files, or this "
                    "machine's arithmetic, are not what they should be. Directions made for it may not work."
                )
            case "unknown":
                return "No published outputs are known of this network."


def published() -> dict[str, Any]:
    """The file: "outputs" by repository, "tolerance", "timestep", "seed"."""
    return json.loads((PRESETS / "models" / "known_outputs.json").read_text(encoding="utf-8"))


@torch.no_grad()
def first_row(unet: UNet2DModel) -> torch.Tensor:
    """What is compared: the first row of channel 0 of a float32 network's output for the fixed input."""
    known, size = published(), unet.config.sample_size
    noise = torch.Generator().manual_seed(known["seed"])
    x = torch.randn(1, unet.config.in_channels, size, size, generator=noise)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # which a GPU would round to ten bits
        return unet(x.to(unet.device), known["timestep"]).sample[0, 0, 0].float().cpu()


def compare(unet: UNet2DModel, repo: str | None) -> Verdict:
    """A float32 network against the published outputs of a repository, or of whichever fits where it is None."""
    outputs, tolerance = published()["outputs"], published()["tolerance"]
    if (repo is not None and repo not in outputs) or not isinstance(unet.config.sample_size, int):
        return Verdict("unknown")
    row, errors = first_row(unet), {}
    for name in outputs if repo is None else [repo]:
        expected = torch.tensor(outputs[name])
        if len(row) >= len(expected):
            errors[name] = float((row[: len(expected)] - expected).abs().nan_to_num(torch.inf).max())
    if repo is None:
        nearest = min(errors, key=errors.__getitem__, default=None)
        return (
            Verdict("pass", nearest, errors[nearest])
            if nearest and errors[nearest] <= tolerance
            else Verdict("unknown")
        )
    error = errors.get(repo)
    return Verdict("pass" if error is not None and error <= tolerance else "fail", repo, error)


def check_at_first_load(card: BaseCard, unet: UNet2DModel, fingerprint: str) -> None:
    """Compare a listed network the first time that its weights are here, and keep the verdict; never raises.

    unet: in float32.
    """
    repo = card.source.repo if isinstance(card.source, Hub) else None
    if repo not in published()["outputs"] or verdict_on(fingerprint) is not None:
        return
    try:
        verdict = compare(unet, repo)
    except Exception:  # a check is no reason not to edit
        log.exception("%s could not be compared with its published outputs", card.id)
        return
    keep("verdict", fingerprint, vars(verdict))
    log.log(logging.WARNING if verdict.outcome == "fail" else logging.INFO, "%s: %s", card.id, verdict.words)


def verdict_on(fingerprint: str) -> Verdict | None:
    """What was found at the first load of these weights, if anything was."""
    kept = recall("verdict", fingerprint)
    try:
        return None if kept is None else Verdict(**kept)
    except TypeError:  # of another version
        return None
