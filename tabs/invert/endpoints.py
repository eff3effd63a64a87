"""Invert for programs: put a picture into a text-to-image model, make it again, edit it, study how robust that is."""

from __future__ import annotations

import time
from typing import Any, Literal

import gradio as gr
import numpy as np
import torch
from PIL import Image

from core.errors import RequestError
from core.imaging import open_picture, to_pil
from core.inversion import saved
from core.inversion.editing import Attention, PromptEditSettings
from core.inversion.inversion import Inversion
from core.inversion.methods import METHODS
from core.inversion.solution import DEFAULTS, InversionSettings
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.photo.warp import cut
from core.progress import finish
from core.regions import parse_regions, union, with_mask
from core.studio.domain import domain_in
from core.studio.frames import Picture
from core.studio.invert import targets
from core.studio.invert.again import make_again
from core.studio.invert.automatic import choose
from core.studio.invert.robustness_study import fill_study, variants
from core.studio.invert.run_methods import run_methods
from core.studio.invert.suggesting import suggestion
from core.studio.invert.trial import Trial, begin_trial, check_methods, read_file
from core.studio.photographs import given_back, requested_placement, require_returned
from core.studio.regions import part_named
from core.studio.visit.session import Session
from core.text_to_image import TextToImage, load_text_to_image, text_to_image_card
from tabs.endpoints import (
    Answers,
    declare,
    given_mask,
    given_path,
    mask_input,
    picture_input,
    placement_input,
    returned_input,
    stream_progress,
)
from tabs.exports import csv_text, first_svg
from tabs.invert.reconstructions import front, table_json, table_rows
from tabs.invert.robustness import grid_rows
from tabs.shell import Shell

FIRST = "avatars-t2i"
DEFAULT_MODEL = "avatars"  # in whose framing a face lies
MAX_APART = 0.05  # mean difference of two readings of the same square, of [-1, 1]
REGIONS = (
    'Regions outside which the picture stays, in fractions of the side: [{"label": "mouth", "boxes": [[left, top, '
    'right, bottom]]}], or a part of it, [{"part": "mouth"}]; none for the whole picture'
)
METHOD_WORDS = ", ".join(f"'{name}'" for name in METHODS)


