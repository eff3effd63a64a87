"""A network that the caller has already, as a model: a `UNet2DModel`, a pipeline that has one, or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, UNet2DModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..errors import ModelUnavailable, RequestError
from ..intervals import PUBLISHED, own_levels
from ..schedule import Schedule
from ..unet import SplitUNet
from .cards import MODELS, InMemory, ModelCard, OpenClip
from .codec import CODEC_OF_CHANNELS, CODECS, VQ, Codec, CodecName
from .folders import DAMAGED, fingerprint_of
from .heads import require_timesteps
from .loader import KIND, DiffusionModel, with_kept_curves
from .opening import said_word
from .placing import best_device, place
from .reading import read_autoencoder, read_notes, read_pipeline


def wrap_model(
    network: UNet2DModel | DiffusionPipeline,
    scheduler: SchedulerMixin | Mapping[str, Any] | None = None,
    *,
    domain_word: str | None = None,
    codec: CodecName | None = None,
    id: str | None = None,
) -> DiffusionModel:
    """A network of yours as a model, where it is and in the precision that it has.

    It is used itself, not a copy, and frozen: put into evaluation mode, and its weights no longer ask for gradients.

    Args:
        network: an unconditional diffusers `UNet2DModel` with square pictures, or a pipeline that has one
            (`DDPMPipeline`, `DDIMPipeline`).
        scheduler: the noise levels that it was trained with, as a diffusers scheduler or its configuration; the
            pipeline's own if left out.
        domain_word: what its pictures show, as a source text says it: “face”, “church”. It matters for training.
        codec: what the network sees of a picture: "identity", its pixels (3 channels), "gray", the mean of its colours
            (1), or "haar", the Haar coefficients of `core.models.codec` (12). By the channels' number if left out.
        id: the model's name in presets that are made for it. That of a model in `MODELS` says that the network is that
            one, whose editing intervals are then known. Named after the weights if left out.

    Returns:
        The model, for `edit` and everything else that takes one. Its fingerprint is that of the weights as they are:
        those of a network that was cast to half precision are others than before.

    Raises:
        RequestError: it is not such a network, or its noise levels are of another kind.
    """
    if scheduler is None:
        scheduler = getattr(network, "scheduler", None)
    unet = getattr(network, "unet", network)
    if not isinstance(unet, UNet2DModel):
        raise RequestError(
            "A diffusers UNet2DModel is needed, or a pipeline that has one (DDPMPipeline, DDIMPipeline), not "
            f"{type(unet).__name__}."
        )
    if scheduler is None:
        raise RequestError("Give the network's scheduler as well: it says what noise the network was trained with.")
    try:
        schedule = Schedule.from_scheduler(scheduler)
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise RequestError(f"This scheduler cannot be used: {error}.") from error
    return _wrapped(unet, schedule, domain_word, codec, id)


def read_model(
    folder: Path, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> DiffusionModel:
    """The model in a folder that `save_pretrained` of a `DDPMPipeline` or `DDIMPipeline` wrote; see `wrap_model`.

    device: the GPU if there is one. dtype: float32 if left out.

    Raises:
        ModelUnavailable: files are missing or damaged. RequestError: it is not a network that can be used.
    """
    try:
        unet, schedule = read_pipeline(folder)
        autoencoder, notes = read_autoencoder(folder), read_notes(folder)
    except DAMAGED as error:
        raise ModelUnavailable(f"The folder {folder} does not hold {KIND}, or its files are damaged.") from error
    published = PUBLISHED.get(str(notes.get("curves")))
    model = _wrapped(unet, schedule, said_word(notes), None, None, autoencoder)  # the fingerprint is that of the files
    if published is not None:
        model.card = replace(model.card, curves=published)
    model.device = torch.device(device) if device is not None else best_device()
    model.dtype = dtype or torch.float32
    place(unet, model.device, model.dtype)
    if autoencoder is not None:
        autoencoder.to(model.device)
    return model


def _wrapped(
    unet: UNet2DModel,
    schedule: Schedule,
    domain_word: str | None,
    codec: CodecName | None,
    id: str | None,
    autoencoder: VQ | None = None,
) -> DiffusionModel:
    require_timesteps(unet.config)
    try:
        split = SplitUNet(unet)
        channels, height, width = split.x_shape
    except (ValueError, TypeError) as error:  # class-conditional; no sample_size
        raise RequestError("Only unconditional networks of a known picture size (sample_size) can be used.") from error
    card = MODELS.get(id or "")
    if autoencoder is not None:
        codec = "vq"
    codec = codec or (card.codec if card else CODEC_OF_CHANNELS.get(channels))
    if codec is None or (autoencoder is None and CODEC_OF_CHANNELS.get(channels) != codec) or height != width:
        raise RequestError(
            f"The network takes {channels} channels of {height} x {width}. Squares are needed, of 3 channels "
            "(pixels), 1 (gray) or 12 (the codec “haar”)."
        )
    with torch.no_grad():
        x = torch.zeros(1, *split.x_shape, device=unet.device, dtype=unet.dtype)
        _, *h_shape = split.encode(x, 0).h.shape
        made: Codec = autoencoder or CODECS[codec]()
        resolution = made.decode(x.float()).shape[-1]
    fingerprint = fingerprint_of(unet)
    if card is None:
        card = _card(id or f"unet-{fingerprint}", codec, resolution, (h_shape[0], h_shape[1], h_shape[2]))
    elif (card.resolution, *card.h_shape) != (resolution, *h_shape):
        raise RequestError(f"This network is not {id}: it has another shape.")
    card = replace(card, levels=own_levels(schedule.alphas_cumprod.tolist()))
    if domain_word is not None:
        card = replace(card, domain_word=domain_word)
    card = with_kept_curves(card, fingerprint)
    return DiffusionModel(card, split, schedule, made, unet.device, unet.dtype, fingerprint)


def _card(id: str, codec: CodecName, resolution: int, h_shape: tuple[int, int, int]) -> ModelCard:
    """What is known of a network of which nothing was said."""
    return ModelCard(
        id=id,
        title=id,
        description="A network that was given from outside.",
        source=InMemory(),
        resolution=resolution,
        h_shape=h_shape,
        codec=codec,
        domain_word="picture",
        clip=OpenClip("ViT-B-16", "openai"),
        perceptual="lpips-alex",
        curves=None,
        licence="unknown",
        half=False,
    )
