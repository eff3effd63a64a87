"""Runs of PIE-Bench: nothing is done twice, whoever stops; several processes give the rows of one; the table."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_text_models import small_text_model
from test_pie_bench_data import item, mapped, picture
from two_processes import run_in_two

from benchmarks import portraits_as_pie_bench
from benchmarks.portrait_edits import cases
from core import cli
from core.errors import RequestError
from core.inversion.solution import InversionSettings
from core.pie_bench import data, published, running, table
from core.pie_bench.measures import AS_PUBLISHED, Networks
from core.pie_bench.running import EditSettings
from core.progress import finish
from core.recipes.team import join_team
from core.recipes.units import Outcome

ROOT = Path(__file__).parents[2]
QUICK = EditSettings(steps=3, seed=7)
SIDE = 16  # of the small model's pictures


def made_folder(folder: Path, count: int = 4) -> data.Benchmark:
    """Edits of the small model's size."""
    items = {}
    for n in range(count):
        picture(folder / data.PICTURES / f"kind/{n}.png", (SIDE, SIDE), seed=n)
        items[f"{n:03d}"] = item(f"kind/{n}.png", mask=[SIDE * 4 + 3, 5, SIDE * 5 + 3, 5])
    return data.read(mapped(folder, items))


def run(benchmark: data.Benchmark, out: Path, *methods: str, **options: object) -> Outcome:
    options = {"model": small_text_model(), "settings": QUICK} | options
    return finish(running.run(benchmark, out, methods, **options))  # type: ignore[arg-type]


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / running.CSV).open(newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if not name.endswith("|seconds")} for row in rows]


def written(out: Path) -> dict[str, int]:
    """When each result and each row was written."""
    files = [path for name in ("pictures", "edits", "rows") for path in (out / name).rglob("*.*")]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in files}


# ------------------------------------------------------------------------------------------------------------- one run


def test_a_run_makes_pictures_rows_and_a_table(tmp_path: Path) -> None:
    benchmark = made_folder(tmp_path / "data")
    out = tmp_path / "out"
    outcome = run(benchmark, out, "direct", "DDIB")
    assert outcome.complete
    rows = rows_of(out)
    assert [row["file_id"] for row in rows] == ["000", "001", "002", "003"]
    assert all(f"{method}|{name}" in rows[0] for method in ("direct", "DDIB") for name in AS_PUBLISHED)
    for n, row in enumerate(rows):
        source = np.array(Image.open(tmp_path / "data" / data.PICTURES / f"kind/{n}.png")) / 255
        mask = benchmark.entries[n].load().mask
        assert mask is not None
        for method in ("direct", "DDIB"):
            [path] = (out / "pictures" / method / "kind").glob(f"{n}.*.png")
            result = np.array(Image.open(path)) / 255
            missed = ((source - result) * ~mask[..., None]) ** 2
            assert float(row[f"{method}|mse_unedit_part"]) == pytest.approx(missed.mean(), rel=1e-4)
            assert row[f"{method}|structure_distance"] == ""  # no network
            assert float(row[f"{method}|evaluations"]) == 3
    words = (out / running.TABLE).read_text()
    assert "4 edits." in words
    assert "| direct |" in words
    assert all(one.name in words and one.source in words for one in published.PUBLISHED)


def test_edits_are_those_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """50 steps, guidance 7.5 and seed 1234 before each; refined attention for 0.4 and 0.6 of the steps; the blended
    words count twice and are blended by, where the prompts have them."""
    assert EditSettings() == EditSettings(50, 7.5, 1234, "refine", 0.4, 0.6, 2.0, False)
    assert EditSettings().inversion == InversionSettings(50, 7.5, seed=1234)
    asked = []

    def seen(model, inversion, targets, settings):
        [target] = targets
        asked.append((target.prompt, dict(target.weights), target.blend, settings.attention, settings.cross_steps))
        return real(model, inversion, targets, settings)

    real = running.edit
    monkeypatch.setattr(running, "edit", seen)
    folder = tmp_path / "data"
    items = {}
    for name, word in (("has", "a cat"), ("lacks", "cat dog"), ("none", "")):
        picture(folder / data.PICTURES / f"{name}.png", (SIDE, SIDE))
        items[name] = item(f"{name}.png", blended_word=word, editing_prompt="a [smiling] a")
    items["has"]["blended_word"] = "cat smiling"
    benchmark = data.read(mapped(folder, items))
    run(benchmark, tmp_path / "out", "direct")
    assert [(weights, blend) for _, weights, blend, *_ in asked] == [
        ({"smiling": 2.0}, ("cat", "smiling")),
        ({}, None),
        ({}, None),
    ]
    assert {(prompt, *rest) for prompt, _, _, *rest in asked} == {("a smiling a", "refine", 0.4)}


