"""Loading and keeping text-to-image models: a `StableDiffusionPipeline` of diffusers, read from its folder.

As in `loader.py`, folders are read here and not by `from_pretrained`, which replaces torch's initialisers for the whole
process while it builds a network. Networks are made on the meta device, so that a large one is not initialised in vain.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .folders import current_name, fingerprint_of, obtain
from .loader import BaseLoader
from .placing import chosen, place
from .t2i_cards import TEXT_TO_IMAGE, TextToImageCard

Network = TypeVar("Network", bound=nn.Module)

KIND = "a model of the kind that is used here (a StableDiffusionPipeline)"


@dataclass(frozen=True)
class LoadedPipeline:
    """A frozen text-to-image model whose networks are on `device` in `dtype`.

    fingerprint: 16 hex digits of the SHA-256 of the U-Net's weights; tells whether an inversion was made with it.
    """

    card: TextToImageCard
    pipeline: StableDiffusionPipeline
    device: torch.device
    dtype: torch.dtype
    fingerprint: str

    @property
    def nbytes(self) -> int:
        networks = (self.pipeline.vae, self.pipeline.text_encoder, self.pipeline.unet)
        return sum(p.numel() * p.element_size() for network in networks for p in network.parameters())


class PipelineLoader(BaseLoader[TextToImageCard, LoadedPipeline]):
    """Text-to-image models by id, kept as `Loader` keeps its models."""

    name = "text-to-image models"
    listed = TEXT_TO_IMAGE

    def _load(self, card: TextToImageCard) -> LoadedPipeline:
        return load(card, self.device, self.dtype, self.cache_dir)

    def moved(self, model: LoadedPipeline) -> LoadedPipeline:
        device, dtype = chosen(model.card, self.device, self.dtype)
        for network in (model.pipeline.vae, model.pipeline.text_encoder, model.pipeline.unet):
            place(network, device, dtype)
        return replace(model, device=device, dtype=dtype)


def load(
    card: TextToImageCard,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    cache_dir: Path | None = None,
) -> LoadedPipeline:
    """Load a model anew; `PipelineLoader.get` is the cached way.

    Raises:
        ModelUnavailable: its files are not here and cannot be fetched, or are damaged.
    """
    device, dtype = chosen(card, device, dtype)
    fetch = partial(
        snapshot_download,
        allow_patterns=_files(card.variant),
        ignore_patterns=["safety_checker/*"],
        cache_dir=cache_dir,
    )
    pipeline = obtain(card, lambda folder: read_pipeline(folder, card.variant), fetch, KIND)
    fingerprint = fingerprint_of(pipeline.unet)
    for network in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        place(network, device, dtype)
    return LoadedPipeline(card, pipeline, device, dtype, fingerprint)


def read_pipeline(folder: Path, variant: str | None = None) -> StableDiffusionPipeline:
    """A pipeline as `save_pretrained` writes it, its networks in the precision of the files, without safety checker.

    The scheduler becomes DDIM on the same noise levels. variant: which of several precisions, e.g. "fp16".

    Raises:
        OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError: files are missing or damaged.
    """
    config = _json(folder / "scheduler" / "scheduler_config.json")
    return StableDiffusionPipeline(
        vae=read_autoencoder(folder, variant),
        text_encoder=_filled(
            lambda: CLIPTextModel(CLIPTextConfig.from_dict(_json(folder / "text_encoder" / "config.json"))),
            folder / "text_encoder" / _named("model", variant),
        ),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        unet=_filled(
            lambda: UNet2DConditionModel.from_config(_json(folder / "unet" / "config.json")),
            folder / "unet" / _named("diffusion_pytorch_model", variant),
        ),
        scheduler=DDIMScheduler.from_config(config, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def read_autoencoder(folder: Path, variant: str | None = None) -> AutoencoderKL:
    """The autoencoder of a pipeline's folder, in the precision of its file; raises as `read_pipeline`."""
    return _filled(
        lambda: AutoencoderKL.from_config(_json(folder / "vae" / "config.json")),
        folder / "vae" / _named("diffusion_pytorch_model", variant),
    )


def _filled(build: Callable[[], Network], weights: Path) -> Network:
    with torch.device("meta"):  # of this thread only
        network = build()
    known = network.state_dict()
    state = {}
    for name, value in load_file(weights).items():
        # Text encoders were one level deeper; attention had other names; positions are no weights.
        name = name if name in known else current_name(name).removeprefix("text_model.")
        if not name.endswith("position_ids"):
            state[name] = value.reshape(known[name].shape) if name in known else value
    network.load_state_dict(state, assign=True)
    if isinstance(network, CLIPTextModel):  # a buffer that is not saved
        network.embeddings.position_ids = torch.arange(network.config.max_position_embeddings)[None]
    return network


def _named(stem: str, variant: str | None) -> str:
    return f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors"


def _json(path: Path) -> dict:
    return json.loads(path.read_text())


def _files(variant: str | None) -> list[str]:
    """Patterns of the files that `read_pipeline` needs."""
    return [
        "*/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/*",
        f"text_encoder/{_named('model', variant)}",
        *(f"{part}/{_named('diffusion_pytorch_model', variant)}" for part in ("unet", "vae")),
    ]


pipelines = PipelineLoader()
