"""A picture, edited with a preset, and measured."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import RequestError
from .choosing import model_of, one_preset
from .output import (
    FORMATS,
    PROMPT,
    WHICH_PRESET,
    Commands,
    add_force,
    command,
    follow,
    naming,
    print_note,
    require_writable,
    write_picture,
)


def add_to(commands: Commands) -> None:
    apply = command(commands, "apply", apply_preset, "Edit a picture with a preset.")
    apply.add_argument("preset", help=WHICH_PRESET)
    apply.add_argument("image", type=Path)
    apply.add_argument("out", type=Path, help=f"the edited picture: {', '.join(FORMATS)}")
    apply.add_argument(
        "--model", help="with its weights: a repository on the Hub or a folder; the one it was made for if left out"
    )
    apply.add_argument("--prompt", help=f"{PROMPT}; as its instruments read it if left out")
    apply.add_argument("--strength", type=float, help="as the preset suggests if left out")
    apply.add_argument(
        "--process",
        choices=["anchored", "paper", "published"],
        default="anchored",
        help="as in the paper, as its authors published it, or shorter",
    )
    apply.add_argument("--steps", type=int, help="of the process (7, or 40 as in the paper)")
    apply.add_argument("--form", choices=["trained", "per_timestep", "global"], default="trained")
    apply.add_argument("--injection", choices=["asymmetric", "symmetric"], help="as the preset suggests if left out")
    apply.add_argument("--t-edit", type=int, help="end of the editing interval")
    apply.add_argument("--t-boost", type=int, help="start of the boosting interval")
    apply.add_argument("--seed", type=int, default=0, help="of the boosting noise")
    apply.add_argument(
        "--placement",
        help="of the square in a photograph: face; X,Y,SIDE or X,Y,SIDE,ANGLE (its middle, in pixels and degrees); or "
        "six numbers, the two eyes and the mouth; the largest square if left out",
    )
    apply.add_argument(
        "--returned",
        choices=["square", "photo", "photo with the whole square"],
        default="square",
        help="what is written: the square, or the whole picture with what changed, or with the square as it is",
    )
    apply.add_argument("--json", action="store_true", help="print the measures for programs")
    add_force(apply)


def apply_preset(options: argparse.Namespace) -> None:
    from ..imaging import open_picture
    from ..studio import library
    from ..studio.edit import edit_frames
    from ..studio.frames import EditOptions
    from ..studio.known_models import described as with_its_prompt
    from ..studio.known_models import model_of as bound_to
    from ..studio.known_models import takes_prompt
    from ..studio.photographs import cut_out, given_back, requested_placement

    require_writable(options.out, options.force, tuple(FORMATS))
    model, (preset,) = model_of([one_preset(options.preset)], options.model, options.prompt)
    with naming(options.image):
        photo = open_picture(options.image)
        placement = requested_placement(photo, described(options.placement), preset.model)
        whole = options.placement is not None or options.returned != "square"
        picture = cut_out(photo, placement, preset.model) if whole else library.open_picture(photo, preset.model)
        if takes_prompt(preset.model):
            picture = with_its_prompt(picture, options.prompt or "")
            model = bound_to(picture)
    given = ("process", "steps", "form", "injection", "t_edit", "t_boost", "seed")
    settings = EditOptions(**{key: getattr(options, key) for key in given})
    strength = preset.strength if options.strength is None else options.strength
    (frame,) = follow(edit_frames(model, picture, preset, [strength], settings))
    write_picture(given_back(picture, frame.pixels, options.returned), options.out)
    if options.json:
        said = {"out": str(options.out), "strength": strength, "placement": placement.as_json()}
        print(json.dumps(said | frame.measures.as_json(), indent=2))
        return
    print(options.out)
    for reading in frame.measures.attributes[:5]:
        change = f"{reading.change:+.1f} standard deviations"
        print_note(f"{reading.name}: {reading.before:.2f} -> {reading.after:.2f} ({change})")


def described(placement: str | None) -> Any:
    """The square as `requested_placement` takes it. Raises RequestError."""
    if placement in (None, "face"):
        return placement
    try:
        values = [float(part) for part in str(placement).split(",")]
    except ValueError:
        values = []
    if len(values) in (3, 4):
        return dict(zip(("x", "y", "side", "angle"), values, strict=False))
    if len(values) == 6:
        return {"left_eye": values[:2], "right_eye": values[2:4], "mouth": values[4:]}
    raise RequestError(
        f"The placement {str(placement)[:60]!r} is not understood. Use face, X,Y,SIDE,ANGLE, or six numbers: the two "
        "eyes and the mouth."
    )
