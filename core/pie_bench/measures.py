"""The measures of PIE-Bench, exactly as PnPInversion computes them, and the same ones mended, under names of their own.

As published (`evaluation/matrics_calculator.py` of cure-lab/PnPInversion), a measure of the background sets the edited
part to black in both pictures and goes on counting it: the larger the edit, the better every method looks. And the
network of the structure distance is given values of 0 to 255 where it has learned from 0 to 1. `mended` leaves the
edited part out, and divides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import metrics

Value: TypeAlias = "float | None"  # NaN: there is no background; None: its network could not be had
Values: TypeAlias = dict[str, Value]

AS_PUBLISHED = (
    "structure_distance",
    "psnr_unedit_part",
    "lpips_unedit_part",
    "mse_unedit_part",
    "ssim_unedit_part",
    "clip_similarity_source_image",
    "clip_similarity_target_image",
    "clip_similarity_target_image_edit_part",
)
MENDED = ("structure_distance_0_to_1", "psnr_background", "lpips_background", "mse_background", "ssim_background")


@dataclass(frozen=True)
class Networks:
    """The networks that measures need; None: could not be had, and `missing` says why, by the name of the network.

    self_similarity: pixels (1, 3, R, R) of any scale -> (P, P), of the keys of DINO at P places. lpips: two batches of
    pixels (1, 3, R, R) in [-1, 1] -> the distance. lpips_map: the same -> (1, 1, R, R), whose mean would be about that.
    clip_score: a picture, uint8 (R, R, 3), and a prompt -> 0 to 100.
    """

    self_similarity: Callable[[Tensor], Tensor] | None = None
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None
    lpips_map: Callable[[Tensor, Tensor], Tensor] | None = None
    clip_score: Callable[[np.ndarray, str], float] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


def as_published(
    networks: Networks,
    source: np.ndarray,
    result: np.ndarray,
    mask: np.ndarray | None,
    source_prompt: str,
    target_prompt: str,
) -> Values:
    """The measures of `AS_PUBLISHED` of one edit, by name.

    source, result: uint8 (R, R, 3). mask: boolean (R, R), where the edit belongs, its frame included; None: not known.
    Measures of the background are NaN where the mask is everywhere or not known.
    """
    values: Values = dict.fromkeys(AS_PUBLISHED, float("nan"))
    values["structure_distance"] = structure_distance(networks, whole(source), whole(result))
    if mask is not None and not mask.all():
        a, b = (whole(picture) / 255 * background(mask) for picture in (result, source))
        values["mse_unedit_part"] = mse = (a - b).square().mean().item()
        values["psnr_unedit_part"] = psnr(mse)
        values["ssim_unedit_part"] = metrics.ssim_map(a, b).mean().item()
        values["lpips_unedit_part"] = None if networks.lpips is None else networks.lpips(a * 2 - 1, b * 2 - 1).item()
    values["clip_similarity_source_image"] = clip_similarity(networks, source, source_prompt)
    values["clip_similarity_target_image"] = clip_similarity(networks, result, target_prompt)
    if mask is not None and mask.any():
        edited = (result * mask[..., None]).astype(np.uint8)
        values["clip_similarity_target_image_edit_part"] = clip_similarity(networks, edited, target_prompt)
    return values


def mended(networks: Networks, source: np.ndarray, result: np.ndarray, mask: np.ndarray | None) -> Values:
    """The measures of `MENDED` of one edit, by name; arguments as of `as_published`.

    structure_distance_0_to_1: of pictures in [0, 1]. Of the background alone: psnr_background, mse_background: over its
    pixels. ssim_background: over those windows that lie in it wholly. lpips_background: over its pixels of the map of
    LPIPS between pictures that are both the source in the edited part. NaN where there is no such pixel or window.
    """
    values: Values = dict.fromkeys(MENDED, float("nan"))
    a, b = (whole(picture) / 255 for picture in (result, source))
    values["structure_distance_0_to_1"] = structure_distance(networks, b, a)
    if mask is None or mask.all():
        return values
    there = background(mask).bool()
    values["mse_background"] = mse = (a - b).square()[there.expand_as(a)].mean().item()
    values["psnr_background"] = psnr(mse)
    clear = F.avg_pool2d(there.to(a), 11, stride=1) > 1 - 1e-6
    if clear.any():
        map_ = metrics.ssim_map(a, b)
        values["ssim_background"] = map_[clear.expand_as(map_)].mean().item()
    if networks.lpips_map is None:
        values["lpips_background"] = None
    else:
        map_ = networks.lpips_map(torch.where(there, a, b) * 2 - 1, b * 2 - 1)
        values["lpips_background"] = map_[there].mean().item()
    return values


def whole(picture: np.ndarray) -> Tensor:
    """uint8 (R, R, 3) to float32 (1, 3, R, R), 0 to 255."""
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]


def background(mask: np.ndarray) -> Tensor:
    """1 outside a mask (R, R) and 0 inside: float32 (1, 1, R, R)."""
    return torch.from_numpy(~mask)[None, None].float()


def psnr(mse: float) -> float:
    """In dB, of pixels in [0, 1]; infinite where there is no error."""
    return -10 * float(np.log10(mse)) if mse > 0 else float("inf")


def structure_distance(networks: Networks, source: Tensor, result: Tensor) -> Value:
    """Mean squared difference of the self-similarities of DINO's keys (Tumanyan et al. 2022, Splicing ViT features)."""
    if networks.self_similarity is None:
        return None
    return (networks.self_similarity(source) - networks.self_similarity(result)).square().mean().item()


def clip_similarity(networks: Networks, picture: np.ndarray, prompt: str) -> Value:
    return None if networks.clip_score is None else networks.clip_score(picture, prompt)
