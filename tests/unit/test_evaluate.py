"""Evaluations: shared out, stopped, resumed, joined, and written."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from held_out import pictures as portraits
from PIL import Image
from small_evaluations import STEPS, STRENGTHS, found_in, gauges, pictures, preset, run
from small_models import small_model

from core import cli
from core.editing import EditSettings, edit, invert
from core.errors import ModelUnavailable, PresetError, RequestError, ResourceError
from core.evaluation import evaluate as evaluating
from core.evaluation.evaluate import edited_at, evaluate, usual_strengths
from core.evaluation.subject import Subject
from core.imaging import to_pixels
from core.intervals import Intervals
from core.models.cards import MODELS, PRESETS
from core.progress import Running, finish
from core.recipes.team import Team
from core.studio import library, measuring
from core.studio.frames import EditOptions
from tests.two_processes import run_in_two


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures(tmp_path / "pictures", 10)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each picture was edited, by its file's name."""
    counted: Counter[str] = Counter()
    load = evaluating.load_pictures

    def counting(files, resolution):  # type: ignore[no-untyped-def]
        counted.update(path.name for path in files)
        return load(files, resolution)

    monkeypatch.setattr(evaluating, "load_pictures", counting)
    return counted


def test_the_figures_are_those_of_all_pictures_at_once(folder: Path, tmp_path: Path) -> None:
    """In batches of 4 of 10 pictures: the means, errors and distances of one plain pass in float64."""
    found = run(folder, tmp_path / "out").found[0]
    model, one = small_model(), preset("Wider", 1)
    originals = torch.cat([to_pixels(path, 32) for path in sorted(folder.iterdir())])
    edited = finish(edited_at(model, Subject(one, STRENGTHS), originals, EditOptions(steps=STEPS)))
    assert edited.shape == (10, 3, 3, 32, 32)
    before = edited[:, 1:2]
    torch.testing.assert_close(before[:, 0], originals, atol=2e-2, rtol=0)  # anchored: the picture itself
    change = (edited - before).double().numpy()
    M = np.zeros((32, 32), bool)
    M[8:24, 8:24] = True
    inside, outside = np.square(change[..., M]).mean((2, 3)), np.square(change[..., ~M]).mean((2, 3))
    expected = {
        "mse": np.square(change).mean((2, 3, 4)),
        "distance": np.abs(change).mean((2, 3, 4)),
        "mse_inside": inside,
        "mse_outside": outside,
    }
    assert (found.count, found.subject.strengths) == (10, STRENGTHS)
    for key, values in expected.items():
        np.testing.assert_allclose(found.means[key], values.mean(0), rtol=1e-3, atol=1e-9, err_msg=key)
        np.testing.assert_allclose(found.errors[key], values.std(0, ddof=1) / np.sqrt(10), rtol=1e-3, atol=1e-9)
    with np.errstate(invalid="ignore"):
        roir = np.sqrt(outside * (~M).sum() / (inside * M.sum()))[:, [0, 2]].mean(0)
    np.testing.assert_allclose(found.means["roir"][[0, 2]], roir, rtol=1e-3)
    assert np.isnan(found.means["roir"][1])
    assert found.frechet is not None
    assert found.frechet[1] == pytest.approx(0, abs=1e-3)
    assert found.frechet[2] > 10 * abs(found.frechet[1])


def test_the_papers_process(folder: Path, tmp_path: Path) -> None:
    """Inverted and edited as in the paper; compared with what comes back at strength 0, not with the picture."""
    model, one = small_model(), preset()
    originals = torch.cat([to_pixels(path, 32) for path in sorted(folder.iterdir())[:2]])
    subject = Subject(one, STRENGTHS)
    edited = finish(edited_at(model, subject, originals, EditOptions(steps=STEPS, process="paper")))
    latent = finish(invert(model, originals, STEPS))
    settings = EditSettings(STEPS, Intervals(300, 0))
    for k, c in enumerate(STRENGTHS):
        expected = finish(edit(model, latent, [(one.direction, c)], settings))
        torch.testing.assert_close(edited[:, k], expected, atol=1e-4, rtol=0)
    found = run(folder, tmp_path / "out", process="paper")
    assert (found.process, found.steps) == ("paper", STEPS)
    zero = found.found[0].subject.zero
    assert found.found[0].means["mse"][zero] == 0
    assert found.found[0].means["reconstruction"][zero] < 60, "a random network reconstructs badly"


def test_nothing_is_computed_twice(folder: Path, tmp_path: Path, calls: Counter[str]) -> None:
    out = tmp_path / "out"
    run(folder, out)
    assert set(calls.values()) == {2}, "once for each of two directions"
    first = (out / "evaluation.csv").read_bytes()
    calls.clear()
    run(folder, out)
    assert not calls
    assert (out / "evaluation.csv").read_bytes() == first


