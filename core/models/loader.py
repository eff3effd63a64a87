"""Loading and keeping models: one cache for the process, thread-safe, bounded by memory.

Half precision and device are chosen for the machine. A model that cannot be had raises `ModelUnavailable`.
"""

import logging
import re
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import torch
from diffusers import UNet2DModel
from torch import Tensor

from .. import memory
from ..cache import Sized
from ..errors import RequestError
from ..finite import finite, require_finite
from ..forking import renew_after_fork
from ..intervals import own_levels
from ..kept_on_disk import keep, recall
from ..kept_on_disk import place as place_on_disk
from ..queries import Query, outputs
from ..schedule import Schedule
from ..unet import Features, SplitNetwork, SplitUNet
from .cards import MODELS, BaseCard, Hub, ModelCard
from .codec import VQ, Codec
from .folders import fingerprint_of, obtain
from .known_outputs import check_at_first_load
from .placing import best_device, chosen, place
from .reading import fetch, read_codec, read_pipeline

log = logging.getLogger(__name__)

KIND = "a diffusion model of the kind that is used here (a UNet2DModel and its scheduler)"


@dataclass
class DiffusionModel:
    """A frozen diffusion model ready for use. The network runs in `dtype`, the sampler around it in float32.

    fingerprint: 16 hex digits of the SHA-256 of the weights; tells whether a direction was made for this network.
    conditioning: what else the network is bound to (`core.prompted`), so that it tells apart what is kept.
    """

    card: ModelCard
    unet: SplitNetwork
    schedule: Schedule
    codec: Codec
    device: torch.device
    dtype: torch.dtype
    fingerprint: str
    conditioning: str = field(default="", kw_only=True)

    @property
    def key(self) -> str:
        """Tells apart what its network computes from what others do, by the card and by what it is bound to."""
        return f"{self.card.id} {self.conditioning}" if self.conditioning else self.card.id

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one picture in network space."""
        return self.unet.x_shape

    @property
    def nbytes(self) -> int:
        return self.unet.nbytes + self.codec.nbytes

    def features(self, x: Tensor, t: int, wide: bool = False) -> Features:
        """Encoder and mid block at (x, t), in float32 if `wide` or if half precision cannot hold them. x: (B, C, H, W)
        in network space."""
        unet = self.unet.in_float32() if wide else self.unet
        features = unet.encode(x.to(self.device, unet.dtype), t)
        if unet is self.unet and self._is_half and not finite(features.h):
            unet = self._in_float32()
            features = unet.encode(x.to(self.device, unet.dtype), t)
        return features

    def eps(self, features: Features, x: Tensor, t: int, delta_h: Tensor | None = None) -> Tensor:
        """Predicted noise (B, C, H, W) in float32 (or x's float64) at h + delta_h, whatever the network predicts.

        x is the same that went into `features`. Channels beyond x's (a learned variance) are dropped. What half
        precision cannot hold is computed once more in float32, unless gradients are wanted: these may overflow where
        the noise does not, so that whoever takes them has to look.
        """
        unet = self.unet if features.h.dtype == self.unet.dtype else self.unet.in_float32()
        output = unet.decode(features, delta_h)
        if unet is self.unet and self._is_half and not output.requires_grad and not finite(output):
            unet = self._in_float32()
            output = unet.decode(unet.encode(x.to(self.device, unet.dtype), features.timesteps.tolist()), delta_h)
        output = output[:, : x.shape[1]]
        return self.schedule.eps_from_output(output.to(torch.promote_types(x.dtype, torch.float32)), x, t)

    def answer(self, queries: Sequence[Query]) -> list[Tensor]:
        """Predicted noise (N, C, H, W), as `eps`, for each query, in one call of the network. Without gradients.

        What half precision cannot hold is computed once more in float32.

        Raises:
            NumberError: that has values that are not numbers too.
        """
        answers = self._answers(self.unet, queries)
        if self._is_half and not finite(*answers):
            answers = self._answers(self._in_float32(), queries)
        require_finite(*answers)
        return answers

    @property
    def _is_half(self) -> bool:
        return self.unet.dtype.itemsize < torch.float32.itemsize

    def _in_float32(self) -> SplitNetwork:
        """For what half precision could not hold."""
        log.warning("%s computed values that are not numbers in %s: again in float32", self.card.id, self.dtype)
        return self.unet.in_float32()

    def _answers(self, unet: SplitNetwork, queries: Sequence[Query]) -> list[Tensor]:
        return [
            self.schedule.eps_from_output(
                output[:, : x.shape[1]].to(torch.promote_types(x.dtype, torch.float32)), x, timesteps
            )
            for output, x, timesteps in outputs(unet, queries, self.rows_per_call())
        ]

    def rows_per_call(self, budget: int | None = None) -> int:
        """How many pictures fit in one network call without exceeding `budget` bytes of activations.

        By default 0.5 GiB on a CPU, where rows that outgrow its caches take longer together than one by one, and a
        quarter of the free memory on a GPU. An estimate from the first level, whose activations dominate.
        """
        if budget is None:
            free = memory.free_memory(self.device)
            budget = 2**29 if free is None else free // 4
        _, height, width = self.x_shape
        first_level = self.unet.unet.config.block_out_channels[0] * height * width * self.dtype.itemsize
        return max(1, budget // (ACTIVATIONS * first_level * self.unet.passes))


ACTIVATIONS = 24  # peak of live activations per picture, in first-level feature maps (measured: 17 to 23)


Card = TypeVar("Card", bound=BaseCard)
Model = TypeVar("Model", bound=Sized)


class BaseLoader(ABC, Generic[Card, Model]):
    """Models of one kind by id: loaded once however many ask, the least recently used dropped beyond `capacity` bytes.

    listed: the cards of the kind, used if none are given. capacity: of all models together, by default a quarter of
    their device's memory; the last one asked for is kept in any case. device, dtype: chosen for the machine if None.
    cache_dir: where Hub models are kept.
    """

    name = "models"
    listed: Mapping[str, Card]

    def __init__(
        self,
        cards: Mapping[str, Card] | None = None,
        capacity: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        self.cards = self.listed if cards is None else cards
        self._capacity = capacity
        self._device = None if device is None else torch.device(device)
        self.dtype = dtype
        self.cache_dir = cache_dir
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._elsewhere: set[str] = set()  # of them, those that are not on this process's device
        self.renew_locks()
        renew_after_fork(self)
        memory.count(self)

    def renew_locks(self) -> None:
        """See `core.forking`. What threads of the parent are loading never comes here."""
        self._loading: dict[str, Future[Model]] = {}
        self._lock = threading.Lock()

    @property
    def device(self) -> torch.device:
        """Where models are loaded to."""
        return self._device or best_device()

    def adopt(self, placed: Mapping[str, Model]) -> None:
        """In a fork of the process that has a device of its own: use these models, which are there already, and move
        the others when they are asked for."""
        self._elsewhere = set(self._models) - set(placed)
        self._models.update(placed)

    @property
    def capacity(self) -> int:
        """Bytes that may be kept, by default a quarter of the memory of the device that holds the models."""
        return memory.device_memory(self.device) // memory.MODELS_SHARE if self._capacity is None else self._capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        self._capacity = capacity

    @property
    def nbytes(self) -> int:
        """Of the models in memory."""
        with self._lock:
            return sum(model.nbytes for model in self._models.values())

    def get(self, model_id: str) -> Model:
        """The model, from memory or loaded now.

        Raises:
            RequestError: there is no such model.
            ModelUnavailable: its files are not here and cannot be fetched, or are damaged.
        """
        if model_id not in self.cards:
            raise RequestError(f"There is no model {model_id!r}. Choose one of: {', '.join(self.cards)}.")
        with self._lock:
            if model_id in self._models:
                self._models.move_to_end(model_id)
                if model_id in self._elsewhere:
                    self._models[model_id] = self.moved(self._models[model_id])
                    self._elsewhere.discard(model_id)
                return self._models[model_id]
            loading = self._loading.get(model_id)
            if mine := loading is None:
                loading = self._loading[model_id] = Future()
        if mine:
            self._load_into(loading, model_id)
        return loading.result()

    def loaded(self) -> list[str]:
        """Ids of the models in memory, least recently used first."""
        with self._lock:
            return list(self._models)

    @abstractmethod
    def _load(self, card: Card) -> Model:
        """Load a model anew."""

    @abstractmethod
    def moved(self, model: Model) -> Model:
        """A model whose networks are moved to this loader's device, in the precision that suits it there."""

    def _load_into(self, loading: Future[Model], model_id: str) -> None:
        try:
            model = self._load(self.cards[model_id])
        except BaseException as error:
            with self._lock:
                del self._loading[model_id]
            loading.set_exception(error)
            return
        with self._lock:
            self._models[model_id] = model
            while len(self._models) > 1 and sum(m.nbytes for m in self._models.values()) > self.capacity:
                self._models.popitem(last=False)
            del self._loading[model_id]
        loading.set_result(model)


class Loader(BaseLoader[ModelCard, DiffusionModel]):
    """Unconditional models."""

    listed = MODELS

    def _load(self, card: ModelCard) -> DiffusionModel:
        model = load(card, self.device, self.dtype, self.cache_dir)
        if model.card is not card and MODELS.get(card.id) is card:
            MODELS[card.id] = model.card
        return model

    def moved(self, model: DiffusionModel) -> DiffusionModel:
        device, dtype = chosen(model.card, self.device, self.dtype)
        place(model.unet.unet, device, dtype)
        if isinstance(model.codec, VQ):
            model.codec.to(device)
        return replace(model, unet=SplitUNet(model.unet.unet), device=device, dtype=dtype)  # no copy in float32 there


def load(
    card: ModelCard,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    cache_dir: Path | None = None,
) -> DiffusionModel:
    """Load a model anew; `Loader.get` is the cached way. The card of a repository says the commit that was loaded, also
    where it was asked for by a branch.

    Raises:
        ModelUnavailable: its files are not here and cannot be fetched, or are damaged.
    """
    device, dtype = chosen(card, device, dtype)
    unet, schedule, codec, folder = obtain(card, partial(_read, card), partial(fetch, cache_dir=cache_dir), KIND)
    fingerprint = fingerprint_of(unet)
    card = _pinned(card, folder, fingerprint)
    if (levels := own_levels(schedule.alphas_cumprod.tolist())) != card.levels:
        card = replace(card, levels=levels)
    if isinstance(card.source, Hub):
        check_at_first_load(card, unet.eval().to(device), fingerprint)
    place(unet, device, dtype)
    if isinstance(codec, VQ):
        codec.to(device)
    card = with_kept_curves(card, fingerprint)
    return DiffusionModel(card, SplitUNet(unet), schedule, codec, device, dtype, fingerprint)


def with_kept_curves(card: ModelCard, fingerprint: str) -> ModelCard:
    """The card with the curves that were measured of these weights on this machine, where it has none of its own."""
    measured = place_on_disk("curves", fingerprint) if card.curves is None else None
    return card if measured is None else replace(card, curves=str(measured))


def _read(card: ModelCard, folder: Path) -> tuple[UNet2DModel, Schedule, Codec, Path]:
    """Network and autoencoder in float32, schedule, and where they were read. Raises: see `reading.read_network`."""
    unet, schedule = read_pipeline(folder)
    return unet, schedule, read_codec(card.codec, folder), folder


def _pinned(card: ModelCard, folder: Path, fingerprint: str) -> ModelCard:
    """The card with the commit that a repository's files are of, which the Hub's client names their folder by. It is
    kept with the weights' fingerprint."""
    source = card.source
    if not isinstance(source, Hub) or not re.fullmatch(r"[0-9a-f]{40}", folder.name):
        return card
    if recall("commit", fingerprint) is None:
        keep("commit", fingerprint, {"repo": source.repo, "asked": source.revision, "commit": folder.name})
    return card if source.revision == folder.name else replace(card, source=Hub(source.repo, folder.name))


models = Loader()
