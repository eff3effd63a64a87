"""A run of PIE-Bench: every edit by every method, then its measures, shared among processes and never done twice.

In the output folder: `pictures/METHOD/`, the results; `edits/` and `rows/`, what is known of each result and what it
measures, a file each; `results.csv` and `table.md`, joined from these; `settings.json`, what all of it was made with.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..errors import RequestError, quoted
from ..imaging import to_pil
from ..inversion.alignment import words_of
from ..inversion.editing import Attention, PromptEditSettings, Target, edit
from ..inversion.methods import METHODS, invert
from ..inversion.solution import InversionSettings
from ..progress import Job, Progress, stage
from ..recipes.team import Team, folder_lock
from ..recipes.units import Outcome, Unit, run_units
from ..tensor_file import write
from ..text_to_image import TextToImage
from . import table
from .data import Benchmark, Entry, last_square, read_picture
from .measures import AS_PUBLISHED, MENDED, Networks, Values, as_published, mended

INVERSIONS = ("reconstruction_psnr", "evaluations", "gradients", "seconds")  # beside the measures, of edits made here
COST = {"latent-TOP as published": 30.0, "latent-TOP": 8.0, "null-text": 12.0, "teacher-forced": 12.0}  # else 2
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
SELF_SIDE = 2  # self-attention of up to 32x32 at 512 pixels; the paper of prompt-to-prompt has 16x16
NO_NETWORKS, ALONE = Networks(), Team()
CSV, TABLE, SETTINGS = "results.csv", "table.md", "settings.json"


@dataclass(frozen=True)
class EditSettings:
    """How edits are made; the defaults are those of PnPInversion's script.

    seed: of whatever is random, anew before each edit. attention, cross_steps, self_steps: of prompt-to-prompt, which
    also blends by the blended words. reweight: of the attention to that of the target. jpeg: results are kept and
    measured as JPEG of Pillow's quality, 75, as that script keeps them where pictures are JPEG; else as PNG.

    Raises:
        RequestError: a setting is out of range.
    """

    steps: int = 50
    guidance: float = 7.5
    seed: int = 1234
    attention: Attention = "refine"
    cross_steps: float = 0.4
    self_steps: float = 0.6
    reweight: float = 2.0
    jpeg: bool = False

    def __post_init__(self) -> None:
        _ = self.inversion, self.edit  # checked there

    @property
    def inversion(self) -> InversionSettings:
        return InversionSettings(self.steps, self.guidance, seed=self.seed)

    @property
    def edit(self) -> PromptEditSettings:
        return PromptEditSettings(
            attention=self.attention,
            cross_steps=self.cross_steps,
            self_steps=self.self_steps,
            weight_steps=self.cross_steps,
            self_side=SELF_SIDE,
        )


def run(
    benchmark: Benchmark,
    out: Path,
    methods: Sequence[str] = (),
    model: TextToImage | None = None,
    networks: Networks = NO_NETWORKS,
    settings: EditSettings | None = None,
    results: Mapping[str, Path] | None = None,
    team: Team = ALONE,
) -> Job[Outcome]:
    """Make all edits that are not there, measure them, and join the rows. Returns what came of all of it.

    methods: of inversion, made with `model`. results: name -> a folder of results that were made elsewhere, named as
    the pictures are. Events count the work of all processes.

    Raises:
        RequestError: no such method; the folder is of other settings, or another run works in it.
        ResourceError: it cannot be written, or another process has ended.
    """
    results, settings = results or {}, settings or EditSettings()
    require_known(methods)
    if bool(methods) != (model is not None):
        raise RequestError("Methods need a model, and a model needs methods.")
    if not methods and not results:
        raise RequestError("Choose methods, or give folders of results.")
    if taken := set(methods) & set(results):
        raise RequestError(f"{quoted(min(taken))} is the name of a method: give these results another name.")
    with folder_lock(out, team):
        side = None if model is None else model.resolution
        _require_same(out, team, settings, model)
        outcome = Outcome()
        if model is not None:
            outcome = yield from _edit_all(benchmark, out, methods, model, settings, team)
        places: dict[str, dict[str, Path]] = {}
        for method in methods:
            pictures = made_here(benchmark, out, method, settings)
            done = [entry.id for entry in benchmark.entries if (out / facts_file(entry, method)).is_file()]
            places[method] = {id_: pictures[id_] for id_ in done}  # others have failed already
        for name, folder in results.items():
            places[name] = made_elsewhere(benchmark, folder)
        outcome += yield from _measure_all(benchmark, out, places, side, networks, team)
        if team.main:
            _join(benchmark, out, list(places), side, networks)
        return outcome


def require_known(methods: Sequence[str]) -> None:
    """Raises RequestError: there is no such method."""
    for method in methods:
        if method not in METHODS:
            raise RequestError(f"There is no method {quoted(method)}. Choose from: {', '.join(METHODS)}.")


def _require_same(out: Path, team: Team, settings: EditSettings, model: TextToImage | None) -> None:
    """Raises RequestError: the folder holds results of other settings."""
    now: dict[str, Any] = {} if model is None else {"weights": model.fingerprint, "model": model.id, **asdict(settings)}
    refused = ""
    if team.main and now:
        path = out / SETTINGS
        before = json.loads(path.read_text()) if path.is_file() else now
        differing = [f"{name} {before.get(name)!r}, not {now[name]!r}" for name in now if before.get(name) != now[name]]
        refused = f"{out} holds results of other settings ({'; '.join(differing)}). Choose another folder."
        refused = refused if differing else ""
        if not refused:
            write(path, json.dumps(now, indent=1).encode(), "file of settings")
    if refused := team.first(refused):
        raise RequestError(refused)


# ------------------------------------------------------------------------------------------------------------ the edits


def _edit_all(
    benchmark: Benchmark, out: Path, methods: Sequence[str], model: TextToImage, settings: EditSettings, team: Team
) -> Job[Outcome]:
    units: dict[Unit, tuple[Entry, str]] = {}
    for method in methods:
        pictures = made_here(benchmark, out, method, settings)
        for entry in benchmark.entries:
            picture = str(pictures[entry.id].relative_to(out))
            files = (picture, facts_file(entry, method))
            unit = Unit(key(entry, method), files, f"{entry.id} by {method}", COST.get(method, 2.0))
            units[unit] = (entry, method)

    def work(unit: Unit) -> Job[dict[str, bytes]]:
        picture, facts = yield from make_edit(*units[unit], model, settings)
        return dict(zip(unit.files, (encoded(picture, unit.files[0]), to_json(facts)), strict=True))

    return (yield from run_units(list(units), work, out, team))


def make_edit(entry: Entry, method: str, model: TextToImage, settings: EditSettings) -> Job[tuple[Image.Image, Values]]:
    """One edit by one method: the picture, and what its inversion took (`INVERSIONS`)."""
    torch.manual_seed(settings.seed)
    sample = entry.load(model.resolution)
    pixels = torch.from_numpy(sample.picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    inverting = invert(model, pixels, entry.source, method, settings.inversion)
    inversion = yield from stage(inverting, total=2 * settings.steps, previews=False)
    editing = edit(model, inversion, [target_of(entry, settings)], settings.edit)
    pixels = yield from stage(editing, first=settings.steps, total=2 * settings.steps, previews=False)
    facts: Values = {"reconstruction_psnr": inversion.measures["psnr"]}
    return to_pil(pixels)[0], facts | {name: inversion.measures[name] for name in INVERSIONS[1:]}


def target_of(entry: Entry, settings: EditSettings) -> Target:
    """The target with its blended words, those that its prompts have."""
    pairs = zip(entry.blended or (), (entry.source, entry.target), strict=False)
    known = [len(words_of(word)) == 1 and words_of(word)[0] in words_of(prompt) for word, prompt in pairs]
    if entry.blended is None or settings.attention == "none" or not all(known):
        return Target(entry.target)
    return Target(entry.target, weights={entry.blended[1]: settings.reweight}, blend=entry.blended)


def made_here(benchmark: Benchmark, out: Path, method: str, settings: EditSettings) -> dict[str, Path]:
    """Where the results of a method are, by the id of the edit: beside one another as the pictures are, with what tells
    several edits of one picture apart. With `jpeg` they have the names of the pictures, under which PnPInversion's own
    evaluation finds them."""
    names: dict[str, Path] = {}
    taken: set[Path] = set()
    for entry in benchmark.entries:
        path = out / "pictures" / slug(method) / entry.path
        if not settings.jpeg or path in taken:
            path = path.with_name(f"{path.stem}.{digest(entry, method)}{path.suffix if settings.jpeg else '.png'}")
        taken.add(path)
        names[entry.id] = path
    return names


def encoded(picture: Image.Image, name: str) -> bytes:
    """A result as a file of this name."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG" if name.lower().endswith((".jpg", ".jpeg")) else "PNG")
    return buffer.getvalue()


