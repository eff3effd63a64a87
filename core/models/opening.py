"""Any unconditional diffusers network as a model of the app: a repository on the Hub, or a folder.

Resolution, channels, h-space, noise levels and prediction type come from its configuration, what its pictures show from
whoever opens it. Nothing in its files is executed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..errors import ModelUnavailable, RequestError, ResourceError
from ..forking import ForkedLock
from ..hub_access import explain, hub_answers, unreachable
from ..intervals import PUBLISHED
from ..memory import MAX_DOWNLOAD, MAX_OPENED, MB
from ..progress import Job, Progress
from ..schedule import Schedule
from ..unet import SplitUNet
from .cards import MAX_SIDE, MODELS, BaseCard, Folder, Hub, ModelCard, OpenClip, framing_of
from .codec import CODEC_OF_CHANNELS, CODECS, CodecName
from .folders import DAMAGED
from .heads import build_unet
from .loader import KIND, Loader, models
from .reading import AUTOENCODERS, in_cache, needed, read_configs, read_notes

MAX_NAME = 300  # characters
MAX_WORD = 40
MARGIN = 2**30  # bytes of the disk that stay free
POLL = 0.5  # seconds between two looks at a download

_CHANGING = ForkedLock()


def open_model(
    name: str,
    domain_word: str = "",
    *,
    folders: bool = True,
    token: str | bool | None = None,
    cache_dir: Path | None = None,
    loader: Loader = models,
) -> Job[ModelCard]:
    """Make a model of a repository or folder known, and load it: from then on it is one of `MODELS`.

    name: the id of a model that is known; OWNER/NAME on the Hub, with @REVISION or without; or a folder. domain_word:
    what its pictures show, one or two words; as its files say, or “picture”, if left out. folders: whether folders of
    this machine may be opened. token: for private repositories; False: not even that of this machine's login.

    Raises:
        RequestError: the name or the word cannot be one, or the network is of another kind. ModelUnavailable: files are
            missing or damaged, or cannot be fetched. ResourceError: the model is too large, or the disk full.
    """
    name, word = name.strip(), read_word(domain_word)
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise RequestError("Write a repository of the Hub, such as google/ddpm-ema-cat-256.")
    if name in MODELS:
        card = MODELS[name]
    elif folders and (place := Path(name).expanduser()).is_dir():
        yield Progress(0, 1, "Reading the folder")
        card = describe(place.resolve(), _folder_id(place.resolve()), Folder(str(place.resolve())), word)
    else:
        repo, asked = _repository(name, folders)
        known = next((card for card in MODELS.values() if _is_of(card, repo, asked)), None)
        if known is not None:
            card = known
        else:
            folder, revision = yield from _downloaded(repo, asked, token, cache_dir)
            card = describe(folder, name_of(repo, asked), Hub(repo, revision), word)
    card = _register(card, word)
    yield Progress(0, 1, f"Loading {card.title}")
    try:
        loader.get(card.id)
    except BaseException:
        with _CHANGING:
            if card.id in _opened:
                _opened.discard(card.id)
                MODELS.pop(card.id, None)
        raise
    yield Progress(1, 1, "done")
    return MODELS[card.id]


def describe(folder: Path, model_id: str, source: Folder | Hub, word: str = "") -> ModelCard:
    """The card of the model in a folder, from its configuration alone.

    Raises:
        ModelUnavailable: the folder does not hold such a model. RequestError: one that cannot be edited.
    """
    title = source.repo if isinstance(source, Hub) else folder.name
    try:
        config, noise = read_configs(folder)
        _refuse_others(config, title)
        channels, side, h_shape = shapes(config)
        Schedule.from_scheduler(noise)
        codec, resolution = _codec(folder, channels, side, title)
    except RequestError:
        raise
    except (*DAMAGED, AttributeError) as error:
        raise ModelUnavailable(f"“{title}” does not hold {KIND}, or its files are damaged.") from error
    if resolution > MAX_SIDE:
        raise RequestError(f"The pictures of “{title}” are larger than {MAX_SIDE}x{MAX_SIDE} pixels.")
    notes = read_notes(folder)
    word = word or said_word(notes) or "picture"
    licence, curves = notes.get("licence"), notes.get("curves")
    return ModelCard(
        id=model_id,
        title=title,
        description=f"{resolution}x{resolution}, opened by you. What it shows: {word}.",
        source=source,
        resolution=resolution,
        h_shape=h_shape,
        codec=codec,
        domain_word=word,
        clip=OpenClip("ViT-B-16", "openai"),
        perceptual="lpips-alex",
        curves=PUBLISHED.get(curves) if isinstance(curves, str) else None,
        licence=licence[:80] if isinstance(licence, str) else "unknown",
        framing=framing_of(word, title, curves if isinstance(curves, str) else ""),
    )


def shapes(config: Mapping[str, Any]) -> tuple[int, int, tuple[int, int, int]]:
    """Channels and side of a network's input, and (C, H, W) of its h, without weights.

    Raises:
        RequestError: it is class-conditional, or its pictures are not squares of a known size.
    """
    match config.get("sample_size"):
        case int() | [int(), int()]:
            pass
        case _:
            raise RequestError("This network does not say how large its square pictures are (sample_size).")
    with torch.device("meta"):  # of this thread only
        unet = build_unet(config)
    if unet.class_embedding is not None:
        raise RequestError("This network makes pictures of a class that it is told: it cannot be edited here.")
    split = SplitUNet(unet)
    channels, side, other = split.x_shape
    if side != other:
        raise RequestError(f"This network's pictures have {other}x{side} pixels; squares are needed.")
    h = split.encode(torch.zeros(1, *split.x_shape, device="meta"), 0).h
    return channels, side, (h.shape[1], h.shape[2], h.shape[3])


def read_word(text: str) -> str:
    """What pictures show, as a text has it: “face”, “stained glass”. Raises RequestError: it cannot be that."""
    word = " ".join(text.split())
    if len(word) > MAX_WORD or not word.isprintable() or re.search(r"[{}<>]", word):
        raise RequestError(
            f"Say in one or two words what the pictures show (face, church), in up to {MAX_WORD} letters."
        )
    return word


def said_word(notes: Mapping[str, Any]) -> str | None:
    """What pictures show, as a model's files say it; None if they do not. Raises: see `read_word`."""
    said = notes.get("domain_word")
    return (read_word(said) if isinstance(said, str) else "") or None


