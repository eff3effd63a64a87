"""Asyrp's analyses of the direction that is shown: random changes of equal size, the change at each noise level,
editing intervals of several lengths, and new pictures made with it. For visitors on the page, and for programs as
endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, fields
from typing import Any

import gradio as gr

from core.asyrp.consistency import AtTimestep
from core.errors import RequestError
from core.imaging import to_pil
from core.presets import Preset
from core.progress import Running
from core.studio import library
from core.studio.analyses import Space, against_timesteps, editing_ends, imagined, perturbed
from core.studio.edit import edit_frames
from core.studio.frames import EditOptions, Picture, in_units
from core.studio.known_models import bound_model, model_of
from core.studio.reference import COUNT
from core.studio.strips import Strip
from core.studio.turns import Turns
from core.studio.visit.session import Session
from tabs.charts import consistency_plot
from tabs.endpoints import (
    Answers,
    declare,
    given_picture,
    model_input,
    picture_input,
    placement_input,
    prompt_input,
    stream_progress,
)
from tabs.exports import csv_link, csv_text, first_svg
from tabs.results import pairs_view, progress_line
from tabs.shell import HEAVY, Shell, clearing, forget_after
from tabs.visit import chosen_preset

NEW = 4  # pictures that are imagined at a time
RANDOM = "A random change in place of the direction, and how visible it is"
CHOOSE = "Choose a direction and a picture first."


class Analyses:
    """The section, below the picture."""

    def __init__(self) -> None:
        with gr.Accordion("Analyses of this direction, as in the paper", open=False, elem_id="analyses"):
            with gr.Row():
                self.random = gr.Button("Random changes", size="sm", min_width=150, elem_id="perturb")
                self.levels = gr.Button("At each noise level", size="sm", min_width=150, elem_id="consistency")
                self.ends = gr.Button("Shorter and longer intervals", size="sm", min_width=170, elem_id="thresholds")
                self.new = gr.Button("New pictures with it", size="sm", min_width=150, elem_id="imagine-with")
            self.shown = gr.HTML(elem_id="analysis")

    def connect(self, shell: Shell, picker: Any, others: Sequence[Any]) -> None:
        """others: events after which the direction, the picture or the model is another one, to which nothing that is
        shown belongs."""
        given = [shell.session, picker]
        analyses = (
            (self.random, compare_random),
            (self.levels, at_levels),
            (self.ends, at_thresholds),
            (self.new, imagine_with),
        )
        for button, analysis in analyses:
            button.click(analysis, given, self.shown, **HEAVY)
        forget_after(others, shell, requests, self.shown)


def requests(session: Session) -> Turns:
    """For an analysis, of which the newest replaces all others."""
    return session.text_edit.analyses


def _chosen(session: Session, key: str | None) -> tuple[Preset, Picture, float]:
    """The direction that is shown, its picture and the strength that is looked at. Raises RequestError."""
    preset, strip = chosen_preset(session, key), session.text_edit.strip
    picture = session.picture
    if preset is None or picture is None:
        raise RequestError(CHOOSE)
    return preset, picture, strip.strength if isinstance(strip, Strip) and strip.source == key else preset.strength


@clearing(requests)
def compare_random(session: Session, key: str | None) -> Iterator[str]:
    """Figure 9: a random shift of the size of the direction's own, in h and in eps."""
    preset, picture, strength = _chosen(session, key)
    model, turn = session.model(), requests(session).begin()
    shown: list[Any] = []
    for space, name in (("h", "in h"), ("eps", "in the noise ε")):
        job = perturbed(model, picture, preset, strength, space)  # type: ignore[arg-type]
        for event in (running := Running(turn.follow(job))):
            yield _so_far(RANDOM, shown) + progress_line(event, name.capitalize())
        distance = running.result.measures.distance
        said = name if distance is None else f"{name}: {distance:.2f}"
        shown.append(((picture.pixels, running.result.pixels), said))
    yield _so_far(RANDOM, shown) + (
        '<p class="words" role="status">Both are as large a share of h, or of ε, as this direction is of h at the '
        f"strength that is shown ({in_units(strength, preset.strength)}). The paper finds that pictures survive such a "
        "change of h, and not one of the noise.</p>"
    )


def _so_far(title: str, shown: list[Any]) -> str:
    if not shown:
        return ""
    return pairs_view(title, [pair for pair, _ in shown], [name for _, name in shown])


@clearing(requests)
def at_levels(session: Session, key: str | None) -> Iterator[str]:
    """Appendix L.1: delta h against the timestep, and how much it is the same for all pictures and timesteps."""
    preset, _, _ = _chosen(session, key)
    job = against_timesteps(session.model(), preset)
    for event in (running := Running(requests(session).begin().follow(job))):
        yield progress_line(event, event.note.capitalize())
    yield consistency_plot(running.result) + csv_link(_rows(running.result), "consistency")


