"""The networks that measure edits of a model's pictures. What cannot be had is left out, and words say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..asyrp.prompts import templates
from ..clip import ImageText
from ..errors import ModelUnavailable
from ..imaging import to_pil
from ..instruments import Instruments
from ..metrics import Distance
from ..models.cards import ModelCard
from ..parts import Parts
from ..photo import sface, yunet
from ..photo.faces import Detector
from ..photo.weights import opencv
from ..studio import measuring

T = TypeVar("T")
Identity = Callable[[Tensor, Tensor], Tensor]  # two batches of pixels (B, 3, H, W) -> similarity (B,), 1 for one person
Features = Callable[[Tensor], Tensor]  # pixels (B, 3, H, W) -> (B, F)

NO_FACES = "Identity is not measured: the model's pictures show no faces."
NO_PARTS = "Parts are not compared: no network here knows the parts of this model's pictures."
NO_INCEPTION = (
    "The Frechet distance is not measured: it needs torchmetrics with torch-fidelity (pip install torchmetrics[image]) "
    "and Inception's weights, which it downloads once."
)


@dataclass(frozen=True)
class Gauges:
    """What measures pictures of a model; None where it cannot be had. names: what does, for words, of `distance`,
    `identity` and `features`. missing: what could not be had, in sentences."""

    probe: Instruments | None = None
    image_text: ImageText | None = None
    templates: tuple[str, ...] = ("{}",)
    distance: Distance | None = None
    parts: Parts | None = None
    identity: Identity | None = None
    features: Features | None = None
    names: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()


def gauges_of(
    card: ModelCard, device: torch.device | str = "cpu", embedding: Path | None = None, with_features: bool = True
) -> Gauges:
    """All that measures a model's pictures.

    with_features: for the Frechet distance, whose network may have to be downloaded.
    embedding: an ONNX file that identity is measured with (see `Embedding`), in place of the probe or SFace.

    Raises:
        ModelUnavailable: the embedding that was given cannot be used.
    """
    missing: list[str] = []
    names: dict[str, str] = {}
    chosen = None if embedding is None else Embedding.load(embedding)

    def had(get: Callable[[], T], words: str) -> T | None:
        try:
            return get()
        except ModelUnavailable as error:
            missing.append(f"{words} {error.message}" if words else error.message)
            return None

    probe = had(lambda: measuring.probe(card), "The probe cannot be had.")
    image_text = had(lambda: measuring.image_text(card), "Nothing is measured by CLIP.")
    distance = had(lambda: measuring.distance(card), "No perceptual distance is measured.")
    parts = had(lambda: measuring.parts(card), "Parts are not compared.")
    if card.parts is None:
        missing.append(NO_PARTS)
    names["distance"] = "the probe's distance, in the form of LPIPS" if probe else "LPIPS (AlexNet)"

    identity: Identity | None = None
    if chosen is not None:
        identity, names["identity"] = chosen, f"cosine by {chosen.path.name}"
    elif probe is not None:
        identity, names["identity"] = _by_probe(probe), "cosine by the probe"
    elif card.framing is None:
        missing.append(NO_FACES)
    else:
        identity = had(_sface, "Identity is not measured.")
        names["identity"] = "cosine by SFace"

    features: Features | None = None
    if with_features:
        features = probe.features if probe is not None else had(lambda: inception(device), "")
        names["features"] = "Inception v3, as torchmetrics has it" if probe is None else "the probe's features"
    return Gauges(
        probe,
        image_text,
        templates(card) if image_text else ("{}",),
        distance,
        parts,
        identity,
        features,
        tuple(names.items()),
        tuple(missing),
    )


def _by_probe(probe: Instruments) -> Identity:
    return lambda before, after: (probe.identity(before) * probe.identity(after)).sum(-1)


def _sface() -> Identity:
    """SFace with YuNet's five points. Raises ModelUnavailable."""
    return _BySFace(sface.load(), yunet.load())


@dataclass(frozen=True)
class _BySFace:
    """No number for pictures in which no face is found."""

    network: sface.SFace
    detector: Detector

    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        found = []
        for a, b in zip(to_pil(before), to_pil(after), strict=True):
            try:
                found.append(self.network.similarity(np.asarray(a), np.asarray(b), self.detector))
            except ModelUnavailable:
                found.append(float("nan"))
        return torch.tensor(found)


CROP = (35, 223, 32, 220)  # top, bottom, left, right of an aligned face of 256 pixels (Richardson et al. 2021, pSp)
SIDE = 112


@dataclass(frozen=True)
class Embedding:
    """A face network in an ONNX file as they are usually published (ArcFace and its relatives): (1, 3, 112, 112) in
    [-1, 1], RGB, to a vector. Pictures are taken to be aligned as CelebA-HQ is; of each the middle is seen that pSp's
    identity loss sees."""

    path: Path
    network: Any

    @classmethod
    def load(cls, path: Path) -> Embedding:
        """Raises ModelUnavailable: it is not there or cannot be read."""
        if not path.is_file():
            raise ModelUnavailable(f"There is no file {path}: an embedding is an ONNX file.")
        cv2 = opencv("Measuring identity by a file", "Leave the embedding out to measure without it.")
        try:
            return cls(path, cv2.dnn.readNetFromONNX(str(path)))
        except cv2.error as error:
            raise ModelUnavailable(f"{path} cannot be read as a face embedding in an ONNX file.") from error

    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        """Raises ModelUnavailable: it does not take such pictures."""
        return F.cosine_similarity(self._embedded(before), self._embedded(after), dim=1)

    def _embedded(self, pixels: Tensor) -> Tensor:
        x = pixels.detach().float().cpu()
        top, bottom, left, right = (round(edge * x.shape[-1] / 256) for edge in CROP)
        x = F.interpolate(
            x[..., top:bottom, left:right], (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
        cv2 = opencv("Measuring identity by a file", "")
        rows = []
        try:
            for picture in x:
                self.network.setInput(picture[None].numpy())
                rows.append(torch.from_numpy(np.array(self.network.forward())).flatten())
        except cv2.error as error:
            raise ModelUnavailable(
                f"{self.path.name} does not take pictures (1, 3, {SIDE}, {SIDE}): it is no face embedding of that kind."
            ) from error
        return torch.stack(rows)


def inception(device: torch.device | str = "cpu", weights: Path | None = None) -> Features:
    """The 2,048 features of the Frechet inception distance, by torchmetrics (which is not among our requirements).

    weights: a file with Inception's; None: torch-fidelity's, from its cache or downloaded.

    Raises:
        ModelUnavailable: a package or the weights are not here and cannot be fetched.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        metric = FrechetInceptionDistance(
            feature=2048, feature_extractor_weights_path=None if weights is None else str(weights)
        )
        network = metric.inception.to(device)
    except Exception as error:  # packages that are missing, and what a download raises
        raise ModelUnavailable(NO_INCEPTION) from error

    @torch.no_grad()
    def features(pixels: Tensor) -> Tensor:
        shown = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(device, torch.uint8)
        found: Tensor = network(shown).float()
        return found

    return features
