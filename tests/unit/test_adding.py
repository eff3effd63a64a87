"""docs/adding.md, done as it says: its files and its lines, and what then works without anything else."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import gradio as gr
import pytest
import torch
from small_models import small_model
from small_text_models import toy_text_model

import app
from core.discovery import methods as discovery_methods
from core.inversion import editing, saved
from core.inversion import methods as inversion_methods
from core.inversion.editing import PromptEditSettings, Target
from core.presets import load, save
from core.progress import finish
from core.regions import Region
from core.studio.discover.exploration import Exploration
from core.studio.discover.preset import as_preset
from core.studio.discover.search import explore
from core.studio.frames import Picture

TEXT = (Path(__file__).parents[2] / "docs" / "adding.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(core/\w+/\w+\.py)`:\n\n```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
LINES = dict(
    re.findall(r"^In `(core/\w+/methods\.py)`, import .*\n\n```python\n(.*)\n```$", TEXT, re.MULTILINE)
)  # fmt: skip


def add(patch: pytest.MonkeyPatch, file: str, methods: ModuleType) -> str:
    """Put a file of the document into its package and its line into the package's list. Returns the method's name."""
    name = file.removesuffix(".py").replace("/", ".")
    package, _, stem = name.rpartition(".")
    module = ModuleType(name)
    module.__dict__.update(__package__=package, __file__=file)
    patch.setitem(sys.modules, name, module)
    patch.setattr(importlib.import_module(package), stem, module, raising=False)
    exec(compile(FILES[file], file, "exec"), module.__dict__)

    source = Path(methods.__file__).read_text(encoding="utf-8")
    line = LINES[f"{package.replace('.', '/')}/methods.py"]
    assert line == f"{stem}.METHOD,"
    listing = r"(METHODS: .*\n    .+\n    for .* in \(\n(?:        .+\n)+)"
    edited, count = re.subn(listing, rf"\1        {line}\n", source)
    assert count == 1
    edited = edited.replace("\nfrom . import", f"\nfrom . import {stem}\nfrom . import", 1)
    after = {"__name__": methods.__name__, "__package__": package}
    exec(compile(edited, "methods.py", "exec"), after)
    [(added, method)] = [item for item in after["METHODS"].items() if item[0] not in methods.METHODS]
    patch.setitem(methods.METHODS, added, method)
    return added


@pytest.fixture(scope="module")
def brightness() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        yield add(patch, "core/discovery/brightness.py", discovery_methods)


@pytest.fixture(scope="module")
def tethered() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        yield add(patch, "core/inversion/tethered.py", inversion_methods)


def test_the_document_has_a_file_and_a_line_for_each_kind() -> None:
    assert FILES.keys() == {"core/discovery/brightness.py", "core/inversion/tethered.py"}
    assert LINES.keys() == {"core/discovery/methods.py", "core/inversion/methods.py"}


def test_a_new_direction_method_searches_edits_and_is_kept(brightness: str, tmp_path: Path) -> None:
    model = small_model()
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(32, 32, dtype=torch.bool).numpy()
    mask[8:24, 4:16] = True
    region = Region("eye", mask, boxes=((0.125, 0.25, 0.5, 0.75),))
    exploration = Exploration(model, Picture(pixels, model.card.id), [region], brightness, size=16)
    [row] = finish(explore(exploration)).rows
    assert row.region.label == "eye"
    assert row.frames is not None

    darker, same, brighter = row.frames[:, :, torch.from_numpy(mask)].mean((1, 2)).tolist()
    assert darker < same < brighter  # what it promises; frames are those at -, 0 and + its strength

    kept = load(save(as_preset(exploration, row), tmp_path / "eye.safetensors"))
    assert kept.method == "brightness"
    h = torch.zeros(1, *model.card.h_shape)
    pair = (direction.delta_h(h, torch.zeros(1, 1), 500) for direction in (kept.direction, row.found.direction))
    torch.testing.assert_close(*pair)


def test_a_new_inversion_method_inverts_edits_and_is_kept(tethered: str, tmp_path: Path) -> None:
    model = toy_text_model()
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    settings = inversion_methods.InversionSettings(steps=8, guidance=3.0)
    inversion, untethered = (
        finish(inversion_methods.invert(model, pixels, "a photo of a cat", method, settings))
        for method in (tethered, "DDIB")
    )
    assert inversion.measures["psnr"] > untethered.measures["psnr"] + 1  # what it promises

    dog, settings = [Target("a photo of a dog")], PromptEditSettings(attention="none")
    edited = finish(editing.edit(model, inversion, dog, settings))
    again = saved.load(saved.save(inversion, tmp_path / "inverted.safetensors"))
    assert (again.method, again.solution.decoder) == ("tethered", inversion.solution.decoder)
    torch.testing.assert_close(finish(editing.reconstruct(model, again)), inversion.reconstruction)
    torch.testing.assert_close(finish(editing.edit(model, again, dog, settings)), edited)


def test_the_page_and_the_endpoints_offer_both(brightness: str, tethered: str) -> None:
    choices = [
        (block.label, block.elem_id, block.choices)
        for block in app.build().blocks.values()
        if isinstance(block, gr.Dropdown | gr.CheckboxGroup)
    ]
    tabs = {id_: offered for _, id_, offered in choices if id_ in ("method", "methods")}
    assert ("Brightness: lighter or darker", brightness) in tabs["method"]
    assert ("Tethered", tethered) in tabs["methods"]
    methods = [offered for label, id_, offered in choices if (label or "").startswith("Method") and not id_]
    endpoints = [{value for _, value in offered} for offered in methods]
    for name in (brightness, tethered):
        assert any(name in offered for offered in endpoints)