# --------------------------------------------------------------------------------------------------------- the measures


def made_elsewhere(benchmark: Benchmark, folder: Path) -> dict[str, Path]:
    """Where results of others are: under the path of the picture, in whichever format."""
    found = {}
    for entry in benchmark.entries:
        path = folder / entry.path
        found[entry.id] = next((p for p in (path, *map(path.with_suffix, PICTURES)) if p.is_file()), path)
    return found


def _measure_all(
    benchmark: Benchmark,
    out: Path,
    places: Mapping[str, Mapping[str, Path]],
    side: int | None,
    networks: Networks,
    team: Team,
) -> Job[Outcome]:
    units: dict[Unit, tuple[Entry, Path]] = {}
    for method, pictures in places.items():
        for entry in benchmark.entries:
            if entry.id in pictures:
                name = row_key(entry, method, side, networks)
                unit = Unit(name, (row_file(name),), f"{entry.id} by {method}")
                units[unit] = (entry, pictures[entry.id])

    def work(unit: Unit) -> Job[dict[str, bytes]]:
        entry, path = units[unit]
        values = measure(entry, path, side, networks)
        yield Progress(1, 1, "measuring")
        return {unit.files[0]: to_json(values)}

    return (yield from run_units(list(units), work, out, team))


def measure(entry: Entry, path: Path, side: int | None, networks: Networks) -> Values:
    """All measures of one result, those of its picture. Raises RequestError: it is not there, or does not fit."""
    if not path.is_file():
        raise RequestError(f"there is no result {path}")
    sample = entry.load(side)
    result = last_square(read_picture(path), len(sample.picture))
    if result.shape != sample.picture.shape:
        raise RequestError(f"{path} has {result.shape[1]}x{result.shape[0]} pixels, its picture {sample.picture.shape}")
    mask = sample.mask
    published = as_published(networks, sample.picture, result, mask, entry.source, entry.target)
    return published | mended(networks, sample.picture, result, mask)