def test_a_stopped_run_goes_on_where_it_was(folder: Path, tmp_path: Path, calls: Counter[str]) -> None:
    """Stopped in the middle of its third unit: that one alone is done again."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(folder, whole)
    calls.clear()
    subjects = [Subject(preset("Wider", 1), STRENGTHS), Subject(preset("Lower", 2), STRENGTHS)]
    options = EditOptions(steps=STEPS)
    job = Running(evaluate(small_model(), subjects, found_in(folder), "pictures", out, gauges(), options, batch=4))
    for _ in job:
        if sum(calls.values()) == 12:  # three units of four pictures were begun
            job.close()
            break
    kept = list((out / evaluating.HIDDEN / "measured").glob("*.npz"))
    assert len(kept) == 2
    run(folder, out)
    assert sum(calls.values()) == 20 + 4
    assert (out / "evaluation.csv").read_bytes() == (whole / "evaluation.csv").read_bytes()


def test_other_settings_are_other_work(folder: Path, tmp_path: Path, calls: Counter[str]) -> None:
    out, subject = tmp_path / "out", Subject(preset(), STRENGTHS)
    run(folder, out, [subject])
    for subjects, how in (
        ([Subject(preset(), (0.0, 1.0))], {}),
        ([Subject(preset(seed=5), STRENGTHS)], {}),
        ([subject], {"process": "paper"}),
        ([subject], {"seed": 1}),
        ([subject], {"t_edit": 400}),
    ):
        calls.clear()
        run(folder, out, subjects, **how)
        assert sum(calls.values()) == 10
    calls.clear()
    picture = Image.open(folder / "0003.png").rotate(90)
    picture.save(folder / "0003.png")
    run(folder, out, [subject])
    assert set(calls) == {"0000.png", "0001.png", "0002.png", "0003.png"}, "the batch of the picture that was changed"


def test_a_unit_that_fails_costs_itself_only(
    folder: Path, tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = evaluating.measure

    def failing(gauges, subject, originals, edited):  # type: ignore[no-untyped-def]
        if subject.preset.name == "Lower" and sum(calls.values()) == 8:
            raise ResourceError("There is no memory left.")
        return measure(gauges, subject, originals, edited)

    monkeypatch.setattr(evaluating, "measure", failing)
    with pytest.raises(ResourceError, match="Lower, pictures 1 to 4: There is no memory left"):
        run(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "evaluation.csv").exists()
    monkeypatch.setattr(evaluating, "measure", measure)
    calls.clear()
    run(folder, tmp_path / "out")
    assert sum(calls.values()) == 4


# ----------------------------------------------------------------------------------------------------------- pictures


def test_broken_pictures_are_left_out_counted_and_said(folder: Path, tmp_path: Path) -> None:
    whole = run(folder, tmp_path / "whole", batch=3)
    (folder / "0000a.png").write_bytes(b"no picture")
    (folder / "0005a.jpg").write_bytes((folder / "0005.png").read_bytes()[:200])
    (folder / "small.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture's name")
    (folder / ".hidden.png").write_bytes(b"")
    found = run(folder, tmp_path / "out", batch=3)
    assert found.count == whole.count == 10
    assert [name for name, _ in found.left_out] == ["0000a.png", "0005a.jpg", "small.png"]
    assert "not a picture" in found.left_out[0][1]
    for a, b in zip(found.found, whole.found, strict=True):
        for key, values in b.means.items():
            np.testing.assert_allclose(a.means[key], values, rtol=1e-4, atol=1e-7, err_msg=key)
    said = json.loads((tmp_path / "out" / "evaluation.json").read_text())["pictures"]
    assert said["used"] == 10
    assert len(said["left_out"]) == 3
    assert "0005a.jpg" in (tmp_path / "out" / "evaluation.html").read_text()


def test_without_a_picture_that_can_be_read(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / f"a{n}.png").write_bytes(b"x")
    with pytest.raises(RequestError, match="no picture"):
        run(tmp_path, tmp_path / "out")


def test_shares_of_the_work_are_joined_by_whoever_is_last(folder: Path, tmp_path: Path, calls: Counter[str]) -> None:
    """As in a job array: each run has a share and waits for nobody."""
    run(folder, tmp_path / "whole")
    calls.clear()
    subjects = [Subject(preset("Wider", 1), STRENGTHS), Subject(preset("Lower", 2), STRENGTHS)]
    options, out = EditOptions(steps=STEPS), tmp_path / "out"
    ended = []
    for k in (1, 2, 3):
        before = sum(calls.values())
        team = Team(share=(k, 3))
        job = evaluate(small_model(), subjects, found_in(folder), "pictures", out, gauges(), options, team, batch=4)
        ended.append(finish(job))
        assert sum(calls.values()) > before
    assert [one is None for one in ended] == [True, True, False]
    assert sum(calls.values()) == 20, "nothing twice"
    assert (out / "evaluation.csv").read_bytes() == (tmp_path / "whole" / "evaluation.csv").read_bytes()


def test_what_cannot_be_evaluated_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="same name"):
        run(folder, tmp_path / "out", [Subject(preset(), STRENGTHS)] * 2)
    from dataclasses import replace

    with pytest.raises(PresetError, match="other weights"):
        run(folder, tmp_path / "out", [Subject(replace(preset(), fingerprint="1" * 16), STRENGTHS)])


def test_the_usual_strengths() -> None:
    assert usual_strengths(library.named_preset("avatars", "smiling")) == (-1.0, 0.0, 1.0, 2.0)
    assert usual_strengths(library.named_preset("avatars", "glasses")) == (0.0, 0.5, 1.0, 1.5, 2.0)


# ------------------------------------------------------------------------------------------------------------- memory

MEASURE_MEMORY = """
import resource, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from small_evaluations import run, preset, pictures, STRENGTHS
from core.evaluation.subject import Subject
run(Path({few!r}), Path({out!r}) / "warm", [Subject(preset(), STRENGTHS)])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(Path({many!r}), Path({out!r}) / "many", [Subject(preset(), STRENGTHS)])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    """Of 24 pictures and then of 400 in one process: what the edits of 376 pictures hold would be 18 MB more."""
    few, many = pictures(tmp_path / "few", 24), pictures(tmp_path / "many", 400)
    here = Path(__file__).parent
    code = MEASURE_MEMORY.format(
        paths=[str(here.parents[1]), str(here)], few=str(few), many=str(many), out=str(tmp_path)
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert int(ran.stdout.splitlines()[-1]) < 9 * 1024, "kilobytes"


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def portrait_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portraits")
    for n, picture in enumerate(portraits(5)):
        Image.fromarray(picture).save(folder / f"{n}.png")
    return folder


COMMAND = ("smiling", "glasses", "--steps", "4", "--strengths", "-1", "1", "--batch", "2")


@pytest.mark.slow
def test_two_processes_give_the_same_table(
    portrait_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `accelerate launch --cpu --num_processes 2` runs the command."""
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert cli.main(["evaluate", *COMMAND, "--pictures", str(portrait_files), "--out", str(alone)]) == 0
    printed = capsys.readouterr().out
    assert "Smiling" in printed
    assert f"{alone / 'evaluation.html'}" in printed

    def main() -> None:
        assert cli.main() == 0

    told = run_in_two(main, tmp_path, "evaluate", *COMMAND, "--pictures", portrait_files, "--out", both)
    assert told.count("evaluation.html") == 1, "one of them tells of it"
    assert (both / "evaluation.csv").read_bytes() == (alone / "evaluation.csv").read_bytes()
    rows = list(csv.DictReader(io.StringIO((both / "evaluation.csv").read_text())))
    assert [(row["direction"], row["strength"]) for row in rows] == [
        (name, c) for name in ("Smiling", "Glasses") for c in ("-1", "0", "1")
    ]
    up, down = (next(r for r in rows if r["direction"] == "Smiling" and r["strength"] == c) for c in ("1", "-1"))
    assert float(up["own"]) > 0.2 > 0 > float(down["own"])
    assert (up["model"], up["process"], up["steps"], up["attribute"], up["part"]) == (
        "avatars", "anchored", "4", "smile", "Mouth",
    )  # fmt: skip
    found = json.loads((both / "evaluation.json").read_text())
    assert found["not_measured"] == []
    assert len(found["directions"][0]["attributes"]) == 20


@pytest.mark.slow
def test_only_pictures_that_lack_it(portrait_files: Path, tmp_path: Path) -> None:
    """Of one batch some, of another one none: what is left is what a folder without the others gives."""
    probe = measuring.probe(MODELS["avatars"])
    assert probe is not None
    files = sorted(portrait_files.iterdir())
    frowns = [p for p in files if probe.attributes(to_pixels(p, 128))["smile"] < probe.known["smile"].mean]
    smiles = [p for p in files if p not in frowns]
    assert smiles
    assert len(frowns) >= 2
    (mixed := tmp_path / "mixed").mkdir()
    (some := tmp_path / "some").mkdir()
    for n, path in enumerate([*smiles[:2], *smiles[:2], *frowns[:2]]):
        shutil.copy(path, mixed / f"{n}.png")
    for n, path in enumerate(frowns[:2]):
        shutil.copy(path, some / f"{n}.png")
    means = []
    for folder, more in ((mixed, ["--lacking"]), (some, [])):
        out = folder / "out"
        arguments = ["smiling", "--steps", "4", "--strengths", "1", "--batch", str(len(smiles[:2])), *more]
        assert cli.main(["evaluate", *arguments, "--pictures", str(folder), "--out", str(out)]) == 0
        rows = list(csv.DictReader((out / "evaluation.csv").open()))
        assert [row["pictures"] for row in rows] == ["2", "2"]
        means.append([float(rows[1][key]) for key in ("own", "identity", "distance", "roir")])
    assert means[0] == pytest.approx(means[1], rel=0.02)
    all_smile = tmp_path / "smiles"
    all_smile.mkdir()
    shutil.copy(smiles[0], all_smile)
    assert (
        cli.main(["evaluate", *arguments, "--lacking", "--pictures", str(all_smile), "--out", str(all_smile / "o")])
        == 0
    )
    assert "None of the pictures lacks" in (all_smile / "o" / "evaluation.html").read_text()


RECIPE = """
model: avatars
output: made
directions:
  smiling: {source: face, target: smiling face, purpose: {attribute: smile, part: mouth, also: [mouth_open, age]}}
  closed eyes: {source: face, target: face with closed eyes, purpose: {attribute: eye_open, sign: -1, part: cheeks}}
  beard: {source: face, target: face with a beard}
measure: {pictures: PICTURES, count: 2, strengths: [1]}
"""


@pytest.mark.slow
def test_a_recipe_says_what_is_measured_on_what(
    portrait_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, made, out = tmp_path / "faces.yaml", tmp_path / "made", tmp_path / "out"
    recipe.write_text(RECIPE.replace("PICTURES", str(portrait_files)))
    command = ["evaluate", str(recipe), "--steps", "4", "--out", str(out)]
    assert cli.main(command) == 1
    assert "hspace precompute" in capsys.readouterr().err, "nothing was made yet"
    for name in ("smiling", "closed-eyes"):
        folder = made / "directions" / "avatars"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(PRESETS / "directions" / "avatars" / f"{name}.safetensors", folder)
    (made / ".work").mkdir()
    shutil.copy(PRESETS / "directions" / "avatars" / "old.safetensors", made / ".work")
    (made / "broken.safetensors").write_bytes(b"broken")
    assert cli.main(command) == 0
    said = capsys.readouterr().err
    assert "beard is not made yet" in said
    assert "broken.safetensors" in said
    assert "the part “cheeks”" in said
    found = json.loads((out / "evaluation.json").read_text())
    eyes, smiling = found["directions"]
    assert (eyes["direction"], eyes["attribute"], eyes["sign"], eyes["part"]) == ("Closed eyes", "eye_open", -1, "Eyes")
    assert (smiling["part"], smiling["implied"]) == ("Mouth", ["mouth_open", "age"])
    assert not {row["other_attribute"] for row in smiling["strengths"]} & {"smile", "mouth_open", "age"}
    assert [row["strength"] for row in smiling["strengths"]] == [0, 1]
    assert found["pictures"]["used"] == 2
    assert cli.main(["evaluate", str(recipe), "smiling"]) == 1
    assert "one recipe" in capsys.readouterr().err


def test_the_command_says_what_is_wrong(
    portrait_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    pictures_of = ["--pictures", str(portrait_files)]
    for arguments, words in (
        (["smiling", *out], "--pictures"),
        (["smiling", "--pictures", str(tmp_path / "absent"), *out], "absent"),
        (["smiling", *pictures_of, "--attribute", "nose", *out], "attribute “nose”"),
        (["smiling", *pictures_of, "--part", "Tail", *out], "part “Tail”"),
        (["smiling", *pictures_of, "--count", "0", *out], "--count"),
        (["smiling", *pictures_of, "--share", "3/2", *out], "3/2"),
        (["smiling", *pictures_of, "--identity", str(tmp_path / "absent.onnx"), *out], "absent.onnx"),
        (["purple", *pictures_of, *out], "purple"),
        ([str(portrait_files), *pictures_of, *out], "no presets"),
    ):
        assert cli.main(["evaluate", *arguments]) == 1
        assert words in capsys.readouterr().err


def test_an_unavailable_embedding_is_no_surprise_at_the_end() -> None:
    from core.evaluation.gauges import gauges_of
    from core.models.cards import MODELS

    with pytest.raises(ModelUnavailable):
        gauges_of(MODELS["avatars"], embedding=Path("absent.onnx"))
