"""Figures of PIE-Bench that others have published, to stand beside measured ones, as their tables have them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """figures: measure -> mean, in the units of `table.COLUMNS`."""

    name: str
    source: str
    figures: Mapping[str, float]


PUBLISHED = (
    Published(
        "direct inversion, prompt-to-prompt (published)",
        "Ju et al. 2023, PnP Inversion; Stable Diffusion 1.4, 700 pictures",
        {
            "structure_distance": 11.65,
            "psnr_unedit_part": 27.22,
            "lpips_unedit_part": 54.55,
            "clip_similarity_target_image": 25.02,
        },
    ),
    Published(
        "FireFlow (published)",
        "Deng et al. 2024, FireFlow; FLUX, another network",
        {"structure_distance": 27.1, "psnr_unedit_part": 23.03, "clip_similarity_target_image": 26.02},
    ),
)
