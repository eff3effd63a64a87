"""Directions of h-space in the embedded text-to-image model: how local they are, whether they carry over, and what they
are beside changed words.

    python -m benchmarks.t2i_hspace                               # everything, on 100 portraits: hours on two cores
    python -m benchmarks.t2i_hspace locality --portraits 12
    python -m benchmarks.t2i_hspace predicted --portraits 12
    python -m benchmarks.t2i_hspace transfer --sources 4 --portraits 12
    python -m benchmarks.t2i_hspace beside --each 7
    python -m benchmarks.t2i_hspace shipped --portraits 30
    python -m benchmarks.t2i_hspace speed --write                 # also into docs/benchmarks.md
    python -m benchmarks.t2i_hspace options --portraits 3         # which defaults

Held-out portraits, bound to one prompt for all of them, analysed at 0.6 T and edited in few anchored steps.

locality: every method's first direction of eyes and mouth, on the portrait that it was found on, both ways, at the
strength with which the region changes by one root mean square. predicted: what the linearised decoder says of the same
directions, with projection off as many vectors of the outside as JIVE has joint ones beside them. transfer: the first
directions by contrast of each source portrait; those of which the probe says on the source what they do, in the kinds
that a region of the face can have, are applied to other portraits both ways, and it is counted on how many the same
attribute changes the same way. beside: a word of the portrait's caption is replaced by prompt-to-prompt on the
anchored inversion, and by the shift of h that is fitted to what this does to the portrait, on portraits that the other
studies have not seen. They are compared at the same change of the attribute, shares of what the word itself does, if
half of the portraits reach it. "given back" is PSNR outside with what the autoencoder loses given back to the changed
words as well, as it is to directions. Monotone: rank correlation of strength and attribute. shipped: the directions
that come with the model, on portraits that lack what they are for.

Rows are kept as those of `benchmarks.inversion`: begun again, the benchmark goes on from them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from scipy.stats import wilcoxon
from torch import Tensor

from benchmarks.inversion import MEASURED, Row, Rows, heading
from benchmarks.portrait_edits import Case, cases
from benchmarks.report import HELP, reported
from benchmarks.t2i_beside import OTHERS, POOL, beside
from benchmarks.t2i_shipped import shipped
from benchmarks.t2i_study import MODEL, PROMPT, RECOGNISED, REGIONS, Study, between, crossing
from core.asyrp.fitted_shift import fitted_shift
from core.conditional_unet import ShiftedBranch
from core.discovery.basis import Basis
from core.discovery.interface import DiscoverySettings, FoundDirection
from core.discovery.locality import mean_squares, strength_for
from core.discovery.methods import discover
from core.memory import keep_freed_memory
from core.progress import finish
from core.prompted import with_prompt
from core.regions import Region
from core.text_to_image import load_text_to_image, text_to_image_card

METHODS = ("contrast", "jive_individual", "projection", "jacobian", "global")
KINDS = ("smile", "mouth_open", "eye_open", "brow_angle", "brow_raise", "gaze", "gaze_y")
CHANGE = 0.1  # root mean square inside, pixels in [-1, 1]: plainly visible
FACTORS = (0.5, 1.0, 2.0, 4.0)  # of the suggested strength
COUNT = 5  # directions of a region
FIRST_SOURCES = 4  # further ones come after the other portraits, which stay the same ones
FITS = "two prompts, fitted to a picture", "two prompts, for any picture"
# Of binding: the prompt, None for the portrait's own; guidance of analysis and decoding; the branch that is shifted.
OPTIONS: tuple[tuple[str | None, float, ShiftedBranch], ...] = (
    (PROMPT, 1.0, "both"),
    (None, 1.0, "both"),
    (PROMPT, 3.0, "both"),
    (PROMPT, 3.0, "conditional"),
)


# ------------------------------------------------------------------------------------------------------------ locality


def local(study: Study, case: Case, bases: dict[int, Basis], region: Region, method: str) -> Row:
    """ROIR and identity at the same change inside, means of both ways; the largest change where it is not reached."""
    basis = bases.get(case.number) or bases.setdefault(case.number, study.analysed(case.pixels))
    found = discover(basis, study.regions(), method, DiscoverySettings(count=1))
    direction = next((one for one in found if one.region == region.label), found[0])
    if direction.region != region.label:
        inside = (
            (direction.y @ basis.gram(region.mask) @ direction.y).sqrt().item() if direction.y is not None else None
        )
        direction = replace(direction, inside=inside)
    return at_equal_change(study, case.pixels, direction, region)


def at_equal_change(study: Study, pixels: Tensor, found: FoundDirection, region: Region) -> Row:
    a = strength_for(found, region, CHANGE)
    strengths = [sign * factor * a for sign in (-1, 1) for factor in FACTORS]
    made = study.edited(pixels, found.direction, strengths)
    inside, outside = mean_squares(pixels, made, region.mask)
    share = (~region.mask).sum() / region.mask.sum()
    inside, outside = inside.sqrt().numpy(), (outside * share).sqrt().numpy()
    identity, n, rows = study.identity(pixels, made), len(FACTORS), []
    for way in (slice(0, n), slice(n, None)):
        place_of = crossing(inside[way], CHANGE)
        reached = place_of is not None
        place_of = place_of or (n - 1, 1.0)
        change = between(inside[way], 0.0, place_of)
        rows.append((between(outside[way], 0.0, place_of) / change, between(identity[way], 1.0, place_of), reached))
    roir, same, reached = (float(np.mean(column)) for column in zip(*rows, strict=True))
    return {"roir": roir, "identity": same, "reached": reached}


def locality(study: Study, chosen: Sequence[Case]) -> None:
    bases: dict[int, Basis] = {}
    table: dict[tuple[str, str], list[Row]] = {}
    for case in chosen:
        for region in study.regions():
            for method in METHODS:
                made = partial(local, study, case, bases, region, method)
                row = study.rows.get(("locality", study.model.key, case.number, region.label, method), made)
                table.setdefault((region.label, method), []).append(row)
        bases.clear()
    print(f"{len(chosen)} portraits, root mean square change inside {CHANGE:g}\n")
    heading("region", ("method", "ROIR, median", "mean", "identity", "reached"))
    for (label, method), rows in table.items():
        roirs = [row["roir"] for row in rows]
        about = f"{median(roirs):.2f} | {mean(roirs):.2f} | {mean(row['identity'] for row in rows):.3f}"
        print(f"| {label} | {method} | {about} | {mean(row['reached'] for row in rows):.0%} |")
    print("\nEach method beside the next one, on the same portraits (p: Wilcoxon signed-rank test):\n")
    heading("region", ("method", "beside", "more local on", "ratio of ROIR, median", "p"))
    for label in REGIONS:
        for first, second in pairwise(METHODS):
            one, other = (np.array([row["roir"] for row in table[label, method]]) for method in (first, second))
            about = f"{np.mean(one < other):.0%} | {np.median(one / other):.2f} | {wilcoxon(one, other).pvalue:.1g}"
            print(f"| {label} | {first} | {second} | {about} |")
    print()


PREDICTED = {method: (method, DiscoverySettings(count=1)) for method in METHODS if method != "global"}
PREDICTED["projection, as many"] = (
    "projection",
    DiscoverySettings(count=1, projection_rank=DiscoverySettings.joint_rank),
)


def predicted_row(study: Study, case: Case) -> Row:
    """ROIR, and change inside per unit of h, of every method's first direction to first order."""
    basis, row = study.analysed(case.pixels), Row()
    for region in study.regions():
        for name, (method, settings) in PREDICTED.items():
            [found] = [one for one in discover(basis, study.regions(), method, settings) if one.region == region.label]
            assert found.ratio is not None
            assert found.inside is not None
            row |= {f"{region.label} {name} ratio": found.ratio, f"{region.label} {name} inside": found.inside}
    return row


