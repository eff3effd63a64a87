"""Segmentation consistency (Asyrp, appendix K.2, after DiffusionCLIP): how much of a picture keeps its part.

An edit of texture or colour alone keeps all of it, one that opens a mouth does not and should not: the paper warns that
more is not better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SegmentationConsistency:
    """pixels: the share of pixels that keep their label. parts: the mean over the parts, which one of the two pictures
    shows, of the intersection over the union; small parts count as much as large ones."""

    pixels: float
    parts: float


def segmentation_consistency(before: np.ndarray, after: np.ndarray) -> SegmentationConsistency:
    """Of two maps of labels (H, W), whole numbers, of a picture before and after an edit.

    Raises:
        ValueError: they differ in shape.
    """
    if before.shape != after.shape:
        raise ValueError(f"maps of {before.shape} and {after.shape} cannot be compared")
    labels = np.union1d(before, after)
    masks = [(before == label, after == label) for label in labels]
    shares = [(a & b).sum() / (a | b).sum() for a, b in masks]
    return SegmentationConsistency(float((before == after).mean()), float(np.mean(shares)))