# ----------------------------------------------------------------------------------------------------------- the pieces


_opened: set[str] = set()  # ids of models that are not listed


def _register(card: ModelCard, word: str) -> ModelCard:
    """Into `MODELS`. Whoever opens a known one with another word gets a card of their own."""
    with _CHANGING:
        known = MODELS.get(card.id)
        if known is not None and word and word != known.domain_word:
            model_id = f"{card.id} ({word})"
            card = MODELS.get(model_id) or replace(
                known,
                id=model_id,
                title=f"{known.title} ({word})",
                domain_word=word,
                drawn=None,
                framing=framing_of(word) or known.framing,
            )
            known = MODELS.get(model_id)
        elif known is not None:
            return known
        if known is None:
            if len(_opened) >= MAX_OPENED:
                raise ResourceError("Too many models were opened here. Use one of them, or run the app yourself.")
            _opened.add(card.id)
            MODELS[card.id] = card
        return card


def name_of(repo: str, revision: str | None) -> str:
    """The id of a repository's model."""
    return repo if revision is None else f"{repo}@{revision}"


def _is_of(card: BaseCard, repo: str, revision: str | None) -> bool:
    """Whether a known model is this repository's, and was asked for at the same revision."""
    source = card.source
    if not isinstance(source, Hub) or source.repo != repo:
        return False
    return card.id == name_of(repo, revision) if card.id in _opened else revision in (None, source.revision)


