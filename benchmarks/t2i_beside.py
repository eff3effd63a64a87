"""Directions of h-space beside changed words, for `python -m benchmarks.t2i_hspace beside`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.inversion import Bench, Row, heading
from benchmarks.portrait_edits import SWAPS, Case, cases
from benchmarks.t2i_study import MODEL, RECOGNISED, Study, crossing
from core import metrics
from core.asyrp.fitted_shift import fitted_shift
from core.directions import Direction
from core.discovery.interface import FoundDirection
from core.inversion.editing import PromptEditSettings, Target, edit
from core.inversion.solution import DEFAULTS
from core.progress import finish
from core.prompted import with_prompt
from core.regions import Region
from core.text_to_image import text_to_image_card

FITTED = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # strengths
Found = tuple[Region, FoundDirection, float]


def of_change(case: Case) -> tuple[str, int]:
    return case.swap.attribute, case.swap.sign


def words_row(study: Study, bench: Bench, case: Case) -> Row:
    """Prompt-to-prompt on the anchored inversion: one word changed, at seven strengths."""
    inversion = bench.inverted(case, "anchored")
    strengths = [s / 6 for s in range(1, 7)]
    made = finish(edit(bench.model, inversion, [Target(case.target, s) for s in strengths], bench.edits)).cpu()
    outside, column = torch.from_numpy(~case.mask)[None, None], study.attributes.index(case.swap.attribute)
    own = case.swap.sign * (study.readings(made) - study.readings(case.pixels))[:, column]
    full = made[-1:]
    back = (full + case.pixels - bench.model.decode(bench.model.encode(case.pixels)).cpu()).clamp(-1, 1)
    return {
        "own": own[-1],
        "identity": study.identity(case.pixels, full)[0],
        "psnr": metrics.psnr(full, case.pixels, outside).item(),
        "given back": metrics.psnr(back, case.pixels, outside).item(),
        "monotone": spearmanr([0.0, *strengths], [0.0, *own])[0],
    }


def direction_row(study: Study, case: Case, direction: Direction, strengths: Sequence[float], goal: float) -> Row:
    """A direction at the strength that changes the attribute as much as the words do."""
    made = study.edited(case.pixels, direction, strengths)
    outside, column = torch.from_numpy(~case.mask)[None, None], study.attributes.index(case.swap.attribute)
    own = case.swap.sign * (study.readings(made) - study.readings(case.pixels))[:, column]
    place_of = crossing(own, goal)
    if place_of is None:
        return {"reached": 0, "own": own.max(), "monotone": spearmanr([0.0, *strengths], [0.0, *own])[0]}
    k, share = place_of
    below = 0.0 if k == 0 else strengths[k - 1]
    a = below + share * (strengths[k] - below)
    grid = [a * (n + 1) / 6 for n in range(6)]
    made = study.edited(case.pixels, direction, grid)
    own = case.swap.sign * (study.readings(made) - study.readings(case.pixels))[:, column]
    return {
        "reached": 1,
        "own": own[-1],
        "identity": study.identity(case.pixels, made[-1:])[0],
        "psnr": metrics.psnr(made[-1:], case.pixels, outside).item(),
        "monotone": spearmanr([0.0, *grid], [0.0, *own])[0],
        "strength": a,
    }


def fitted(study: Study, case: Case) -> Direction:
    """The shift of h that does what the change from the word to its counterpart does, whatever the picture."""
    pair = [
        f"the face with {word}" if case.swap.after else f"the {word} face"
        for word in (case.swap.source, case.swap.target)
    ]
    source, target = (with_prompt(study.text_model, prompt) for prompt in pair)
    return finish(fitted_shift(source, target)).direction


def discovered(study: Study, table: Sequence[tuple[Case, str, int, Row]], change: tuple[str, int]) -> tuple | None:
    """(source, region, number, sign) of the direction that did most of a change on other portraits per strength."""
    found = [
        (row["others"] * row["same"], source, label, k, change[1] * np.sign(row["own"]))
        for source, label, k, row in table
        if row["recognised"] and study.attributes[int(row["attribute"])] == change[0]
    ]
    return max(found, key=lambda one: one[0])[1:] if found else None


def beside(
    study: Study,
    each: int,
    table: Sequence[tuple[Case, str, int, Row]],
    first_directions: Callable[[Case], list[Found]],
    seen: Sequence[Case],
) -> None:
    """table: what directions of source portraits do on others; first_directions: those of a source. seen: the portraits
    that they were found on or tried on."""
    card = text_to_image_card(MODEL)
    settings = replace(DEFAULTS, guidance=card.working_guidance)
    bench = Bench(card, study.text_model, study.rows, settings, PromptEditSettings(cross_steps=card.cross_steps))
    taken = {case.number for case in seen}
    groups: dict[tuple[str, int], list[Case]] = {}
    for case in cases(150):
        group = groups.setdefault(of_change(case), [])
        if case.number not in taken and len(group) < each:
            group.append(case)
    shifts: dict[tuple[str, str], Direction] = {}
    kept: dict[int, list[Found]] = {}
    heading(
        "change", ("portraits", "by", "identity", "words", "PSNR", "words", "given back", "monotone", "words", "lost")
    )
    won = {"identity": 0, "psnr": 0, "both": 0, "compared": 0}
    for change in dict.fromkeys((swap.attribute, swap.sign) for swap in SWAPS):
        pairs: dict[str, list[tuple[Row, Row]]] = {"fitted": [], "discovered": []}
        lost = dict.fromkeys(pairs, 0)
        for case in groups.get(change, []):
            words = study.rows.get(("words", study.model.key, case.number), partial(words_row, study, bench, case))
            if words["own"] < RECOGNISED:
                continue

            def shifted(case: Case = case, goal: float = words["own"]) -> Row:
                key = case.swap.source, case.swap.target
                if key not in shifts:
                    shifts[key] = fitted(study, case)
                return direction_row(study, case, shifts[key], FITTED, goal)

            rows = {"fitted": study.rows.get(("fitted", study.model.key, case.number), shifted)}
            if best := discovered(study, table, change):
                source, label, k, sign = best

                def found(case: Case = case, goal: float = words["own"], best: tuple = best) -> Row:
                    source, label, k, sign = best
                    if source.number not in kept:
                        kept[source.number] = first_directions(source)
                    _, one, a = [part for part in kept[source.number] if part[0].label == label][k]
                    strengths = [sign * a * factor for factor in (0.5, 1.0, 2.0, 3.0, 4.0)]
                    return direction_row(study, case, one.direction, strengths, goal)

                key = ("discovered", study.model.key, case.number, source.number, label, k)
                rows["discovered"] = study.rows.get(key, found)
            for by, row in rows.items():
                if row["reached"]:
                    pairs[by].append((row, words))
                else:
                    lost[by] += 1
        compared = {by: rows for by, rows in pairs.items() if rows and len(rows) >= lost[by]}
        if not compared:
            print(f"| {change[0]} {change[1]:+d} | {len(groups.get(change, []))} | none |" + " |" * 8)
            won["compared"] += 1
            continue

        def gain(rows: Sequence[tuple[Row, Row]], name: str) -> float:
            return mean(ours[name] - theirs[name] for ours, theirs in rows)

        by = max(compared, key=lambda name: gain(compared[name], "identity"))
        rows = compared[by]
        columns = [mean(row[k][name] for row in rows) for name in ("identity", "psnr") for k in (0, 1)]
        columns += [mean(words["given back"] for _, words in rows)]
        columns += [mean(row[k]["monotone"] for row in rows) for k in (0, 1)]
        formats = (".3f", ".3f", ".2f", ".2f", ".2f", ".2f", ".2f")
        cells = " | ".join(format(value, f) for value, f in zip(columns, formats, strict=True))
        print(f"| {change[0]} {change[1]:+d} | {len(rows)} | {by} | {cells} | {lost[by]} |", flush=True)
        better = gain(rows, "identity") >= 0, gain(rows, "psnr") >= 0
        won["identity"] += better[0]
        won["psnr"] += better[1]
        won["both"] += all(better)
        won["compared"] += 1
    print(
        f"\nOf {won['compared']} changes, a direction keeps identity no worse for {won['identity']}, PSNR outside for "
        f"{won['psnr']}, both for {won['both']}.\n"
    )