def test_results_can_be_kept_as_jpeg_for_the_published_evaluation(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    picture(folder / data.PICTURES / "a/1.jpg", (SIDE, SIDE))
    benchmark = data.read(mapped(folder, {"1": item("a/1.jpg", mask=[])}))
    run(benchmark, tmp_path / "out", "direct", settings=EditSettings(steps=3, jpeg=True))
    with Image.open(tmp_path / "out" / "pictures" / "direct" / "a/1.jpg") as result:
        assert result.format == "JPEG"


def test_two_edits_of_one_picture_are_two_results(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    picture(folder / data.PICTURES / "a.png", (SIDE, SIDE))
    items = {"1": item("a.png", mask=[]), "2": item("a.png", mask=[], editing_prompt="a dog")}
    run(data.read(mapped(folder, items)), tmp_path / "out", "direct")
    made = sorted((tmp_path / "out" / "pictures" / "direct").iterdir())
    assert len(made) == 2
    assert made[0].read_bytes() != made[1].read_bytes()


def test_results_that_were_made_elsewhere(tmp_path: Path) -> None:
    """Prompts, source, reconstruction and result side by side are taken as published; one that is missing is said."""
    benchmark = made_folder(tmp_path / "data", 3)
    theirs = tmp_path / "theirs" / "kind"
    theirs.mkdir(parents=True)
    results = [np.array(Image.open(tmp_path / "data" / data.PICTURES / f"kind/{n}.png")) // 2 for n in range(2)]
    Image.fromarray(results[0]).save(theirs / "0.png")
    Image.fromarray(np.concatenate((results[0], results[0], results[1]), axis=1)).save(theirs / "1.png")
    outcome = finish(running.run(benchmark, tmp_path / "out", results={"theirs": theirs.parent}))
    assert ["no result" in why for why in outcome.failed.values()] == [True]
    rows = rows_of(tmp_path / "out")
    for n in range(2):
        sample = benchmark.entries[n].load()
        assert sample.mask is not None
        missed = ((sample.picture / 255.0 - results[n] / 255.0) * ~sample.mask[..., None]) ** 2
        assert float(rows[n]["theirs|mse_unedit_part"]) == pytest.approx(missed.mean(), rel=1e-4)
    assert rows[2]["theirs|mse_unedit_part"] == ""
    assert "1 results are missing" in (tmp_path / "out" / running.TABLE).read_text()


def test_a_csv_without_masks(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    picture(folder / "a.png", (SIDE, SIDE))
    (folder / "edits.csv").write_text("picture,source,target,mask\na.png,a cat,a dog,\n")
    run(data.read(folder), tmp_path / "out", "direct")
    [row] = rows_of(tmp_path / "out")
    assert row["direct|psnr_unedit_part"] == row["direct|psnr_background"] == "nan"


# ------------------------------------------------------------------------------------------------- stopped, begun again


def test_nothing_is_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the third of four edits, the second call makes two; then a third call makes none, and another network
    is asked of pictures that are there."""
    benchmark, out, made = made_folder(tmp_path / "data"), tmp_path / "out", []
    real = running.make_edit

    def counted(entry, *others):
        if len(made) == 2 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        made.append(entry.id)
        return real(entry, *others)

    stopped: list[bool] = []
    monkeypatch.setattr(running, "make_edit", counted)
    with pytest.raises(KeyboardInterrupt):
        run(benchmark, out, "direct")
    assert len(made) == 2
    before = written(out)
    run(benchmark, out, "direct")
    assert sorted(made) == ["000", "001", "002", "003"]
    assert before.items() <= written(out).items()
    before = written(out)
    run(benchmark, out, "direct")
    assert (len(made), written(out)) == (4, before)
    whole = run(benchmark, tmp_path / "whole", "direct")
    assert whole.complete
    assert without_seconds(rows_of(out)) == without_seconds(rows_of(tmp_path / "whole"))
    run(benchmark, out, "direct", networks=Networks(clip_score=lambda picture, prompt: float(len(prompt))))
    assert len(made) == 8  # the other four were those of the whole run
    assert before.items() <= written(out).items()
    assert rows_of(out)[0]["direct|clip_similarity_target_image"] == repr(float(len("a smiling cat")))


def test_what_fails_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark, out = made_folder(tmp_path / "data", 3), tmp_path / "out"
    real = running.make_edit

    def failing(entry, *others):
        if entry.id == "001":
            raise RequestError("it does not want to")
        return real(entry, *others)

    monkeypatch.setattr(running, "make_edit", failing)
    outcome = run(benchmark, out, "direct")
    assert list(outcome.failed.values()) == ["it does not want to"]
    assert [row["direct|mse_unedit_part"] != "" for row in rows_of(out)] == [True, False, True]


def test_the_result_of_another_prompt_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a result is there already, but of what was asked for before; with `jpeg` both have one name."""
    folder, out = tmp_path / "data", tmp_path / "out"
    made_folder(folder, 1)
    jpeg = EditSettings(steps=3, jpeg=True)
    run(data.read(folder), out, "direct", settings=jpeg)
    items = json.loads((folder / data.MAPPING).read_text())
    items["000"]["editing_prompt"] = "a dog"
    changed = data.read(mapped(folder, items))

    def failing(*_: object) -> None:
        raise RequestError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(running, "make_edit", failing)
        assert list(run(changed, out, "direct", settings=jpeg).failed.values()) == ["not now"]
    assert rows_of(out)[0]["direct|mse_unedit_part"] == ""
    before = (out / "pictures" / "direct" / "kind/0.png").read_bytes()
    assert run(changed, out, "direct", settings=jpeg).complete
    assert (out / "pictures" / "direct" / "kind/0.png").read_bytes() != before


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    benchmark, out = made_folder(tmp_path / "data", 1), tmp_path / "out"
    run(benchmark, out, "direct")
    with pytest.raises(RequestError, match=r"other settings \(steps 3, not 4\)"):
        run(benchmark, out, "direct", settings=EditSettings(steps=4, seed=7))


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    benchmark = made_folder(tmp_path / "data", 1)
    with pytest.raises(RequestError, match="no method “magic”.*latent-TOP as published"):
        run(benchmark, tmp_path / "out", "magic")
    with pytest.raises(RequestError, match="Choose methods"):
        run(benchmark, tmp_path / "out", model=None)
    with pytest.raises(RequestError, match="name of a method"):
        run(benchmark, tmp_path / "out", "direct", results={"direct": tmp_path})
    with pytest.raises(RequestError, match="guidance must lie"):
        EditSettings(guidance=100)


# ------------------------------------------------------------------------------------------------- several processes


def test_two_processes_give_the_rows_of_one(tmp_path: Path) -> None:
    benchmark = made_folder(tmp_path / "data", 5)
    run(benchmark, tmp_path / "one", "direct", "DDIM")

    def main() -> None:
        torch.set_num_threads(1)
        run(benchmark, tmp_path / "two", "direct", "DDIM", team=join_team())

    run_in_two(main, tmp_path)
    assert without_seconds(rows_of(tmp_path / "two")) == without_seconds(rows_of(tmp_path / "one"))
    assert (tmp_path / "two" / running.TABLE).read_text() == (tmp_path / "one" / running.TABLE).read_text()


# ------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portraits")
    portraits_as_pie_bench.write(folder, cases(20))
    return folder


def command(folder: Path, out: Path, *others: str) -> list[str]:
    options = ["--data", folder, "--out", out, "--model", "avatars-t2i", "--steps", "3", *others]
    return ["bench-inversion", *(str(option) for option in options)]


@pytest.mark.slow
def test_twenty_portraits_in_the_layout_of_pie_bench(
    portraits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """End to end by the command, with a picture that cannot be read, which is left out, counted and said."""
    mapping = json.loads((portraits / data.MAPPING).read_text())
    assert len(mapping) == 20
    assert all("[" in item["editing_prompt"] and item["mask"] for item in mapping.values())
    folder = tmp_path / "data"
    (folder / data.PICTURES).mkdir(parents=True)
    (folder / data.PICTURES / portraits_as_pie_bench.FOLDER).symlink_to(
        portraits / data.PICTURES / portraits_as_pie_bench.FOLDER
    )
    (folder / data.PICTURES / "broken.png").write_text("no picture")
    (folder / data.MAPPING).write_text(json.dumps(mapping | {"broken": item("broken.png")}))

    assert cli.main(command(folder, tmp_path / "out", "--methods", "direct")) == 0
    printed = capsys.readouterr()
    assert "20 edits." in printed.out
    assert "1 more were left out" in printed.out
    assert "DINO ViT-B/8 could not be had" in printed.out
    assert "broken is left out" in printed.err
    rows = rows_of(tmp_path / "out")
    assert [row["file_id"] for row in rows] == list(mapping)
    psnr = [float(row["direct|psnr_unedit_part"]) for row in rows]
    printed_mean = printed.out.split("| direct |")[1].split("|")[1]
    assert float(printed_mean) == pytest.approx(np.mean(psnr), abs=0.006)
    assert 10 < min(psnr) <= max(psnr) < 50
    before = written(tmp_path / "out")
    assert cli.main(command(folder, tmp_path / "out", "--methods", "direct")) == 0
    assert written(tmp_path / "out") == before


@pytest.mark.slow
def test_a_killed_command_goes_on(portraits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = command(portraits, out, "--methods", "DDIB", "--limit", "4")
    child = subprocess.Popen([sys.executable, "-m", "core", *arguments], cwd=ROOT)
    until = time.monotonic() + 200
    while not list((out / "edits").glob("*.json")) and child.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = written(out)
    assert cli.main(arguments) == 0
    assert all(row["DDIB|psnr_unedit_part"] for row in rows_of(out))
    after = written(out)
    kept = [name for name in before if name.startswith("edits/")]
    assert kept
    assert all(after[name] == before[name] for name in kept)


def test_the_command_says_what_it_does_not_understand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_folder(tmp_path / "data", 1)
    for others, words in (
        (["--share", "5/4"], "is no share"),
        (["--results", "theirs"], "NAME=FOLDER"),
        (["--methods", "magic"], "no method “magic”"),
        (["--kinds", "7"], "no edit"),
    ):
        assert cli.main(command(tmp_path / "data", tmp_path / "out", *others)) == 1
        assert words in capsys.readouterr().err
    assert cli.main(["bench-inversion", "--data", str(tmp_path / "gone")]) == 1
    assert "There is no folder" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- the table


def test_the_table_multiplies_as_the_paper_does() -> None:
    values = {column.measure: 0.5 for column in (*table.COLUMNS, *table.MENDED_COLUMNS)}
    nothing = dict.fromkeys(values, float("nan"))
    rows = {"direct": {"1": values, "2": dict.fromkeys(values, 1.5), "3": nothing}}
    words = table.markdown(rows, {}, 0, 0, 3)
    assert "| direct | 1000.00 | 1.00 | 1000.00 | 10000.00 | 100.00 | 1.00 | 1.00 | 3 |" in words
    assert "left out" not in words
    assert "| 11.65 | 27.22 | 54.55 |  |  | 25.02 |  |  |" in words


def test_rows_say_what_they_do_not_hold() -> None:
    rows = {"a": {"1": {"m": float("nan"), "n": None}, "2": {"m": float("inf"), "n": 0.25}}}
    assert table.csv_text(["1", "2", "3"], rows, ["m", "n"]).splitlines() == [
        "file_id,a|m,a|n",
        "1,nan,",
        "2,inf,0.25",
        "3,,",
    ]
