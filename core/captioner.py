"""A description of a photograph by BLIP (Li et al. 2022; BSD-3-Clause), through transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors.torch import load_file

from .errors import ModelUnavailable
from .hub_access import hub_answers, unreachable

REPOSITORY = "Salesforce/blip-image-captioning-base"
SIZE = "990 MB"
INSTEAD = "Describe the picture in your own words."
FILES = ["*.json", "*.txt", "model.safetensors"]
MAX_TOKENS = 30


@dataclass(frozen=True)
class Captioner:
    """processor: prepares pictures and reads tokens. network: the frozen BLIP."""

    processor: Any
    network: Any

    @torch.no_grad()
    def __call__(self, picture: Image.Image) -> str:
        """What an RGB picture shows, in one phrase."""
        inputs = self.processor(images=picture, return_tensors="pt").to(self.network.device)
        tokens = self.network.generate(**inputs, max_new_tokens=MAX_TOKENS)
        return " ".join(self.processor.decode(tokens[0], skip_special_tokens=True).split())


def load(device: torch.device | str = "cpu") -> Captioner:
    """From the Hub's cache, else downloaded. Raises ModelUnavailable."""
    try:
        folder = snapshot_download(REPOSITORY, allow_patterns=FILES, local_files_only=True)
        return read(folder, device)
    except (OSError, ValueError, KeyError, RuntimeError):
        pass  # not here, or not all of it
    if not hub_answers():
        raise ModelUnavailable(f"What describes photographs (BLIP, {SIZE}) is not here. {unreachable()} {INSTEAD}")
    try:
        return read(snapshot_download(REPOSITORY, allow_patterns=FILES), device)
    except Exception as error:  # the Hub's errors come from three libraries and share no base
        raise ModelUnavailable(f"What describes photographs (BLIP) could not be loaded. {INSTEAD}") from error


def read(folder: str | Path, device: torch.device | str = "cpu") -> Captioner:
    """BLIP from a folder. `from_pretrained` of a network is avoided: it replaces torch's initialisers for the whole
    process while it builds."""
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipProcessor

    network = BlipForConditionalGeneration(BlipConfig.from_pretrained(folder))
    weights = load_file(Path(folder) / "model.safetensors")
    missing, unexpected = network.load_state_dict(weights, strict=False)
    network.tie_weights()
    tied = {name for name in missing if name.endswith((".decoder.weight", ".decoder.bias", ".position_ids"))}
    if set(missing) - tied or [name for name in unexpected if not name.endswith("position_ids")]:
        raise ValueError("these are not BLIP's weights")
    processor = BlipProcessor.from_pretrained(folder)
    return Captioner(processor, network.to(device).eval().requires_grad_(False))
