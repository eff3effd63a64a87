"""Folders of models as they are met, and what goes on beside the reading of one."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.models import opening
from core.models.cards import MODELS, ModelCard
from core.models.loader import models
from core.models.small_networks import read_config, write_config

REVISION = "0123456789abcdef0123456789abcdef01234567"


def cached(cache: Path, repo: str) -> Path:
    """The folder of a repository's files in a cache of the Hub's client, as that lays it out."""
    repository = cache / f"models--{repo.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    return repository / "snapshots" / REVISION


def names_of_2022(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose attention has the names that it had then."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in state.items():
        for today, then in old.items():
            name = name.replace(f".{today}.", f".{then}.")
        renamed[name] = value
    assert renamed.keys() != state.keys()
    return renamed


@contextmanager
def opened_models_closed() -> Iterator[None]:
    """What is opened in here is not listed, loaded or remembered afterwards."""
    before = dict(MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "_opened", set())
        try:
            yield
        finally:
            for model_id in MODELS.keys() - before.keys():
                models._models.pop(model_id, None)
            MODELS.clear()
            MODELS.update(before)


@contextmanager
def modules_made_meanwhile() -> Iterator[None]:
    """Modules that another thread makes are initialised as always, on their own device."""
    stop, faults = threading.Event(), []

    def make_modules() -> None:
        while not stop.is_set():
            weight = torch.nn.Linear(4, 4).weight
            if weight.is_meta or weight.abs().max() > 0.5:
                faults.append(weight)

    maker = threading.Thread(target=make_modules)
    maker.start()
    try:
        yield
    finally:
        stop.set()
        maker.join()
    assert not faults


def linked_avatars(folder: Path) -> ModelCard:
    """The card of a model in this new folder that has the network and schedule of `avatars` and nothing else."""
    folder.mkdir()
    card = MODELS["avatars"]
    for part in ("unet", "scheduler"):
        (folder / part).symlink_to(card.source.folder / part)
    return replace(card, source=replace(card.source, path=str(folder)))


def change_config(folder: Path, **entries: object) -> None:
    """Of a small network of our own."""
    write_config(read_config(folder) | entries, folder)
