"""Held-out portraits in PIE-Bench's layout, for `hspace bench-inversion --model avatars-t2i`, which needs no Hub.

    python -m benchmarks.portraits_as_pie_bench FOLDER --portraits 20

They are those of `benchmarks.portrait_edits`: one word of the prompt changes, and the mask is the part of the face that
is concerned, in runs over the portrait's own pixels, 128x128.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.portrait_edits import Case, Swap, cases
from core.imaging import to_pil
from core.pie_bench.data import MAPPING, PICTURES, runs_of

KIND = "4"  # PIE-Bench's number of a change of an attribute's content
FOLDER = "4_change_attribute_content"


def write(folder: Path, chosen: Sequence[Case]) -> None:
    """Pictures and mapping file of some cases."""
    mapping = {}
    for case in chosen:
        path = f"{FOLDER}/{case.number:012d}.png"
        place = folder / PICTURES / path
        place.parent.mkdir(parents=True, exist_ok=True)
        to_pil(case.pixels)[0].save(place)
        mapping[f"{case.number:012d}"] = {
            "image_path": path,
            "original_prompt": bracketed(case.prompt, case.swap.source),
            "editing_prompt": bracketed(case.target, case.swap.target),
            "editing_instruction": instruction(case.swap),
            "editing_type_id": KIND,
            "blended_word": "face face",
            "mask": runs_of(case.mask),
        }
    (folder / MAPPING).write_text(json.dumps(mapping, indent=1))


def bracketed(prompt: str, word: str) -> str:
    """As PIE-Bench marks what changes."""
    return prompt.replace(word, f"[{word}]", 1)


def instruction(swap: Swap) -> str:
    return f"Change {swap.source} to {swap.target}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--portraits", type=int, default=20)
    arguments = parser.parse_args()
    write(arguments.folder, cases(arguments.portraits))
    print(arguments.folder / MAPPING)


if __name__ == "__main__":
    main()
