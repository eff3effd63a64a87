"""The parts of a photographed face by SegFormer (Xie et al. 2021), trained on CelebAMask-HQ (Lee et al. 2020).

The weights are `jonathandinu/face-parsing`, whose card says CC0. They are NVIDIA's MiT-B5, fine-tuned; that network and
the data set are for non-commercial use. Nothing of them comes with the app.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..imaging import to_pil
from ..named_parts import Masks, Place, masks_of, part_at, with_sides
from .snapshots import Snapshot, load_with

WEIGHTS = Snapshot(
    "The network that knows the parts of photographed faces (SegFormer, 340 MB)",
    "jonathandinu/face-parsing",
    "373bfce5ebb8c57c5d389ea790e109b237e346a9",
    ("config.json", "preprocessor_config.json", "model.safetensors"),
    "Draw the region with a box or the brush.",
)

# Labels of the network, in the order of their numbers: the table `id2label` of config.json at that commit, which the
# repository's card repeats. (Its first version had them in another order: pull request 3 there.)
LABELS = (
    "background",
    "skin",
    "nose",
    "eye_g",  # glasses
    "l_eye",
    "r_eye",
    "l_brow",
    "r_brow",
    "l_ear",
    "r_ear",
    "mouth",  # what is between the lips
    "u_lip",
    "l_lip",
    "hair",
    "hat",
    "ear_r",  # earrings
    "neck_l",  # a necklace
    "neck",
    "cloth",
)
# What we call them: as the parts of drawn portraits where there are the same. Lips and what is between them are the
# mouth; left and right are told apart by where they are (`core.named_parts`), because data sets do not agree on whose.
NAMES = (
    "Background",
    "Skin",
    "Nose",
    "Glasses",
    "Eyes",
    "Eyes",
    "Brows",
    "Brows",
    "Ears",
    "Ears",
    "Mouth",
    "Mouth",
    "Mouth",
    "Hair",
    "Hat",
    "Earrings",
    "Necklace",
    "Neck",
    "Clothes",
)

# Names of tensors in the file, as the first versions of transformers wrote them and the Hub has them, and what newer
# versions call them.
RENAMED = (
    (r"encoder\.patch_embeddings\.(\d+)\.", r"stages.\1.patch_embeddings."),
    (r"encoder\.block\.(\d+)\.", r"stages.\1.blocks."),
    (r"encoder\.layer_norm\.(\d+)\.", r"stages.\1.layer_norm."),
    (r"attention\.self\.(query|key|value)\.", lambda found: f"attention.{found[1][0]}_proj."),
    (r"attention\.self\.sr\.", "attention.sequence_reduction.sequence_reduction."),
    (r"attention\.self\.layer_norm\.", "attention.sequence_reduction.layer_norm."),
    (r"attention\.output\.dense\.", "attention.o_proj."),
    (r"mlp\.dense([12])\.", r"mlp.fc\1."),
    (r"layer_norm_1\.", "layernorm_before."),
    (r"layer_norm_2\.", "layernorm_after."),
    (r"decode_head\.linear_c\.", "decode_head.linear_projections."),
)


@dataclass(frozen=True)
class FaceParsing:
    """A `Segmenter`. processor: prepares pictures; network: the frozen SegFormer."""

    processor: Any
    network: Any

    @torch.no_grad()
    def label_map(self, pixels: Tensor) -> np.ndarray:
        """The index in `LABELS` at each pixel (R, R) of a picture (1, 3, R, R) in [-1, 1]."""
        inputs = self.processor(images=to_pil(pixels)[0], return_tensors="pt")
        logits = self.network(pixel_values=inputs["pixel_values"]).logits
        size = tuple(pixels.shape[-2:])
        labels: np.ndarray = (
            F.interpolate(logits.float(), size, mode="bilinear", align_corners=False).argmax(1)[0].numpy()
        )
        return labels

    def found(self, pixels: Tensor) -> Masks:
        """The parts that a picture shows, by our names."""
        return masks_of(self.label_map(pixels), NAMES, pixels.shape[-1])

    def at(self, pixels: Tensor, place: Place) -> tuple[str, np.ndarray] | None:
        """The part at a place, one eye before both."""
        return part_at(with_sides(self.found(pixels)), place)


def load() -> FaceParsing:
    """The network, on the CPU: it is asked once for each picture. Raises ModelUnavailable."""
    return load_with(read, WEIGHTS)


def read(folder: Path) -> FaceParsing:
    """From a folder in the form of the Hub's. `from_pretrained` of a network is avoided: it replaces torch's
    initialisers for the whole process while it builds.

    Raises:
        ValueError: the labels or the weights are others than those that this file knows.
    """
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    config = SegformerConfig.from_pretrained(folder)
    if tuple(config.id2label[index] for index in range(len(config.id2label))) != LABELS:
        raise ValueError("these are not the labels of CelebAMask-HQ in the order that is known here")
    network = SegformerForSemanticSegmentation(config)
    weights = _as_named(load_file(folder / "model.safetensors"), network)
    network.load_state_dict(weights)
    processor = SegformerImageProcessor.from_pretrained(folder)
    return FaceParsing(processor, network.eval().requires_grad_(False))


def _as_named(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights under the names that the installed version of transformers has for them."""
    if weights.keys() == network.state_dict().keys():
        return weights
    made = {}
    for name, value in weights.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        made[name] = value
    return made