@clearing(requests)
def at_thresholds(session: Session, key: str | None) -> Iterator[str]:
    """Figures 18 and 22: the same edit down to several ends of the editing interval."""
    preset, picture, strength = _chosen(session, key)
    model, turn = model_of(picture), requests(session).begin()
    title = f"{preset.name} {in_units(strength, preset.strength)}, down to where P_t is so far from the picture"
    shown: list[Any] = []
    for level, t_edit in editing_ends(model.card):
        name = f"{level:g}, t_edit {t_edit}"
        job = edit_frames(model, picture, preset, [strength], EditOptions(t_edit=t_edit))
        for event in (running := Running(turn.follow(job))):
            yield _so_far(title, shown) + progress_line(event, name)
        [frame] = running.result
        kept = frame.measures.identity
        said = name if kept is None else f"{name}, identity {kept:.2f}"
        shown.append(((picture.pixels, frame.pixels), said))
    yield _so_far(title, shown) + (
        '<p class="words" role="status">A lower distance is a longer editing interval. The paper takes 0.33 for texts '
        "that are nearly alike: shorter intervals change too little, and longer ones change too much.</p>"
    )


@clearing(requests)
def imagine_with(session: Session, key: str | None) -> Iterator[str]:
    """Appendix M: new pictures from noise, with the direction and without."""
    preset, _, strength = _chosen(session, key)
    job = imagined(session.model(), preset, strength, 0, NEW)
    for event in (running := Running(requests(session).begin().follow(job))):
        yield progress_line(event, "Imagining")
    pairs = list(zip(*running.result, strict=True))
    title = f"New pictures from noise, without and with {preset.name} {in_units(strength, preset.strength)}"
    yield pairs_view(title, pairs, [f"seed {seed}" for seed in range(NEW)])


def _rows(found: list[AtTimestep]) -> list[list[Any]]:
    return [[field.name for field in fields(AtTimestep)], *(list(astuple(row)) for row in found)]


# ---------------------------------------------------------------------------------------------------------- endpoints


def build(shell: Shell) -> None:
    """Declare the endpoints; their parameters are components that are never shown."""
    with gr.Column(visible=False):
        direction = gr.Textbox("", label="Name of a direction, as /presets lists it, for example 'smiling'")
        strength = gr.Number(1.0, label="Strength, -100 to 100, in the direction's own unit")
        space = gr.Dropdown(["h", "eps"], value="h", label="Where the random change is: in h or in eps")
        seed = gr.Number(0, precision=0, label="Seed of the noise, 0 to 2147483647")
        count = gr.Number(COUNT, precision=0, label="Pictures that it is over, 2 to 100")
        few = gr.Number(1, precision=0, label="Pictures, 1 to 8; each has the next seed")
        picture, answer = gr.Image(label="Picture", format="png"), gr.JSON(label="What was found")
        gallery = gr.Gallery(label="Pictures without the direction, then those with it", format="png")
        image, placement, model = picture_input(), placement_input(), model_input(shell)
        asked = [image, direction, strength, space, seed, model, placement, prompt_input()]
        declare(shell, perturb, asked, [picture, answer])
        declare(shell, consistency, [direction, model, count], answer)
        declare(shell, sample_with, [direction, strength, seed, few, model], [gallery, answer])


def perturb(
    session: Session,
    image: str | None,
    direction: str,
    strength: float,
    space: Space,
    seed: int,
    model: str,
    placement: Any,
    prompt: str = "",
) -> Answers:
    """Change a picture at random, as much as a direction would (Asyrp, figure 9).

    At every timestep the shift is as large a share of what it shifts, h or eps, as the direction's own is of h.
    Returns the picture and a JSON of its measures.
    """
    source = given_picture(image, model, placement, prompt)
    loaded, preset = model_of(source), library.named_preset(model, direction or "", session.own)
    frame = yield from stream_progress(perturbed(loaded, source, preset, strength, space, seed))
    about = {"direction": preset.name, "model": model, "strength": strength, "space": space, "seed": seed}
    yield to_pil(frame.pixels[None])[0], about | frame.measures.as_json()


def consistency(session: Session, direction: str, model: str, count: int) -> Iterator[dict[str, Any]]:
    """How a direction's shift of h depends on timestep and picture (Asyrp, appendix L.1).

    Returns a JSON with a row for each timestep at which it edits: size ||delta h||, its share of ||h||, the mean cosine
    of single pictures' shifts and their mean (across), the cosine of that mean and the global direction (along), and
    its distance from that; the same as CSV, and the drawing as SVG.
    """
    preset = library.named_preset(model, direction or "", session.own)
    running = Running(against_timesteps(bound_model(model), preset, count))
    for event in running:
        if event.kept or event.note != "measuring":
            yield {"note": event.note, "step": event.step, "total": event.total}
    found = running.result
    about: dict[str, Any] = {"direction": preset.name, "model": model, "rows": [asdict(row) for row in found]}
    yield about | {"csv": csv_text(_rows(found)), "chart_svg": first_svg(consistency_plot(found))}


def sample_with(session: Session, direction: str, strength: float, seed: int, count: int, model: str) -> Answers:
    """Let the model imagine pictures from noise with a direction (Asyrp, appendix M).

    Returns the pictures without it and then those with it, of the same noise, and a JSON with what they were made of.
    """
    preset = library.named_preset(model, direction or "", session.own)
    plain, changed = yield from stream_progress(imagined(bound_model(model), preset, strength, seed, count))
    about = {"direction": preset.name, "model": model, "strength": strength, "seed": seed, "count": count}
    yield [*to_pil(plain), *to_pil(changed)], about