def predicted(study: Study, chosen: Sequence[Case]) -> None:
    rows = []
    for case in chosen:
        key = ("predicted", study.model.key, case.number)
        rows.append(study.rows.get(key, partial(predicted_row, study, case)))
    print(f"{len(chosen)} portraits, medians\n")
    heading("region", ("method", "predicted ROIR", "change inside per unit"))
    for label in REGIONS:
        for name in PREDICTED:
            ratio, inside = (median(row[f"{label} {name} {what}"] for row in rows) for what in ("ratio", "inside"))
            print(f"| {label} | {name} | {ratio:.2f} | {inside:.2f} |")
    print()


def options(study: Study, chosen: Sequence[Case]) -> None:
    """The first direction by contrast, with other ways to bind the model."""
    print(f"{len(chosen)} portraits, root mean square change inside {CHANGE:g}\n")
    heading(
        "prompt", ("guidance", "shifted", *(f"ROIR of {label.lower()}" for label in REGIONS), "identity", "reached")
    )
    for prompt, guidance, shifted in OPTIONS:
        table: dict[str, list[Row]] = {label: [] for label in REGIONS}
        for case in chosen:
            bound, bases = Study(study.rows, prompt or case.prompt, guidance, shifted), {}
            for region in bound.regions():
                made = partial(local, bound, case, bases, region, "contrast")
                key = ("locality", bound.model.key, case.number, region.label, "contrast")
                table[region.label].append(study.rows.get(key, made))
        every = [row for rows in table.values() for row in rows]
        cells = [f"{median(row['roir'] for row in rows):.2f}" for rows in table.values()]
        cells += [f"{mean(row['identity'] for row in every):.3f}", f"{mean(row['reached'] for row in every):.0%}"]
        print(f"| {prompt or 'its own'} | {guidance:g} | {shifted} | {' | '.join(cells)} |", flush=True)
    print()


