"""Whatever is at a point or in a box of a photograph, by Segment Anything (Kirillov et al. 2023; Apache-2.0)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..imaging import to_pil
from ..named_parts import MIN_SHARE, Masks, Place
from .snapshots import Snapshot, load_with

WEIGHTS = Snapshot(
    "The network that finds the outline of anything (Segment Anything, ViT-B, 375 MB)",
    "facebook/sam-vit-base",
    "70c1a07f894ebb5b307fd9eaaee97b9dfc16068f",
    ("config.json", "preprocessor_config.json", "model.safetensors"),
    "Draw the region with a box or the brush.",
)
WORD = "Object"


@dataclass(frozen=True)
class SegmentAnything:
    """A `Segmenter` without names. processor: prepares pictures and places; network: the frozen SAM."""

    processor: Any
    network: Any

    @torch.no_grad()
    def embedding(self, pixels: Tensor) -> Tensor:
        """What the network knows of a picture (1, 3, R, R) in [-1, 1]: most of its work, and the same for every place:
        (1, C, h, w), float32."""
        inputs = self.processor(images=to_pil(pixels)[0], return_tensors="pt")
        found: Tensor = self.network.get_image_embeddings(inputs["pixel_values"])
        return found

    def found(self, pixels: Tensor) -> Masks:
        """Nothing: it knows no names."""
        return {}

    @torch.no_grad()
    def at(self, pixels: Tensor, place: Place, embedding: Tensor | None = None) -> tuple[str, np.ndarray] | None:
        """What is at a point, or fills a box: of the three masks that it proposes for a point (a part, a larger part,
        the whole) the one that it trusts most; of a box, its one mask. embedding: of this picture, if it is known."""
        resolution = pixels.shape[-1]
        numbers = [side * resolution for side in place]
        asked: dict[str, Any] = {"input_points": [[numbers]]} if len(place) == 2 else {"input_boxes": [[numbers]]}
        inputs = self.processor(images=to_pil(pixels)[0], return_tensors="pt", **asked)
        prompt = {name: inputs[name].float() for name in asked}
        embedding = self.embedding(pixels) if embedding is None else embedding
        made = self.network(image_embeddings=embedding, multimask_output=len(place) == 2, **prompt)
        [masks] = self.processor.post_process_masks(
            made.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
        )  # (prompts, proposals, R, R)
        best = int(made.iou_scores[0, 0].argmax())
        mask: np.ndarray = masks[0, best].numpy().astype(bool)
        return (WORD, mask) if mask.mean() >= MIN_SHARE else None


def load() -> SegmentAnything:
    """The network, on the CPU. Raises ModelUnavailable."""
    return load_with(read, WEIGHTS)


def read(folder: Path) -> SegmentAnything:
    """From a folder in the form of the Hub's (see `face_parsing.read`).

    Raises:
        ValueError: these are not the weights of this network.
    """
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    network = SamModel(SamConfig.from_pretrained(folder))
    weights = load_file(folder / "model.safetensors")
    shared = "shared_image_embedding.positional_embedding"
    copied = "prompt_encoder.shared_embedding.positional_embedding"
    if shared in weights:
        weights.setdefault(copied, weights[shared])  # one tensor under two names, which such files hold once
    elif copied in weights:
        weights[shared] = weights[copied]
    missing, unexpected = network.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError("these are not the weights of Segment Anything")
    processor = SamProcessor(SamImageProcessor.from_pretrained(folder))
    return SegmentAnything(processor, network.eval().requires_grad_(False))