def build(shell: Shell) -> None:
    """Declare the endpoints; their parameters are components that are never shown."""
    card = TEXT_TO_IMAGE[FIRST]
    with gr.Column(visible=False):
        image = picture_input()
        prompt = gr.Textbox("", label="Source prompt: what the picture shows; empty for a suggested one")
        method = gr.Dropdown(
            list(METHODS), value="anchored", label=f"Method of inversion: {METHOD_WORDS}; 'anchored' is exact"
        )
        methods = gr.Textbox("anchored, DDIM", label=f"Methods, separated by commas, of: {METHOD_WORDS}")
        steps = gr.Number(card.steps, precision=0, label="Steps of inversion and of editing, 4 to 200")
        guidance = gr.Number(
            card.working_guidance, label="Working guidance scale, at which the picture is to be edited, 1 to 30"
        )
        iterations = gr.Number(
            DEFAULTS.iterations,
            precision=0,
            label="Iterations of optimisation per step, 0 to 500, of methods that optimise",
        )
        starts = gr.Number(DEFAULTS.starts, precision=0, label="Starts of latent-TOP, 1 to 200; others need none")
        budget = gr.Number(0, label="Time limit in seconds, up to 3600, 0 for none; the best so far is the result")
        seed = gr.Number(0, precision=0, label="Seed of whatever is random, 0 to 2147483647")
        model = gr.Dropdown(list(TEXT_TO_IMAGE), value=FIRST, label="Text-to-image model: its id")
        inversion = gr.File(label="Inverted picture: a file that /invert gave", file_types=[saved.SUFFIX])
        prompts = gr.Textbox("", label="Target prompts, one per line, up to 6", lines=2)
        strength = gr.Number(1.0, label="Strength, 0 to 1.5: 0 is the source, 1 the target")
        attention = gr.Dropdown(
            ["auto", "swap", "refine", "none"],
            value="auto",
            label="Prompt-to-prompt: swap replaced words, refine by new ones, none, or auto: what suits the change",
        )
        weights = gr.Textbox("", label="Weights of words of the target, -5 to 5, for example 'smiling 2, glasses 0.5'")
        regions = gr.JSON([], label=REGIONS)
        cross = gr.Number(card.cross_steps, label="Share of the steps in which cross-attention is kept, 0 to 1")
        itself = gr.Number(0.4, label="Share of the steps in which self-attention is kept, 0 to 1")
        target_guidance = gr.Number(0, label="Guidance of the target, 1 to 30; 0 for the inversion's own")
        others = gr.Textbox("", label="Changed source prompts, one per line, up to 6", lines=2)
        sigmas = gr.Textbox(
            "5, 10, 20", label="Standard deviations of the noise, 0 to 100 of 255, up to 6, separated by commas"
        )
        picture = gr.Image(label="Picture", format="png")
        pictures = gr.Gallery(label="Pictures", format="png")
        file = gr.File(label="Inverted picture")
        about = gr.JSON(label="Measures")

        shared = [steps, guidance, iterations, starts, seed]
        placement, back = placement_input(), returned_input()
        photo = gr.Image(
            type="filepath", image_mode=None, label="Photo that it is from, where it is to go back into it"
        )
        asked = [image, prompt, method, *shared, budget, model, placement]
        declare(shell, invert, asked, [file, picture, about])
        compared = [image, prompt, methods, *shared, budget, model, placement_input()]
        declare(shell, compare_methods, compared, [pictures, about])
        declare(shell, reconstruct, [inversion], [picture, about])
        editing_inputs = [attention, target_guidance, weights, regions, cross, itself]
        asked = [inversion, prompts, strength, *editing_inputs, photo, placement, back, mask_input()]
        declare(shell, edit_inverted, asked, [pictures, about])
        asked = [image, prompt, others, sigmas, methods, *shared, model, placement]
        declare(shell, robustness, asked, [pictures, about])


def invert(
    session: Session,
    image: str | None,
    prompt: str,
    method: str,
    steps: int,
    guidance: float,
    iterations: int,
    starts: int,
    seed: int,
    budget: float,
    model: str,
    placement: Any,
) -> Answers:
    """Put a picture and a prompt into a text-to-image model.

    Returns a file for `/reconstruct` and `/edit_inverted`, which the page opens too, the reconstruction, and a JSON of
    measures: PSNR, SSIM and perceptual distance to the picture and to what the autoencoder makes of it, seconds,
    network evaluations, peak memory in bytes, the words of the prompt that the model does not read, and whether it
    knows pictures like this one. Until then the JSON tells how far it is; cancelling ends the work.
    """
    settings = InversionSettings(
        steps, guidance, seed=seed, budget=budget or None, iterations=iterations, starts=starts
    )
    trial, loaded, [method] = requested_trial(image, prompt, [method], settings, model, placement)
    yield from stream_progress(run_methods(trial, loaded, [method]), beside=2)
    if method in trial.failed:
        raise RequestError(trial.failed[method])
    result = trial.results[method]
    inversion = result.inversion
    facts = {
        "model": model,
        "method": method,
        "prompt": trial.prompt,
        "words_cut": trial.words_cut,
        "note": result.note,
        "in_domain": finish(domain_in(trial.card, trial.pixels)).known,
    }
    path = session.file(f"inverted{saved.SUFFIX}", saved.to_bytes(inversion))
    measures = rounded(inversion.measures)
    yield str(path), to_pil(inversion.reconstruction)[0], facts | measures | {"peak_memory": result.peak}


