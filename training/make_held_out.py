"""Held-out portraits on one sheet, for `hspace figures`, which has to do without the renderer; and prompts of them.

python -m training.make_held_out
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from benchmarks.portrait_edits import BESIDES, SWAPS, holds, worded
from training.portraits import HELD_OUT, render, sample

FOLDER = Path(__file__).resolve().parents[1] / "presets" / "held_out"
COUNT, ACROSS, TILE = 40, 8, 128


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    sheet = Image.new("RGB", (ACROSS * TILE, -(-COUNT // ACROSS) * TILE))
    true, prompts = holds(), []
    for number in range(COUNT):
        portrait = sample(HELD_OUT + number)
        sheet.paste(render(portrait, TILE), (number % ACROSS * TILE, number // ACROSS * TILE))
        possible = [swap for swap in SWAPS if true[swap.source](portrait)]
        if possible:
            swap = possible[number % len(possible)]
            besides = [phrase for phrase in BESIDES if true[phrase](portrait)][:1]
            prompt, target = (worded(swap, word, besides) for word in (swap.source, swap.target))
            prompts.append(
                {"number": number, "prompt": prompt, "target": target, "attribute": swap.attribute, "sign": swap.sign}
            )
    sheet.save(FOLDER / "avatars.webp", quality=92, method=6)
    about = {"count": COUNT, "across": ACROSS, "first_seed": HELD_OUT, "prompts": prompts}
    (FOLDER / "avatars.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