# ------------------------------------------------------------------------------------------------------------ transfer


def first_directions(study: Study, case: Case) -> list[tuple[Region, FoundDirection, float]]:
    """By contrast, with the strength that changes the region of this portrait visibly, or nearly so."""
    basis, chosen = study.analysed(case.pixels), []
    for region in study.regions():
        for found in discover(basis, [region], "contrast", DiscoverySettings(count=COUNT)):
            a = strength_for(found, region, CHANGE)
            made = study.edited(case.pixels, found.direction, [factor * a for factor in FACTORS])
            inside = mean_squares(case.pixels, made, region.mask)[0].sqrt().numpy()
            k, share = crossing(inside, CHANGE) or (len(FACTORS) - 1, 1.0)
            steps = [0.0, *FACTORS]
            chosen.append((region, found, a * (steps[k] + share * (steps[k + 1] - steps[k]))))
    return chosen


def carried(study: Study, region: Region, found: FoundDirection, a: float, source: Case, others: Tensor) -> Row:
    """What a direction does on its source and on other portraits, from one end to the other."""

    def ends(pixels: Tensor) -> tuple[np.ndarray, Tensor]:
        n = len(pixels)
        made = study.edited(pixels, found.direction, [-a, a] * n).unflatten(0, (n, 2))
        return study.readings(made[:, 1]) - study.readings(made[:, 0]), made[:, 1]

    own, _ = ends(source.pixels)
    most = int(np.abs(own[0]).argmax())
    if study.attributes[most] not in KINDS or abs(own[0, most]) < RECOGNISED:
        return {"recognised": 0, "attribute": most, "own": own[0, most]}
    changes, made = ends(others)
    change = changes[:, most] * np.sign(own[0, most])
    return {
        "recognised": 1,
        "attribute": most,
        "own": own[0, most],
        "others": change.mean(),
        "same": (change > 0).mean(),
        "identity": study.identity(others, made).mean(),
        "strength": a,
    }


def transfer_rows(study: Study, sources: Sequence[Case], others: Sequence[Case]) -> list[tuple[Case, str, int, Row]]:
    pixels, table = torch.cat([case.pixels for case in others]), []
    for source in sources:
        kept: list[tuple[Region, FoundDirection, float]] = []
        for label in REGIONS:
            for k in range(COUNT):

                def made(source: Case = source, label: str = label, k: int = k, kept: list = kept) -> Row:
                    kept.extend([] if kept else first_directions(study, source))
                    region, found, a = [one for one in kept if one[0].label == label][k]
                    return carried(study, region, found, a, source, pixels)

                key = ("transfer", study.model.key, source.number, label, k, len(others))
                table.append((source, label, k, study.rows.get(key, made)))
    return table


