"""The networks that judge edits in PIE-Bench: DINO ViT-B/8, LPIPS with SqueezeNet, CLIP ViT-L/14.

Each is read from the Hub's cache, or downloaded, or from a folder. One that cannot be had leaves its columns empty.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelUnavailable
from ..hub_access import hub_answers, unreachable
from ..precision import in_float64
from .measures import Networks

Network = TypeVar("Network")

DINO, CLIP = "facebook/dino-vitb8", "openai/clip-vit-large-patch14"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SIDE = 224  # of what DINO and CLIP see
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OF_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load(device: torch.device | str = "cpu", dino: str = DINO, clip: str = CLIP) -> Networks:
    """All that can be had. dino, clip: repositories on the Hub, or folders of the same form."""
    missing: dict[str, str] = {}

    def tried(name: str, make: Callable[[], Network]) -> Network | None:
        try:
            return make()
        except ModelUnavailable as error:
            missing[name] = error.message
            return None

    lpips = tried("LPIPS (SqueezeNet)", lambda: load_lpips(device))
    return Networks(
        tried("DINO ViT-B/8", lambda: DinoKeys(obtain(dino, lambda folder: read_dino(folder, device)))),
        lpips,
        lpips and replace(lpips, spatial=True),
        tried("CLIP ViT-L/14", lambda: obtain(clip, lambda folder: read_clip(folder, device))),
        missing,
    )


def obtain(source: str, read: Callable[[Path], Network]) -> Network:
    """What `read` makes of a folder, or of a repository of the Hub. Raises ModelUnavailable."""
    if Path(source).is_dir():
        try:
            return read(Path(source))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelUnavailable(f"The folder {source} does not hold this network ({error}).") from error
    try:
        return read(fetched(source, local_files_only=True))
    except (OSError, ValueError, KeyError, RuntimeError):
        pass  # not here, or not all of it
    if not hub_answers():
        raise ModelUnavailable(f"{source} is not here. {unreachable()}")
    try:
        return read(fetched(source))
    except Exception as error:  # the Hub's errors come from three libraries and share no base
        raise ModelUnavailable(f"{source} could not be loaded ({error}).") from error


def fetched(repository: str, local_files_only: bool = False) -> Path:
    """The folder of a repository, with its weights in one form."""
    for weights in WEIGHTS:
        patterns = ["*.json", "*.txt", weights]
        folder = Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=local_files_only))
        if (folder / weights).is_file():
            break
    return folder


# ------------------------------------------------------------------------------------------------------------- networks


@dataclass(frozen=True)
class DinoKeys:
    """Of pictures, how alike DINO's keys at any two places are: a ViT of transformers, frozen."""

    network: Any

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Cosines (P, P) of the keys of the last block, all heads together; of ViT-B/8 P is 785, the class token first.

        pixels: (1, 3, R, R), with the scale that they are to be seen with. They become 224x224 bilinearly without
        antialiasing, as torchvision resized tensors when this was published, and then ImageNet's mean and deviation
        are taken off.
        """
        weight = self.network.embeddings.patch_embeddings.projection.weight
        side = self.network.config.image_size
        x = F.interpolate(pixels.to(weight), (side, side), mode="bilinear", align_corners=False, antialias=False)
        mean, deviation = (torch.tensor(values).to(x).view(1, 3, 1, 1) for values in IMAGENET)
        found: list[Tensor] = []
        projection = self.network.layers[-1].attention.k_proj
        hook = projection.register_forward_hook(lambda module, given, keys: found.append(keys[0]))
        try:
            self.network((x - mean) / deviation)
        finally:
            hook.remove()
        keys = in_float64(found[0])  # (P, E)
        norm = keys.norm(dim=1, keepdim=True)
        return ((keys @ keys.T) / (norm @ norm.T).clamp(min=1e-8)).cpu()


def read_dino(folder: Path, device: torch.device | str = "cpu") -> Any:
    """A `ViTModel` from a folder. Its norms have DINO's epsilon; the configuration on the Hub has another."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig.from_pretrained(folder)
    config.layer_norm_eps = 1e-6
    return _filled(ViTModel(config, add_pooling_layer=False), folder, device, unused=("pooler.",))


