"""Networks and their noise levels from a diffusers folder, however it is laid out, and which files of it are needed.

Folders are read here and not by `from_pretrained`: while that builds a network it replaces the initialisers of torch
for the whole process, and a direction that another thread makes at that moment comes out uninitialised. What is no
safetensors file is read with `torch.load(weights_only=True)`, which executes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel, VQModel
from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from safetensors.torch import load_file
from torch import Tensor

from ..schedule import Schedule
from .codec import CODECS, VQ, Codec, CodecName
from .folders import current_name
from .heads import build_unet

STEM = "diffusion_pytorch_model"
# What weights can be called, the best first: whole precision, and safetensors, before others. And where they are in
# several files, their index: as diffusers calls it, or as one would expect.
WEIGHTS = {
    f"{STEM}{variant}.{kind}": (f"{STEM}.{kind}.index{variant}.json", f"{STEM}{variant}.{kind}.index.json")
    for variant in ("", ".fp16")
    for kind in ("safetensors", "bin")
}
NOTES = "hspace.json"  # what `hspace convert` says of a model beside what diffusers knows

AUTOENCODERS = ("vqvae", "vae")  # folders of a latent model's codec
PARTS = ("unet", *AUTOENCODERS, "")  # folders with weights; "": all in one folder, as in 2022


def read_pipeline(folder: Path) -> tuple[UNet2DModel, Schedule]:
    """Network in float32 and schedule from a diffusers pipeline's folder, in subfolders or, as in 2022, all in one.

    Raises: see `read_network`.
    """
    network, scheduler = _parts(folder)
    return read_network(network), Schedule.from_scheduler(_json(scheduler / "scheduler_config.json"))


def read_configs(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a folder says of its network and of its noise levels. Raises OSError, ValueError."""
    network, scheduler = _parts(folder)
    return _json(network / "config.json"), _json(scheduler / "scheduler_config.json")


def _parts(folder: Path) -> tuple[Path, Path]:
    """Where the network and the scheduler are."""
    network, scheduler = (folder / part if (folder / part).is_dir() else folder for part in ("unet", "scheduler"))
    return network, scheduler


def read_network(folder: Path) -> UNet2DModel:
    """A network in float32.

    Raises:
        OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, UnpicklingError: files are missing or
            damaged.
    """
    config = _json(folder / "config.json")
    unet = build_unet(config)
    unet.load_state_dict({current_name(name): value for name, value in read_weights(folder).items()})
    return unet.float()


def read_notes(folder: Path) -> dict[str, Any]:
    """What a folder says of its model beside what diffusers knows; {} if nothing."""
    try:
        found = _json(folder / NOTES)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_codec(name: CodecName, folder: Path) -> Codec:
    """The codec of a card, where it has weights from the model's folder.

    Raises: see `read_network`. ValueError: the folder is one of a latent model and the card is not, or the reverse.
    """
    autoencoder = read_autoencoder(folder)
    if (name == "vq") != (autoencoder is not None):
        raise ValueError("pixels and latents are mixed up")
    return autoencoder or CODECS[name]()


def read_autoencoder(folder: Path) -> VQ | None:
    """The codec of a latent model's folder, in float32; None: its network works on pixels.

    Raises: see `read_network`. ValueError: it is an autoencoder of another kind.
    """
    for part in AUTOENCODERS:
        if (folder / part / "config.json").is_file():
            config = _json(folder / part / "config.json")
            kind = config.get("_class_name")
            if kind != "VQModel":
                raise ValueError(f"a {kind} is no VQModel")
            network = VQModel.from_config(config)
            network.load_state_dict({current_name(n): value for n, value in read_weights(folder / part).items()})
            # diffusers' own default, 0.18215, is that of another autoencoder (huggingface/diffusers#6725): latents of
            # a VQ autoencoder are not scaled (Rombach et al. 2022, appendix G).
            return VQ(network.float().eval().requires_grad_(False), float(config.get("scaling_factor", 1.0)))
    return None


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors in a network's folder, from one file or several.

    Raises: see `read_network`.
    """
    for name, indices in WEIGHTS.items():
        if (folder / name).exists():
            return _tensors(folder / name)
        index = next((folder / index for index in indices if (folder / index).exists()), None)
        if index is not None:
            files = set(_json(index)["weight_map"].values())
            if any(Path(file).name != file for file in files):
                raise ValueError("an index names files elsewhere")
            return {key: value for file in sorted(files) for key, value in _tensors(folder / file).items()}
    raise FileNotFoundError(f"{folder} has no weights")


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    return torch.load(file, weights_only=True, map_location="cpu")


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------------- the Hub


def needed(names: Iterable[str]) -> list[str]:
    """Of the files of a repository those that a model is read from: of several precisions and formats one."""
    files = set(names)
    parts = [part for part in PARTS if part and f"{part}/config.json" in files] or [""]
    found: list[str] = [name for name in ("model_index.json", NOTES) if name in files]
    found += [name for name in ("scheduler/scheduler_config.json", "scheduler_config.json") if name in files][:1]
    for part in parts:
        prefix = f"{part}/" if part else ""
        found += [prefix + "config.json"] if prefix + "config.json" in files else []
        for weights, indices in WEIGHTS.items():
            if prefix + weights in files:
                found.append(prefix + weights)
                break
            index = next((prefix + index for index in indices if prefix + index in files), None)
            if index is not None:
                stem, _, ending = (prefix + weights).rpartition(".")
                shards = [name for name in files if name.startswith(f"{stem}-") and name.endswith(f".{ending}")]
                found += [index, *shards]
                break
    return sorted(found)


def in_cache(repo: str, revision: str, cache_dir: Path | None = None) -> Path | None:
    """The folder of a repository's model that was downloaded, or None."""
    for part in ("unet/", ""):
        kept = try_to_load_from_cache(repo, f"{part}config.json", cache_dir, revision)
        if isinstance(kept, str):
            return Path(kept.removesuffix(f"{part}config.json"))
    return None


def fetch(repo: str, *, revision: str, local_files_only: bool, cache_dir: Path | None = None) -> str:
    """The folder of a repository's model in the cache of the Hub's client, as `core.models.folders.obtain` wants it.

    Raises: FileNotFoundError: it is not in the cache, and nothing may be fetched. Whatever the Hub's client raises.
    """
    if local_files_only:
        folder = in_cache(repo, revision, cache_dir)
        if folder is None:
            raise FileNotFoundError(f"{repo} was not downloaded")
        return str(folder)
    files = [file.rfilename for file in HfApi().model_info(repo, revision=revision).siblings or ()]
    wanted = needed(files) or ["config.json"]
    return snapshot_download(repo, revision=revision, cache_dir=cache_dir, allow_patterns=wanted)