def _folder_id(folder: Path) -> str:
    """No path, so that it can be part of one."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", folder.name).strip("-")[:60] or "model"
    return f"folder-{name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def _repository(name: str, folders: bool) -> tuple[str, str | None]:
    repo, _, revision = name.removeprefix("https://huggingface.co/").rstrip("/").partition("@")
    try:
        validate_repo_id(repo)
        fits = repo.count("/") == 1 and re.fullmatch(r"[\w.-]*", revision, re.ASCII) is not None
    except HFValidationError:
        fits = False
    if not fits:
        here = ", and there is no such folder here" if folders else ""
        raise RequestError(
            f"“{name[:80]}” is no repository of the Hub (OWNER/NAME){here}. Write for example google/ddpm-ema-cat-256."
        )
    return repo, revision or None


def _refuse_others(config: Mapping[str, Any], title: str) -> None:
    kind = str(config.get("_class_name", ""))
    if "Condition" in kind:
        raise RequestError(
            f"“{title}” makes pictures from text ({kind[:60]}). Of such models the listed ones can be chosen; "
            "here a network without conditions is needed (UNet2DModel)."
        )


def _codec(folder: Path, channels: int, side: int, title: str) -> tuple[CodecName, int]:
    """The codec of a model, and the side of its pictures in pixels."""
    for part in AUTOENCODERS:
        place = folder / part / "config.json"
        if place.is_file():
            config = json.loads(place.read_text(encoding="utf-8"))
            if config.get("_class_name") != "VQModel":
                raise RequestError(
                    f"The autoencoder of “{title}” is a {str(config.get('_class_name'))[:60]}; of latent models only "
                    "those with a VQModel can be used."
                )
            return "vq", side * 2 ** (len(config["block_out_channels"]) - 1)
    codec = CODEC_OF_CHANNELS.get(channels)
    if codec is None:
        raise RequestError(
            f"The network of “{title}” takes {channels} channels: pictures in colour (3) or gray (1) are needed, or "
            "latents with their autoencoder in the folder vqvae."
        )
    return codec, CODECS[codec]().decode(torch.zeros(1, channels, side, side)).shape[-1]


# ------------------------------------------------------------------------------------------------------------- download


def _downloaded(
    repo: str, revision: str | None, token: str | bool | None, cache_dir: Path | None
) -> Job[tuple[Path, str]]:
    """The folder of a repository's model, and the commit that it is of; from the cache if the Hub does not answer.

    Raises: see `open_model`.
    """
    yield Progress(0, 1, "Asking the Hub")
    if not hub_answers():
        kept = _kept(repo, revision, cache_dir)
        if kept is None:
            raise ModelUnavailable(f"{repo} was not downloaded before. {unreachable()}")
        return kept
    try:
        about = HfApi(token=token).model_info(repo, revision=revision, files_metadata=True)
    except Exception as error:  # the Hub's errors come from three libraries and share no base
        raise ModelUnavailable(f"{explain(error, repo, revision or 'main')}") from error
    sizes = {file.rfilename: file.size or 0 for file in about.siblings or ()}
    files, commit = needed(sizes), str(about.sha)
    if not any(name.endswith("config.json") for name in files if "scheduler" not in name):
        raise ModelUnavailable(f"{repo} does not hold {KIND}.")
    total = sum(sizes[name] for name in files)
    cache = Path(cache_dir or huggingface_hub.constants.HF_HUB_CACHE)
    _require_room(repo, total, cache)

    done: Future[str] = Future()

    def fetch() -> None:
        try:
            done.set_result(
                snapshot_download(repo, revision=commit, cache_dir=cache_dir, allow_patterns=files, token=token)
            )
        except BaseException as error:
            done.set_exception(error)

    blobs = cache / f"models--{repo.replace('/', '--')}" / "blobs"
    before = _size(blobs)
    threading.Thread(target=fetch, daemon=True).start()  # goes on if nobody waits any more: the next visitor has it
    while True:
        try:
            return Path(done.result(POLL)), commit
        except NotYet:
            if done.done():
                continue
            here = min(max(0, _size(blobs) - before), total)
            yield Progress(here // MB, max(1, total // MB), f"Downloading {repo}: {here // MB} of {total // MB} MB")
        except Exception as error:
            raise ModelUnavailable(f"{repo} could not be downloaded. {explain(error, repo, commit)}") from error


def _kept(repo: str, revision: str | None, cache_dir: Path | None) -> tuple[Path, str] | None:
    """What was downloaded of a repository: that revision, or the newest."""
    cache = Path(cache_dir or huggingface_hub.constants.HF_HUB_CACHE)
    snapshots = cache / f"models--{repo.replace('/', '--')}" / "snapshots"
    commits = [revision] if revision else []
    if not revision and snapshots.is_dir():
        commits = [path.name for path in sorted(snapshots.iterdir(), key=lambda path: -path.stat().st_mtime)]
    for commit in commits:
        folder = in_cache(repo, commit, cache_dir)
        if folder is not None:
            return folder, folder.name
    return None


def _require_room(repo: str, total: int, cache: Path) -> None:
    """Raises ResourceError: the model is too large for the app, or for the disk."""
    if total > MAX_DOWNLOAD:
        raise ResourceError(f"{repo} has {total / 2**30:.1f} GB; up to {MAX_DOWNLOAD / 2**30:.0f} GB can be opened.")
    there = next(path for path in (cache, *cache.parents) if path.exists())
    if shutil.disk_usage(there).free < total + MARGIN:
        raise ResourceError(f"{repo} has {total / 2**30:.1f} GB, and the disk has no room for it. Free some space.")


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:
        return 0
