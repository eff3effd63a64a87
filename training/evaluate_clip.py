"""Measure the image-text model of the avatars on held-out portraits, and write its model card.

    python -m training.evaluate_clip

Zero-shot AUC: portraits are ranked by the cosine with a target text minus that with the source text; the renderer's
parameters say which ones have the attribute. Everything else counts as not having it, borderline cases too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip import ImageText, load_embedded
from training import dataset, variants
from training.portraits import Portrait, from_vector
from training.run import auc
from training.variants import EDIT_NAMES, EDITS

OUT = Path(__file__).parents[1] / "presets" / "models" / "avatars" / "clip"

Holds = Callable[[Portrait], bool]
ZERO_SHOT: dict[str, tuple[str, Holds]] = {
    "smiling face": ("face", lambda p: p.smile > 0.4),
    "sad face": ("face", lambda p: p.smile < -0.4 and p.brow_angle < 0.3),
    "angry face": ("face", lambda p: p.brow_angle > 0.45 and p.smile < 0.2),
    "surprised face": ("face", lambda p: p.mouth_open > 0.35 and p.brow_raise > 0.35 and p.eye_open > 0.5),
    "face with closed eyes": ("face", lambda p: p.eye_open < 0.12),
    "face with eyes looking left": ("face", lambda p: p.gaze < -0.45 and p.eye_open > 0.3),
    "face with eyes looking right": ("face", lambda p: p.gaze > 0.45 and p.eye_open > 0.3),
    "face with red lips": ("face", lambda p: p.lip_red > 0.6),
    "face with glasses": ("face", lambda p: p.glasses > 0.5),
    "face with a beard": ("face", lambda p: p.beard > 0.5),
    "person with curly hair": ("person", lambda p: p.hair_style == 2),
    "person with gray hair": ("person", lambda p: p.gray > 0.55 and p.hair_style != 3),
    "tanned face": ("face", lambda p: 0.42 < p.skin < 0.72),
    "old face": ("face", lambda p: p.age > 0.5),
    "blushing face": ("face", lambda p: p.blush > 0.4),
    "face with an open mouth": ("face", lambda p: p.mouth_open > 0.4),
    "bald person": ("person", lambda p: p.hair_style == 3),
    "face with thick eyebrows": ("face", lambda p: p.brow_thick > 0.75),
    "person with long hair": ("person", lambda p: p.hair_style == 1),
    "person with blond hair": (
        "person",
        lambda p: 3.5 < p.hair_colour < 4.4 and p.gray == 0 and p.hair_style != 3,
    ),
    "pale face": ("face", lambda p: p.skin < 0.2),
    # The same attributes in other words.
    "happy person": ("person", lambda p: p.smile > 0.4),
    "person wearing spectacles": ("person", lambda p: p.glasses > 0.5),
    "woman with lipstick": ("woman", lambda p: p.lip_red > 0.6),
    "sleeping person": ("person", lambda p: p.eye_open < 0.12),
    "a photo of a man with grey hair": ("a photo of a man", lambda p: p.gray > 0.55 and p.hair_style != 3),
}


def _blurred(pixels: Tensor) -> Tensor:
    low = F.interpolate(pixels, scale_factor=1 / 3, mode="bilinear", antialias=True)
    return F.interpolate(low, size=pixels.shape[-1], mode="bicubic")


CONDITIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "clean": lambda x: x,
    "noise 0.2": lambda x: x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
    "shift 3 px": lambda x: torch.roll(x, (3, -3), (2, 3)),
    "blur 3x": _blurred,
}


@torch.no_grad()
def _embed(model: ImageText, images: np.ndarray, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat(
        [model.embed_images(change(dataset.to_pixels(part))) for part in np.array_split(images, -(-len(images) // 100))]
    )


def measure(model: ImageText, count: int = 2_000) -> dict[str, dict[str, dict[str, float]]]:
    """{"auc": {text: {condition: AUC}}, "direction": {edit: {"cosine", "chosen"}}} on `count` held-out portraits.

    "cosine": mean of cos(change of image embedding, change of text embedding) over held-out pairs of the same person;
    "chosen": the share of pairs whose change is closest to their own edit's text direction among all edits.
    """
    images, parameters = dataset.held_out(count)
    portraits = [from_vector(row) for row in parameters]
    labels = {text: np.array([holds(p) for p in portraits]) for text, (_, holds) in ZERO_SHOT.items()}
    result: dict[str, dict[str, float]] = {text: {} for text in ZERO_SHOT}
    for condition, change in CONDITIONS.items():
        embedded = _embed(model, images, change)
        for text, (source, _) in ZERO_SHOT.items():
            target_vector, source_vector = model.embed_texts([text, source])
            result[text][condition] = auc((embedded @ (target_vector - source_vector)).numpy(), labels[text])
    pairs = max(1, count // 2)
    edited, _, edits = variants.load("edited", pairs, dataset.HELD_OUT)
    change = F.normalize(_embed(model, edited, lambda x: x) - _embed(model, images[:pairs], lambda x: x), dim=-1)
    targets = model.embed_texts([EDITS[name].texts[0].format("face") for name in EDIT_NAMES])
    cosine = change @ F.normalize(targets - model.embed_texts(["face"]), dim=-1).T
    direction = {}
    for i, name in enumerate(EDIT_NAMES):
        mine = cosine[torch.from_numpy(edits == i)]
        if len(mine):
            chosen = float((mine.argmax(1) == i).float().mean())
            direction[name] = {"cosine": float(mine[:, i].mean()), "chosen": chosen}
    return {"auc": result, "direction": direction}


def report(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """The figures as two Markdown tables."""
    lines = ["| text | " + " | ".join(CONDITIONS) + " |", "|---|" + "---|" * len(CONDITIONS)]
    for text, row in figures["auc"].items():
        lines.append(f"| {text} | " + " | ".join(f"{row[c]:.3f}" for c in CONDITIONS) + " |")
    lines += ["", "| edit | mean cosine | closest of all edits |", "|---|---|---|"]
    for name, row in figures["direction"].items():
        lines.append(f"| {name} | {row['cosine']:.2f} | {row['chosen']:.2f} |")
    return "\n".join(lines)


CARD = """# The image-text model of the avatars