def transfer(study: Study, sources: Sequence[Case], others: Sequence[Case]) -> None:
    table = transfer_rows(study, sources, others)
    known = [row for row in table if row[3]["recognised"]]
    print(
        f"{len(sources)} source portraits, {len(others)} others; {len(known)} of {len(table)} directions recognised\n"
    )
    heading("found on", ("region", "no.", "attribute", "on the source", "on others", "same way", "identity"))
    for source, label, k, row in known:
        name = study.attributes[int(row["attribute"])]
        about = f"{row['own']:+.2f} | {row['others']:.2f} | {row['same']:.0%} | {row['identity']:.3f}"
        print(f"| {source.number} | {label} | {k + 1} | {name} | {about} |")
    print()
    heading("kind", ("directions", "same way"))
    for name in KINDS:
        of_kind = [row for *_, row in known if study.attributes[int(row["attribute"])] == name]
        if of_kind:
            print(f"| {name} | {len(of_kind)} | {mean(row['same'] for row in of_kind):.0%} |")
    if known:
        print(f"| all | {len(known)} | {mean(row['same'] for *_, row in known):.0%} |")
    print()


# --------------------------------------------------------------------------------------------------------------- speed


def speed(study: Study, chosen: Sequence[Case]) -> None:
    """Medians over portraits, of which the first warms up; not kept, they are this machine's. Memory as in the app."""
    keep_freed_memory()
    seconds: dict[str, list[float]] = {"analysis": [], "a new region": [], "a first edit": [], "a further strength": []}
    seconds |= {fit: [] for fit in FITS}

    def timed(name: str, work: Callable[[], object]) -> object:
        began = time.perf_counter()
        made = work()
        seconds[name].append(time.perf_counter() - began)
        return made

    for case in chosen:
        basis = timed("analysis", partial(study.analysed, case.pixels))
        assert isinstance(basis, Basis)
        [found] = timed(  # type: ignore[misc]
            "a new region", partial(discover, basis, study.regions()[1:], "contrast", DiscoverySettings(count=1))
        )
        a = strength_for(found, study.regions()[1])
        timed("a first edit", partial(study.edited, case.pixels, found.direction, [a]))
        timed("a further strength", partial(study.edited, case.pixels, found.direction, [2 * a]))
    pair = [with_prompt(study.text_model, f"a {word} face") for word in ("sad", "smiling")]
    for case in chosen:
        timed(FITS[0], lambda case=case: finish(fitted_shift(*pair, picture=case.pixels, bound=study.model)))
    timed(FITS[1], lambda: finish(fitted_shift(*pair)))
    heading("what", ("median", "goal"))
    goals = {"analysis": "12 s", "a new region": "0.3 s", "a first edit": "1.5 s", "a further strength": "1.5 s"}
    goals |= dict.fromkeys(FITS, "")
    for name, times in seconds.items():
        print(f"| {name} | {median(times[1:] or times):.2f} s | {goals[name]} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ["options", "locality", "predicted", "transfer", "beside", "shipped", "speed"]
    parser.add_argument("what", nargs="*", help=f"{', '.join(everything)}; all of them by default")
    parser.add_argument("--portraits", type=int, default=100)
    parser.add_argument("--sources", type=int, default=4, help="portraits on which directions are found, for transfer")
    parser.add_argument("--each", type=int, default=7, help="portraits of each change of words")
    parser.add_argument("--run", type=Path, default=MEASURED, help="where rows are kept")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    what = arguments.what or everything
    if set(what) - set(everything) or min(arguments.portraits, arguments.sources, arguments.each) < 1:
        parser.error(f"choose from {', '.join(everything)}, on at least one portrait")
    fingerprint = load_text_to_image(text_to_image_card(MODEL)).fingerprint
    study = Study(Rows(arguments.run / f"t2i_hspace-{fingerprint[:8]}.jsonl"))
    chosen, first = cases(arguments.portraits + arguments.sources), min(arguments.sources, FIRST_SOURCES)
    others = chosen[first : first + arguments.portraits]
    sources = chosen[:first] + chosen[first + arguments.portraits :]

    tables: dict[str, Callable[[], None]] = {
        "options": partial(options, study, others),
        "locality": partial(locality, study, others),
        "predicted": partial(predicted, study, others),
        "transfer": partial(transfer, study, sources, others),
        "beside": partial(beside, study, arguments.each),
        "shipped": partial(shipped, study, cases(POOL)[OTHERS:], arguments.portraits),
        "speed": partial(speed, study, chosen[:4]),
    }
    for name in (name for name in tables if name in what):
        with reported(f"benchmarks.t2i_hspace.{name}", arguments.write):
            tables[name]()


if __name__ == "__main__":
    main()