def _join(benchmark: Benchmark, out: Path, methods: Sequence[str], side: int | None, networks: Networks) -> None:
    rows: dict[str, dict[str, Values]] = {}
    for method in methods:
        rows[method] = {}
        for entry in benchmark.entries:
            if (path := out / row_file(row_key(entry, method, side, networks))).is_file():
                facts = out / facts_file(entry, method)
                made = from_json(facts.read_bytes()) if facts.is_file() else {}
                rows[method][entry.id] = from_json(path.read_bytes()) | made
    ids = [entry.id for entry in benchmark.entries]
    columns = (*AS_PUBLISHED, *MENDED, *INVERSIONS)
    write(out / CSV, table.csv_text(ids, rows, columns).encode(), "file of results")
    failed = sum(len(ids) - len(found) for found in rows.values())
    words = table.markdown(rows, networks.missing, len(benchmark.left_out), failed, len(ids))
    write(out / TABLE, words.encode(), "table")


# --------------------------------------------------------------------------------------------------------- small things


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.")[:50] or "-"


def key(entry: Entry, method: str) -> str:
    """Of one edit."""
    return f"{slug(entry.id)}.{slug(method)}.{digest(entry, method)}"


def digest(entry: Entry, method: str) -> str:
    """Of one edit: another prompt, picture or mask under the same id has another one."""
    described = repr((entry.content, entry.source, entry.target, entry.mask, entry.blended, entry.id, method))
    return hashlib.sha256(described.encode()).hexdigest()[:8]


def facts_file(entry: Entry, method: str) -> str:
    return f"edits/{key(entry, method)}.json"


def row_key(entry: Entry, method: str, side: int | None, networks: Networks) -> str:
    """Of its measures: once a network can be had that could not, they are computed again."""
    needed = {"dino": networks.self_similarity, "lpips": networks.lpips, "clip": networks.clip_score}
    had = "".join(f".{name}" for name, network in needed.items() if network is not None)
    return f"{key(entry, method)}.{side or 'own'}{had}"


def row_file(name: str) -> str:
    return f"rows/{name}.json"


def to_json(values: Mapping[str, float | None]) -> bytes:
    """NaN and infinity as words."""
    kept = {name: v if v is None or math.isfinite(v) else repr(v) for name, v in values.items()}
    return json.dumps(kept, indent=1).encode()


def from_json(data: bytes) -> Values:
    return {name: None if value is None else float(value) for name, value in json.loads(data).items()}