A small CLIP for procedural portraits, in open_clip's form: CLIP's ResNet with attention pooling (one block per stage,
16 channels wide) that looks at 128 x 128 pixels, a text transformer 96 wide with 3 layers, {width}-dimensional
embeddings, {parameters:.1f} M parameters in half precision. It plays CLIP's part for the embedded model `avatars`, so
that text-driven editing works offline. It knows the words of `training/phrases.py` and nothing of photographs.

The tokenizer is CLIP's with a shortened merge list (`merges.txt.gz`; {vocabulary} tokens): the captions' words are
split as by CLIP, other text into smaller pieces, down to bytes, so no text fails. open_clip opens the folder with
`open_clip.create_model("local-dir:<folder>")` and
`open_clip.get_tokenizer("local-dir:<folder>", bpe_path="<folder>/merges.txt.gz")`.

## How it was made
Data: {pairs} portraits of the renderer `training/portraits.py` (seeds from 0) and as many edited partners
(`training/variants.py`), captions drawn anew at each step. Nothing else.

    {command}

{steps} steps of {batch} portraits in {minutes:.0f} minutes on {where}. Losses: contrast with all true captions as
targets, regression of the renderer's parameters, and the directional cosine of edits and their texts; see the script.

## What it measures
On {held_out} held-out portraits (seeds from 1,000,000). Zero-shot AUC of "text" against the text without the
attribute; then, for {half} held-out pairs of one person before and after one edit, the mean cosine between the change
of the image embedding and that of the text embedding, and how often it is the closest of all {edits} edits.

{table}

To measure again: `python -m training.evaluate_clip`.

## Limits
Trained on drawings with independently drawn attributes; on photographs its answers mean nothing. Words outside its
vocabulary are passed over. Licence: that of the repository.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=OUT)
    parser.add_argument("--held-out", type=int, default=2_000)
    arguments = parser.parse_args()
    print(report(measure(load_embedded(arguments.folder), arguments.held_out)))


if __name__ == "__main__":
    main()