def compare_methods(
    session: Session,
    image: str | None,
    prompt: str,
    methods: str,
    steps: int,
    guidance: float,
    iterations: int,
    starts: int,
    seed: int,
    budget: float,
    model: str,
    placement: Any,
) -> Answers:
    """Put a picture and a prompt into a text-to-image model by several methods.

    Returns a reconstruction per method, and a JSON: the measures and costs of each, the same as CSV, and time against
    accuracy as SVG. Until then the JSON tells how far it is; cancelling ends the work.
    """
    settings = InversionSettings(
        steps, guidance, seed=seed, budget=budget or None, iterations=iterations, starts=starts
    )
    names = named_methods(methods or "")
    trial, loaded, chosen = requested_trial(image, prompt, names, settings, model, placement)
    yield from stream_progress(run_methods(trial, loaded, chosen))
    results = [(name, trial.results[name].inversion) for name in chosen if name in trial.results]
    shown = [(to_pil(inversion.reconstruction)[0], name) for name, inversion in results]
    about = table_json(trial) | {"failed": trial.failed, "csv": csv_text(table_rows(trial))}
    yield shown, about | {"front_svg": first_svg(front(trial))}


def reconstruct(session: Session, inversion: str | None) -> Answers:
    """Make an inverted picture again, from its noise.

    Returns the picture and a JSON of measures against the one that was inverted, with the method, the prompt and the
    seconds taken. Until then the JSON tells how far it is.
    """
    started = time.monotonic()
    opened, trial = given_inversion(inversion)
    model = load_text_to_image(trial.card)
    pixels, measures = yield from stream_progress(make_again(opened, model, trial.card))
    about = {"model": opened.model, "method": opened.method, "prompt": opened.prompt}
    yield to_pil(pixels)[0], about | rounded(measures) | {"seconds": round(time.monotonic() - started, 2)}


def edit_inverted(
    session: Session,
    inversion: str | None,
    prompts: str,
    strength: float,
    attention: Attention | Literal["auto"],
    guidance: float,
    weights: str,
    regions: Any,
    cross_attention: float,
    self_attention: float,
    image: str | None = None,
    placement: Any = None,
    returned: str = "square",
    mask: str | None = None,
) -> Answers:
    """Turn an inverted picture into what target prompts say, all of them in one batch.

    A file has the square and not the photo: give it as `image`, with the placement that it was inverted with, where
    the whole photo is to come back.

    Returns a picture per prompt, and a JSON: for each prompt the perceptual distance, the identity and the attributes
    before and after, and the words that the model does not read; the seconds taken. Until then the JSON tells how far
    it is.
    """
    started = time.monotonic()
    opened, trial = given_inversion(inversion)
    card = trial.card
    source = given_source(opened, image, placement, returned)
    drawn = parse_regions(regions, card.resolution, part_named(card.id, opened.pixels)) if regions else []
    region = union(with_mask(drawn, given_mask(mask, card.resolution), "mask", card.resolution))
    lines, by_word = targets.read_prompts(prompts or ""), targets.read_weights(weights or "")
    own: dict[str, Any] = {"guidance": guidance or None, "cross_steps": cross_attention}
    own |= {"self_steps": self_attention, "region": region}
    model = load_text_to_image(card)
    if attention == "auto":
        chosen = choose(model, card, opened, lines, bool(by_word))
        edits = targets.begin_edits(card, opened, lines, chosen.settings(**own), by_word)
        edits.note, edits.worded = chosen.note, dict(chosen.worded)
    else:
        settings = PromptEditSettings(attention=attention, **own)
        edits = targets.begin_edits(card, opened, lines, settings, by_word)
    frames = yield from stream_progress(targets.at_strength(edits, model, strength))
    rows = [
        {"prompt": prompt, "words_cut": model.words_cut(prompt)} | frame.measures.as_json()
        for prompt, frame in zip(lines, frames, strict=True)
    ]
    shown = [(given_back(source, frame.pixels, returned), prompt) for prompt, frame in zip(lines, frames, strict=True)]
    about = {"strength": strength, "source": opened.prompt, "edits": rows, "note": edits.note}
    about |= {"attention": edits.settings.attention, "told": edits.worded}
    yield shown, about | {"seconds": round(time.monotonic() - started, 2)}


