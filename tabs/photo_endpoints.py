"""Photographs for programs: find the faces, and put any edited square back."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.errors import RequestError
from core.imaging import full_size, open_picture, to_pixels
from core.photo import yunet
from core.photo.faces import found_faces
from core.photo.placement import CELEBA_HQ
from core.photo.warp import Returning, cut, put_back
from core.studio.frames import Picture
from core.studio.keeping import Shown
from core.studio.known_models import known_card
from core.studio.photographs import requested_placement
from core.studio.second_opinion import opinion
from core.studio.visit.session import Session
from tabs.endpoints import Answers, declare, given_path, model_input, picture_input, placement_input
from tabs.exports import csv_text
from tabs.keeping import opinion_rows
from tabs.shell import Shell


def build(shell: Shell) -> None:
    """Declare the endpoints; their parameters are components that are never shown."""
    with gr.Column(visible=False):
        image, edited = picture_input(), picture_input("The edited square, as an endpoint returned it: a picture file")
        placement = placement_input()
        model = model_input(shell)
        label = "How: difference adds what changed, which keeps the photo's detail; crop puts in the whole square"
        how = gr.Dropdown(["difference", "crop"], value="difference", label=label)
        picture = gr.Image(label="Picture", format="png")
        about = gr.JSON(label="About it")
        declare(shell, find_faces, [image, model], about)
        declare(shell, ask_instruments, [image, edited, model], about)
        declare(shell, return_to_photo, [image, edited, placement, how, model], picture)


def find_faces(session: Session, image: str | None, model: str) -> Answers:
    """Find the faces of a photograph.

    Returns a JSON with the squares in which a model wants to see them, the largest face first, as other endpoints take
    them for a placement, and words on what was found.
    """
    photo = open_picture(given_path(image))
    framing = known_card(model).framing or CELEBA_HQ
    found = found_faces(photo, yunet.load(), framing)
    faces = [face.as_json() for face in found.placements]
    width, height = full_size(photo)
    yield {"width": width, "height": height, "faces": faces, "words": found.words}  # type: ignore[misc]


def ask_instruments(session: Session, image: str | None, edited: str | None, model: str) -> Answers:
    """What other instruments say of an edited square against the one it came from.

    Returns a JSON with the similarity of the faces by SFace (1 is the same), the attributes as the model's image-text
    model reads them before and after (0 to 1), the same as CSV, and words on what could not be asked.
    """
    if not edited:
        raise RequestError("There is no edited picture. Give one as `edited`.")
    side = known_card(model).resolution
    before, after = (to_pixels(path, side) for path in (given_path(image), edited))
    found = opinion(Shown(Picture(before, model), before, after[0], "given"))
    read = [{"name": one.name, "before": one.before, "after": one.after} for one in found.read_outs]
    rows = opinion_rows(found)
    yield {"identity": found.identity, "attributes": read, "words": list(found.words), "csv": csv_text(rows)}  # type: ignore[misc]


def return_to_photo(
    session: Session, image: str | None, edited: str | None, placement: Any, how: Returning, model: str
) -> Answers:
    """Put an edited square back into its photograph, at the photograph's resolution.

    Returns the photograph with the square that any of the endpoints made of it. The placement is the one that the edit
    was asked for with.
    """
    if how not in ("difference", "crop"):
        raise RequestError(f"There is no way {how!r} to put it back: use difference or crop.")
    photo = open_picture(given_path(image))
    if not edited:
        raise RequestError("There is no edited picture. Give one as `edited`.")
    square = open_picture(edited)
    if square.width != square.height:
        raise RequestError("The edited picture is not square. Give the one that an endpoint returned.")
    at = requested_placement(photo, placement, known_card(model).id)
    pixels = cut(square, requested_placement(square, "", model), square.width)
    yield put_back(photo, at, pixels, cut(photo, at, square.width), how)  # type: ignore[misc]
