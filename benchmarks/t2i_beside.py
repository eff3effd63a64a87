"""Directions of h-space beside changed words, for `python -m benchmarks.t2i_hspace beside`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import mean

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.inversion import Bench, Row, heading
from benchmarks.portrait_edits import SWAPS, Case, cases
from benchmarks.t2i_study import MODEL, RECOGNISED, Study, between, crossing
from core import metrics
from core.asyrp.fitted_shift import fitted_shift
from core.directions import Direction
from core.inversion.editing import PromptEditSettings, Target, edit
from core.inversion.solution import DEFAULTS
from core.progress import finish
from core.prompted import with_prompt
from core.text_to_image import text_to_image_card

WORD_STEPS = 6
POOL, OTHERS = 260, 34  # held-out portraits, and the first of them, that directions were found and tried on
FITTED = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # strengths, as far as the slider goes
SHARES = (0.5, 0.75, 1.0)  # of the change that a word makes, at which both are compared


def of_change(case: Case) -> tuple[str, int]:
    return case.swap.attribute, case.swap.sign


def words_row(study: Study, bench: Bench, case: Case) -> Row:
    """Prompt-to-prompt on the anchored inversion: one word changed, at strengths up to the word itself."""
    inversion = bench.inverted(case, "anchored")
    strengths = [n / WORD_STEPS for n in range(1, WORD_STEPS + 1)]
    made = finish(edit(bench.model, inversion, [Target(case.target, s) for s in strengths], bench.edits)).cpu()
    back = (made + case.pixels - bench.model.decode(bench.model.encode(case.pixels)).cpu()).clamp(-1, 1)
    row = seen(study, case, made)
    row |= {f"given back {n}": psnr_outside(case, one) for n, one in enumerate(back.split(1), start=1)}
    return row | {"monotone": spearmanr([0.0, *strengths], [0.0, *column(row, "own")])[0]}


def seen(study: Study, case: Case, made: Tensor) -> Row:
    """own, identity and PSNR outside of pictures of growing strength, by their numbers from 1."""
    k = study.attributes.index(case.swap.attribute)
    own = case.swap.sign * (study.readings(made) - study.readings(case.pixels))[:, k]
    row: Row = {}
    for n, (change, same, picture) in enumerate(
        zip(own, study.identity(case.pixels, made), made.split(1), strict=True), start=1
    ):
        row |= {f"own {n}": change, f"identity {n}": same, f"psnr {n}": psnr_outside(case, picture)}
    return row


def psnr_outside(case: Case, picture: Tensor) -> float:
    return metrics.psnr(picture, case.pixels, torch.from_numpy(~case.mask)[None, None]).item()


def column(row: Row, name: str) -> list[float]:
    """The values of one name, in order."""
    count = sum(key.startswith("own ") for key in row)
    return [row[f"{name} {n}"] for n in range(1, count + 1)]


def at_change(row: Row, change: float, names: Sequence[str] = ("identity", "psnr")) -> dict[str, float]:
    """What was measured at the first strength that makes a change, between the two next to it; at least the weakest."""
    place_of = crossing(column(row, "own"), change)
    if place_of is None:
        raise ValueError(f"{change} is not reached")
    values = {name: np.array(column(row, name)) for name in names}
    return {name: between(v, v[0], place_of) for name, v in values.items()}


def direction_row(study: Study, case: Case, direction: Direction, strengths: Sequence[float]) -> Row:
    """A direction at growing strengths."""
    row = seen(study, case, study.edited(case.pixels, direction, strengths))
    return row | {"monotone": spearmanr([0.0, *strengths], [0.0, *column(row, "own")])[0]}


def fitted_row(study: Study, case: Case) -> Row:
    """The shift of h that does to the portrait what the change of its caption does."""
    source, target = (with_prompt(study.text_model, prompt) for prompt in (case.prompt, case.target))
    guidance = text_to_image_card(MODEL).working_guidance  # as the words have it
    made = finish(fitted_shift(source, target, picture=case.pixels, bound=study.model, guidance=guidance))
    return direction_row(study, case, made.direction, FITTED) | {"explained": made.explained}


def beside(study: Study, each: int) -> None:
    """each: portraits of every change."""
    card = text_to_image_card(MODEL)
    settings = replace(DEFAULTS, guidance=card.working_guidance)
    bench = Bench(card, study.text_model, study.rows, settings, PromptEditSettings(cross_steps=card.cross_steps))
    groups: dict[tuple[str, int], list[Case]] = {}
    for case in cases(POOL)[OTHERS:]:
        group = groups.setdefault(of_change(case), [])
        if len(group) < each:
            group.append(case)
    pairs: dict[tuple[str, int], list[tuple[Row, Row]]] = {}
    for change in dict.fromkeys((swap.attribute, swap.sign) for swap in SWAPS):
        pairs[change] = []
        for case in groups.get(change, []):
            words = study.rows.get(
                ("words by strength", study.model.key, case.number), partial(words_row, study, bench, case)
            )
            fitted = study.rows.get(
                ("fitted shift by strength", study.model.key, case.number), partial(fitted_row, study, case)
            )
            if max(column(words, "own")) >= RECOGNISED:
                pairs[change].append((fitted, words))
    for share in SHARES:
        print_share(pairs, share)


def print_share(pairs: dict[tuple[str, int], list[tuple[Row, Row]]], share: float) -> None:
    """A table of all changes, at this share of the change that the word itself makes."""
    print(f"At {share:.0%} of the word's own change:\n")
    heading("change", ("portraits", "identity", "words", "PSNR", "words", "given back", "monotone", "words"))
    won = {"identity": 0, "psnr": 0, "both": 0}
    for (attribute, sign), rows in pairs.items():
        compared = [one for row, words in rows if (one := beside_words(row, words, share)) is not None]
        if 2 * len(compared) < len(rows) or not compared:
            print(f"| {attribute} {sign:+d} | {len(compared)} of {len(rows)} |" + " |" * 7)
            continue
        names = ("identity", "words identity", "psnr", "words psnr", "given back", "monotone", "words monotone")
        columns = {name: mean(row[name] for row in compared) for name in names}
        formats = (".3f", ".3f", ".2f", ".2f", ".2f", ".2f", ".2f")
        cells = " | ".join(format(value, f) for value, f in zip(columns.values(), formats, strict=True))
        print(f"| {attribute} {sign:+d} | {len(compared)} of {len(rows)} | {cells} |", flush=True)
        better = columns["identity"] >= columns["words identity"], columns["psnr"] >= columns["words psnr"]
        won["identity"] += better[0]
        won["psnr"] += better[1]
        won["both"] += all(better)
    print(
        f"\nOf {len(pairs)} changes, the direction keeps identity no worse for {won['identity']}, PSNR outside for "
        f"{won['psnr']}, both for {won['both']}.\n"
    )


def beside_words(row: Row, words: Row, share: float) -> dict[str, float] | None:
    """A direction and a word at a share of the change of the attribute that the word makes; None where the direction
    does not reach it."""
    change = share * max(column(words, "own"))
    if max(column(row, "own")) < change:
        return None
    theirs = at_change(words, change, ("identity", "psnr", "given back"))
    about = {"monotone": row["monotone"], "words monotone": words["monotone"], "given back": theirs["given back"]}
    return about | {f"words {name}": theirs[name] for name in ("identity", "psnr")} | at_change(row, change)