@dataclass(frozen=True)
class ClipScore:
    """max(100 cos, 0) of a picture and a prompt (Hessel et al. 2021, as in torchmetrics), by a CLIP of transformers."""

    network: Any
    tokenizer: Any

    @torch.no_grad()
    def __call__(self, picture: np.ndarray, prompt: str) -> float:
        """picture: uint8 (R, R, 3). Words that CLIP does not read are cut off."""
        device = self.network.logit_scale.device
        length = self.network.config.text_config.max_position_embeddings
        tokens = self.tokenizer([prompt], truncation=True, max_length=length, return_tensors="pt").to(device)
        image = self.network.get_image_features(pixel_values=seen_by_clip(picture, self._side).to(device))
        text = self.network.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        cosine = F.cosine_similarity(image.pooler_output.float(), text.pooler_output.float())
        return max(100 * cosine.item(), 0.0)

    @property
    def _side(self) -> int:
        return self.network.config.vision_config.image_size


def seen_by_clip(picture: np.ndarray, side: int = SIDE) -> Tensor:
    """A square picture, uint8 (R, R, 3), as CLIP sees it (1, 3, side, side): resized by Pillow, bicubically."""
    small = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    mean, deviation = (np.array(values, np.float32) for values in OF_CLIP)
    return torch.from_numpy((small - mean) / deviation).permute(2, 0, 1)[None]


def read_clip(folder: Path, device: torch.device | str = "cpu") -> ClipScore:
    """A `CLIPModel` and its tokenizer from a folder."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    network = _filled(CLIPModel(CLIPConfig.from_pretrained(folder)), folder, device)
    return ClipScore(network, CLIPTokenizer.from_pretrained(folder, local_files_only=True))


@dataclass(frozen=True)
class Lpips:
    """LPIPS (Zhang et al. 2018) of two batches of pixels (1, 3, R, R) in [-1, 1]. spatial: its map (1, 1, R, R), in
    place of its mean (1, 1, 1, 1)."""

    network: Any
    spatial: bool = False

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        network = copy.copy(self.network)  # the same weights
        network.spatial = self.spatial
        weight = self.network.lin0.model[-1].weight
        return network(a.to(weight), b.to(weight)).float().cpu()


def load_lpips(device: torch.device | str = "cpu") -> Lpips:
    """With SqueezeNet, whose weights torchvision downloads. Raises ModelUnavailable."""
    import lpips  # loads torchvision's models

    try:
        with warnings.catch_warnings(action="ignore"):  # it asks torchvision in a way that is going out of use
            network = lpips.LPIPS(net="squeeze", verbose=False)
    except Exception as error:  # download errors of several libraries
        raise ModelUnavailable("LPIPS with SqueezeNet has to be downloaded once and cannot be reached.") from error
    return Lpips(network.to(device).eval().requires_grad_(False))


def _filled(network: nn.Module, folder: Path, device: torch.device | str, unused: Sequence[str] = ()) -> Any:
    """Raises ValueError: the folder has the weights of something else."""
    safe = folder / WEIGHTS[0]
    state = load_file(safe) if safe.is_file() else torch.load(folder / WEIGHTS[1], "cpu", weights_only=True)
    state = {current_name(name): value for name, value in state.items() if not name.endswith("position_ids")}
    known = network.state_dict()
    if others := [name for name in state if name not in known and not name.startswith(tuple(unused))]:
        raise ValueError(f"its file has other weights, such as {others[0]}")
    if lacking := [name for name in known if name not in state and not name.endswith("position_ids")]:
        raise ValueError(f"its file lacks weights, such as {lacking[0]}")
    network.load_state_dict({name: value for name, value in state.items() if name in known}, strict=False)
    return network.to(device).eval().requires_grad_(False)


def current_name(name: str) -> str:
    """A weight of a ViT as published under the name that transformers 5 gives it."""
    if not name.startswith(("vit.", "encoder.layer.", "embeddings.", "layernorm.", "pooler.", "layers.")):
        return name
    for old, new in (
        ("vit.", ""),
        ("encoder.layer.", "layers."),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ):
        name = name.replace(old, new)
    return name
