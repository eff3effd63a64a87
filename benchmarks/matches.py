"""How well trained directions match their words, of texts that the model can follow and of nonsense: where the page
should say that a training has not found what the words mean.

    python -m benchmarks.matches [--samples 32] [--write]

Trainings as the page does them (one global direction), each from "face". The match is S_dir of a fresh picture, as the
page measures it, and then the mean over some others. Rows are kept as those of `benchmarks.inversion`.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from statistics import mean

import torch

from benchmarks.inversion import MEASURED, Row, Rows, heading
from benchmarks.report import HELP, reported
from core.models.loader import models
from core.progress import finish
from core.studio.edit import edit_frames
from core.studio.frames import EditOptions, Picture
from core.studio.sample import sample_picture
from core.studio.train import LOW_MATCH, SUGGESTED, start_training, train_preset, training_settings

SENSE = ("smiling face", "face with glasses", "old face", "face with a beard", "angry face", "face with red lips")
NONSENSE = (
    "xyzzy",
    "a dog on a skateboard",
    "invoice number 4711",
    "ein lachendes Gesicht",
    "qqq www eee",
    "quarterly report",
)
OTHERS = 4  # pictures


def trained(text: str, samples: int, steps: int) -> Row:
    """The match of a training, on the picture that the page shows and on others."""
    model = models.get("avatars")
    training = start_training(model, "face", text, training_settings("global", samples, steps, 0.8))
    preset = finish(train_preset(training))
    values = []
    for seed in range(OTHERS):
        made = finish(sample_picture(model, 100 + seed))
        picture = Picture(made.pixels, model.card.id)
        with torch.no_grad():
            [frame] = finish(edit_frames(model, picture, preset, [1.0], EditOptions()))
        values.append(frame.measures.s_dir or 0.0)
    return {"match": float(preset.measured["s_dir"]), "on others": mean(values)}


def main() -> None:
    samples, steps = SUGGESTED["global"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=samples)
    parser.add_argument("--texts", type=int, default=len(SENSE), help="of each kind")
    parser.add_argument("--run", type=Path, default=MEASURED, help="where rows are kept")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    rows = Rows(arguments.run / f"matches-{models.get('avatars').fingerprint[:8]}.jsonl")
    pairs = list(zip(SENSE, NONSENSE, strict=True))[: arguments.texts]
    found = {}
    for pair in pairs:
        for text in pair:
            found[text] = rows.get((text, arguments.samples, steps), partial(trained, text, arguments.samples, steps))
    with reported("benchmarks.matches", arguments.write):
        heading("text", ("match", "on others", "below the limit"))
        for chosen in zip(*pairs, strict=True):
            for text in chosen:
                row = found[text]
                low = "yes" if row["match"] < LOW_MATCH else "no"
                print(f"| {text} | {row['match']:.2f} | {row['on others']:.2f} | {low} |")
        print(f"\n{arguments.samples} pictures to learn from, {steps} steps. The limit is {LOW_MATCH:g}.")


if __name__ == "__main__":
    main()