def robustness(
    session: Session,
    image: str | None,
    prompt: str,
    other_prompts: str,
    sigmas: str,
    methods: str,
    steps: int,
    guidance: float,
    iterations: int,
    starts: int,
    seed: int,
    model: str,
    placement: Any,
) -> Answers:
    """Invert the same picture with noise and with other source prompts, by several methods.

    Returns a picture per method and variant (what went in, its reconstruction, and the source prompt decoded at the
    working guidance), and a JSON with their measures. Until then the JSON tells how far it is; cancelling ends it.
    """
    started = time.monotonic()
    settings = InversionSettings(steps, guidance, seed=seed, iterations=iterations, starts=starts)
    names = named_methods(methods or "")
    trial, loaded, chosen = requested_trial(image, prompt, names, settings, model, placement)
    rows = variants(trial, numbers(sigmas or ""), (other_prompts or "").splitlines())
    yield from stream_progress(fill_study(trial, loaded, rows, chosen))
    cells = [trial.cells[sigma, text, name] for sigma, text in rows for name in chosen]
    shown = [
        (
            side_by_side([cell.noisy, cell.reconstruction, cell.decoded]),
            f"{cell.method}, sigma {cell.sigma:g}, {cell.prompt}",
        )
        for cell in cells
    ]
    about = [
        {"method": cell.method, "sigma": cell.sigma, "prompt": cell.prompt} | rounded(cell.measures) for cell in cells
    ]
    table = csv_text(grid_rows(trial))
    yield shown, {"model": model, "cells": about, "csv": table, "seconds": round(time.monotonic() - started, 2)}


def requested_trial(
    image: str | None,
    prompt: str,
    methods: list[str],
    settings: InversionSettings,
    model: str,
    placement: Any = None,
) -> tuple[Trial, TextToImage, list[str]]:
    """A trial of a program's picture, its model and the methods. Raises VisitorError."""
    chosen, card = check_methods(methods), text_to_image_card(model)
    photo = open_picture(given_path(image))
    pixels = cut(photo, requested_placement(photo, placement, DEFAULT_MODEL), card.resolution)
    loaded = load_text_to_image(card)
    prompt = prompt or suggestion(card, pixels)
    return begin_trial(loaded, pixels, prompt, settings), loaded, chosen


def given_inversion(path: str | None) -> tuple[Inversion, Trial]:
    """An inversion of a file, and a trial that holds it. Raises VisitorError."""
    if not path:
        raise RequestError("There is no inverted picture. Give a file as `inversion`.")
    trial = read_file(path)
    [result] = trial.results.values()
    return result.inversion, trial


def given_source(inversion: Inversion, image: str | None, placement: Any, wanted: str) -> Picture:
    """The inverted picture, with the photograph that it goes back into where that is wanted. Raises VisitorError."""
    require_returned(wanted)
    if wanted == "square":
        return Picture(inversion.pixels, DEFAULT_MODEL)
    photo = open_picture(given_path(image))
    at = requested_placement(photo, placement, DEFAULT_MODEL)
    seen = cut(photo, at, inversion.pixels.shape[-1])
    if (seen - inversion.pixels).abs().mean() > MAX_APART:
        raise RequestError(
            "This square of the photo is not the picture that was inverted. Give the photo and the placement that "
            "/invert was asked with."
        )
    return Picture(inversion.pixels, DEFAULT_MODEL, photo=torch.from_numpy(np.array(photo)), placement=at)


def rounded(measures: dict[str, float]) -> dict[str, float]:
    """Measures with names for programs: psnr_to_bound."""
    return {name.replace(" ", "_"): round(value, 5) for name, value in measures.items()}


def named_methods(text: str) -> list[str]:
    """Names that are separated by commas, of which "DDIM, guided" has one itself."""
    names: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if names and f"{names[-1]}, {part}" in METHODS:
            names[-1] += f", {part}"
        else:
            names.append(part)
    return names


def numbers(text: str) -> list[float]:
    """Numbers that are separated by commas. Raises RequestError."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise RequestError(f"“{text[:60]}” is not a list of numbers. Write for example: 5, 10, 20") from error


def side_by_side(pictures: list[Any]) -> Image.Image:
    shown = [to_pil(pixels)[0] for pixels in pictures]
    side = shown[0].width
    whole = Image.new("RGB", (len(shown) * side, side))
    for i, picture in enumerate(shown):
        whole.paste(picture, (i * side, 0))
    return whole
