"""Directions of h-space in the embedded text-to-image model: how local they are, whether they carry over, and what they
are beside changed words.

    python -m benchmarks.t2i_hspace                               # everything, on 100 portraits: hours on two cores
    python -m benchmarks.t2i_hspace locality --portraits 12
    python -m benchmarks.t2i_hspace transfer --sources 4 --portraits 12
    python -m benchmarks.t2i_hspace beside --each 2
    python -m benchmarks.t2i_hspace speed --write                 # also into docs/benchmarks.md
    python -m benchmarks.t2i_hspace options --portraits 3         # which defaults; printed only

Held-out portraits, bound to one prompt for all of them, analysed at 0.6 T and edited in few anchored steps.

locality: every method's first direction of eyes and mouth, on the portrait that it was found on, both ways, at the
strength with which the region changes by one root mean square. transfer: the first directions by contrast of each
source portrait; those of which the probe says on the source what they do, in the kinds that a region of the face can
have, are applied to other portraits both ways, and it is counted on how many the same attribute changes the same way.
beside: a word of the portrait's caption is replaced by prompt-to-prompt on the anchored inversion, and by two kinds of
directions: the closed form (the shift of h between the two words) and the one that was found on a source portrait, each
at the strength that changes the attribute as much as the words do; the better of the two counts. "given back" is PSNR
outside with what the autoencoder loses given back to the changed words as well, as it is to directions. Monotone: rank
correlation of seven strengths with the attribute.

Rows are kept as those of `benchmarks.inversion`: begun again, the benchmark goes on from them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.inversion import MEASURED, SWAPS, Bench, Case, Row, Rows, cases, heading
from benchmarks.report import HELP, reported
from core import instruments, metrics
from core.asyrp.prompt_shift import prompt_shift
from core.conditional_unet import ShiftedBranch
from core.directions import Direction
from core.discovery.basis import Basis, krylov_basis
from core.discovery.interface import DiscoverySettings, FoundDirection
from core.discovery.jacobian_operator import Jacobian, nearest_timestep, place
from core.discovery.locality import mean_squares, strength_for
from core.discovery.methods import discover
from core.editing import EditSettings
from core.inversion.editing import PromptEditSettings, Target, edit
from core.inversion.solution import DEFAULTS
from core.models.cards import PRESETS
from core.models.loader import DiffusionModel
from core.process import USUAL_STEPS, Kept, edit_pictures
from core.progress import finish
from core.prompted import with_prompt
from core.regions import Region, ready_made_region
from core.text_to_image import load_text_to_image, text_to_image_card

MODEL, PROMPT = "avatars-t2i", "a face"
METHODS = ("contrast", "jive_individual", "projection", "jacobian", "global")
REGIONS = ("Eyes", "Mouth")
KINDS = ("smile", "mouth_open", "eye_open", "brow_angle", "brow_raise", "gaze", "gaze_y")
CHANGE = 0.1  # root mean square inside, pixels in [-1, 1]: plainly visible
FACTORS = (0.5, 1.0, 2.0, 4.0)  # of the suggested strength
RECOGNISED = 0.5  # standard deviations from one end to the other on the source
COUNT = 5  # directions of a region
CLOSED_FORM = (1.0, 2.0, 4.0, 8.0, 16.0, 24.0)  # strengths


@dataclass
class Study:
    """The model bound to a prompt, the probe, and what is measured already."""

    rows: Rows
    guidance: float = 1.0
    shifted: ShiftedBranch = "both"
    kept: Kept = field(default_factory=Kept)

    @cached_property
    def text_model(self):
        return load_text_to_image(text_to_image_card(MODEL))

    @cached_property
    def model(self) -> DiffusionModel:
        return with_prompt(self.text_model, PROMPT, self.guidance, self.shifted)

    @cached_property
    def probe(self) -> instruments.Instruments:
        folder = text_to_image_card(MODEL).instruments
        assert folder is not None
        return instruments.load(PRESETS / folder)

    def regions(self) -> list[Region]:
        return [ready_made_region("face", label, self.model.card.resolution) for label in REGIONS]

    def analysed(self, pixels: Tensor, model: DiffusionModel | None = None) -> Basis:
        model = model or self.model
        t = nearest_timestep(model, model.card.steps)
        return finish(krylov_basis(Jacobian(model, finish(place(model, pixels, t)), t)))

    def edited(self, pixels: Tensor, direction: Direction, strengths: Sequence[float]) -> Tensor:
        """(n, 3, R, R) of one picture, or of n pictures at one strength each."""
        settings = EditSettings(USUAL_STEPS["anchored"], injection="symmetric")
        rows = len(strengths) // len(pixels)
        return finish(
            edit_pictures(self.model, pixels, rows, [(direction, list(strengths))], settings, kept=self.kept)
        ).cpu()

    def readings(self, pixels: Tensor) -> np.ndarray:
        """(n, attributes), in standard deviations of the population."""
        read = self.probe.attributes(pixels)
        return np.stack([read[name].numpy() / known.spread for name, known in self.probe.known.items()], axis=1)

    def identity(self, before: Tensor, after: Tensor) -> np.ndarray:
        return (self.probe.identity(before) * self.probe.identity(after)).sum(1).numpy()

    @property
    def attributes(self) -> list[str]:
        return list(self.probe.known)


def crossing(values: Sequence[float], goal: float) -> tuple[int, float] | None:
    """The first place k + share at which a sequence that begins at 0 reaches a goal; None: nowhere."""
    for k, (low, high) in enumerate(pairwise([0.0, *values])):
        if low < goal <= high:
            return k, (goal - low) / (high - low)
    return None


def between(values: np.ndarray, start: float, place_of: tuple[int, float]) -> float:
    """The value at such a place; at strength 0 it is `start`."""
    k, share = place_of
    low = start if k == 0 else values[k - 1]
    return float(low + share * (values[k] - low))


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


# -------------------------------------------------------------------------------------------------------------- beside


def of_change(case: Case) -> tuple[str, int]:
    return case.swap.attribute, case.swap.sign


def words_row(study: Study, bench: Bench, case: Case) -> Row:
    """Prompt-to-prompt on the anchored inversion: one word changed, at seven strengths."""
    inversion = bench.inverted(case, "anchored")
    strengths = [s / 6 for s in range(1, 10)]
    made = finish(edit(bench.model, inversion, [Target(case.target, s) for s in strengths], bench.edits)).cpu()
    outside, column = torch.from_numpy(~case.mask)[None, None], study.attributes.index(case.swap.attribute)
    own = case.swap.sign * (study.readings(made) - study.readings(case.pixels))[:, column]
    full = made[5:6]
    back = (full + case.pixels - bench.model.decode(bench.model.encode(case.pixels)).cpu()).clamp(-1, 1)
    return {
        "own": own[5],
        "identity": study.identity(case.pixels, full)[0],
        "psnr": metrics.psnr(full, case.pixels, outside).item(),
        "given back": metrics.psnr(back, case.pixels, outside).item(),
        "monotone": spearmanr([0.0, *strengths[:6]], [0.0, *own[:6]])[0],
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


def closed_form(study: Study, case: Case) -> Direction:
    """The shift of h from the word to its counterpart, whatever the picture."""
    pair = [
        f"the face with {word}" if case.swap.after else f"the {word} face"
        for word in (case.swap.source, case.swap.target)
    ]
    source, target = (with_prompt(study.text_model, prompt) for prompt in pair)
    return finish(prompt_shift(source, target))


def discovered(study: Study, table: Sequence[tuple[Case, str, int, Row]], change: tuple[str, int]) -> tuple | None:
    """(source, region, number, sign) of the direction that did most of a change on other portraits per strength."""
    found = [
        (row["others"] * row["same"], source, label, k, change[1] * np.sign(row["own"]))
        for source, label, k, row in table
        if row["recognised"] and study.attributes[int(row["attribute"])] == change[0]
    ]
    return max(found, key=lambda one: one[0])[1:] if found else None


def beside(study: Study, each: int, sources: Sequence[Case], others: Sequence[Case]) -> None:
    card = text_to_image_card(MODEL)
    settings = replace(DEFAULTS, guidance=card.working_guidance)
    bench = Bench(card, study.text_model, study.rows, settings, PromptEditSettings(cross_steps=card.cross_steps))
    taken = {case.number for case in (*sources, *others)}
    groups: dict[tuple[str, int], list[Case]] = {}
    for case in cases(150):
        group = groups.setdefault(of_change(case), [])
        if case.number not in taken and len(group) < each:
            group.append(case)
    table, shifts, kept = transfer_rows(study, sources, others), {}, {}
    heading(
        "change", ("portraits", "by", "identity", "words", "PSNR", "words", "given back", "monotone", "words", "lost")
    )
    won = {"identity": 0, "psnr": 0, "both": 0, "compared": 0}
    for change in dict.fromkeys((swap.attribute, swap.sign) for swap in SWAPS):
        pairs: dict[str, list[tuple[Row, Row]]] = {"closed form": [], "discovered": []}
        lost = dict.fromkeys(pairs, 0)
        for case in groups.get(change, []):
            words = study.rows.get(("words", study.model.key, case.number), partial(words_row, study, bench, case))
            if words["own"] < RECOGNISED:
                continue

            def shifted(case: Case = case, goal: float = words["own"]) -> Row:
                key = case.swap.source, case.swap.target
                if key not in shifts:
                    shifts[key] = closed_form(study, case)
                return direction_row(study, case, shifts[key], CLOSED_FORM, goal)

            rows = {"closed form": study.rows.get(("closed form", study.model.key, case.number), shifted)}
            if best := discovered(study, table, change):
                source, label, k, sign = best

                def found(case: Case = case, goal: float = words["own"], best: tuple = best) -> Row:
                    source, label, k, sign = best
                    if source.number not in kept:
                        kept[source.number] = first_directions(study, source)
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


# --------------------------------------------------------------------------------------------------------------- speed


def speed(study: Study, chosen: Sequence[Case]) -> None:
    """Medians over portraits, of which the first warms up; not kept, they are this machine's."""
    seconds: dict[str, list[float]] = {"analysis": [], "a new region": [], "a first edit": [], "a further strength": []}

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
    heading("what", ("median", "goal"))
    goals = {"analysis": "12 s", "a new region": "0.3 s", "a first edit": "1.5 s", "a further strength": "1.5 s"}
    for name, times in seconds.items():
        print(f"| {name} | {median(times[1:] or times):.2f} s | {goals[name]} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ["locality", "transfer", "beside", "speed"]
    parser.add_argument("what", nargs="*", help=f"{', '.join(everything)}; all of them by default")
    parser.add_argument("--portraits", type=int, default=100)
    parser.add_argument("--sources", type=int, default=4, help="portraits on which directions are found, for transfer")
    parser.add_argument("--each", type=int, default=4, help="portraits of each change of words")
    parser.add_argument("--run", type=Path, default=MEASURED, help="where rows are kept")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    what = arguments.what or everything
    if set(what) - set(everything) or min(arguments.portraits, arguments.sources, arguments.each) < 1:
        parser.error(f"choose from {', '.join(everything)}, on at least one portrait")
    fingerprint = load_text_to_image(text_to_image_card(MODEL)).fingerprint
    study = Study(Rows(arguments.run / f"t2i_hspace-{fingerprint[:8]}.jsonl"))
    chosen = cases(arguments.portraits + arguments.sources)
    sources, others = chosen[: arguments.sources], chosen[arguments.sources :]
    tables: dict[str, Callable[[], None]] = {
        "locality": partial(locality, study, others),
        "transfer": partial(transfer, study, sources, others),
        "beside": partial(beside, study, arguments.each, sources, others),
        "speed": partial(speed, study, chosen[:4]),
    }
    for name in (name for name in tables if name in what):
        with reported(f"benchmarks.t2i_hspace.{name}", arguments.write):
            tables[name]()


if __name__ == "__main__":
    main()
