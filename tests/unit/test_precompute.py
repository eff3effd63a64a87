"""A whole recipe: what comes out, that nothing is computed twice, and what happens when something goes wrong."""

import errno
import io
import json
import os
import random
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_recipes import FILES, SMALL, TINY, assert_alike, launched, run, start_two, visible, write_recipe

from core import presets, tensor_file
from core.cli import main
from core.directions import CompositeDirection, GlobalDirection, ImplicitDirection
from core.errors import RecipeError, ResourceError
from core.evaluation.subject import Subject
from core.models.loader import models
from core.recipes import trained
from core.recipes.precompute import precompute
from core.recipes.reading import read_recipe
from core.recipes.team import HIDDEN, Team
from core.studio.discover.analysis import ANALYSES


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small recipe's results, made by one process without interruption."""
    path = write_recipe(tmp_path_factory.mktemp("whole"))
    done, _ = run(path)
    done.outcome.require_complete()
    assert list(done.presets) == FILES
    return path.parent / "made"


def test_what_comes_out(whole: Path) -> None:
    names = ("smiling", "sad", "hair", "happy")
    assert visible(whole) == sorted(
        [
            *("README.md", "measures.csv", "measures.json", "recipe.yaml"),
            *FILES,
            *(f"figures/avatars/{name}.webp" for name in names),
            *(f"thumbnails/avatars/{name}.webp" for name in names),
        ]
    )
    smiling, sad, hair, happy = (presets.load(whole / file) for file in FILES)
    model = models.get("avatars")
    for preset in (smiling, sad, hair, happy):
        presets.require_model(preset, model)
        assert preset.thumbnail is not None
    assert isinstance(smiling.direction, ImplicitDirection)
    assert isinstance(sad.direction, GlobalDirection)
    assert isinstance(hair.direction, GlobalDirection)
    assert isinstance(happy.direction, CompositeDirection)
    assert (smiling.direction.steps, smiling.t_edit, smiling.name) == (4, 600, "Smiling")
    assert smiling.t_boost == model.card.interval_source().t_boost(), "boosting included, by the curves"
    assert smiling.parameters["l_clip"] == 0.8
    assert smiling.parameters["l_recon"] == 2.697, "as Table 3 has it"
    assert smiling.parameters["samples"] == 4
    assert smiling.parameters["optimiser_steps"] == 2 * 2, "two batches, at 999 and 666"
    assert {
        "smile",
        "own_change",
        "largest_other_change",
        "identity",
        "s_dir",
        "psnr_outside",
    } <= smiling.measured.keys()
    assert smiling.measured["smile"] == smiling.measured["own_change"]
    assert 0 < smiling.measured["identity"] <= 1
    assert {"roir", "identity"} <= hair.measured.keys()
    region = Subject(hair, (0.0, 1.0)).region(model.card.resolution)
    assert region is not None, "what it was found in goes with it, also where that is a part and nothing was drawn"
    assert 0.02 < region.area < 0.4
    assert [part["name"] for part in happy.parameters["parts"]] == ["Smiling", "Hair"]


def test_the_sum_is_the_sum(whole: Path) -> None:
    smiling, _, hair, happy = (presets.load(whole / file) for file in FILES)
    h, emb = (
        torch.randn(2, *models.get("avatars").card.h_shape),
        torch.randn(2, smiling.direction.f_t.temb_proj.in_features),
    )
    expected = smiling.direction.delta_h(h, emb, 666) * smiling.direction.steps
    expected = expected + 0.3 * hair.strength * hair.direction.delta_h(h, emb, 666) * hair.direction.steps
    assert torch.allclose(happy.direction.delta_h(h, emb, 666) * happy.direction.steps, expected, rtol=1e-3, atol=1e-4)


def test_the_folder_says_what_is_in_it(whole: Path) -> None:
    card = (whole / "README.md").read_text()
    assert "| ![Smiling](thumbnails/avatars/smiling.webp) | [Smiling](directions/avatars/smiling.safetensors)" in card
    assert "![Happy](figures/avatars/happy.webp)" in card
    rows = json.loads((whole / "measures.json").read_text())
    assert [row["path"] for row in rows] == FILES
    assert rows[0]["measured"] == presets.load(whole / FILES[0]).measured
    table = (whole / "measures.csv").read_text().splitlines()
    assert table[0].startswith("path,name,kind,method,smile,own_change")
    assert len(table) == 5
    assert (whole / "recipe.yaml").read_text() == SMALL


def test_nothing_is_computed_twice(whole: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in whole.rglob("*.*") if path.is_file() and HIDDEN not in path.parts
    }
    done, _ = run(whole.parent / "faces.yaml")
    assert done.outcome.made == ()
    assert list(done.presets) == FILES
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_changed_field_makes_only_that_again(whole: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, SMALL.replace("output: made", f"output: {whole}"))
    done, _ = run(path)
    assert done.outcome.made == (), "what is computed does not depend on the file's place"
    path.write_text(path.read_text().replace("sad face, samples: 2", "sad face, samples: 2, l_recon: 9"))
    done, _ = run(path)
    assert sorted(key.partition("-")[0] for key in done.outcome.made) == ["averaged", "preset", "trained"]
    assert presets.load(whole / FILES[1]).parameters["l_recon"] == 9
    path.write_text(path.read_text().replace("l_recon: 9", "l_recon: 9, description: New."))
    done, _ = run(path)
    assert [key.partition("-")[0] for key in done.outcome.made] == ["preset"]
    assert presets.load(whole / FILES[1]).description == "New."
    done, _ = run(whole.parent / "faces.yaml")
    assert done.outcome.made == (), "what there was before is still there"
    assert presets.load(whole / FILES[1]).parameters["l_recon"] == 2.682


def test_a_training_goes_on_where_it_was_stopped(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "SAVED_EVERY", 0.0)
    path = write_recipe(tmp_path)
    job = precompute(read_recipe(path), Team())
    for event in job:
        if event.note.startswith("Training: ") and event.note.endswith("75%"):  # a batch and a half of two
            break
    job.close()
    (left,) = (tmp_path / "made" / HIDDEN).glob("*.unfinished")
    _, about = trained.kept.read(left)
    assert about["step"] > 0
    restored = []
    restore = trained.restore
    monkeypatch.setattr(trained, "restore", lambda *arguments: restored.append(restore(*arguments)) or restored[-1])
    done, _ = run(path)
    done.outcome.require_complete()
    assert len(restored) == 1
    assert not left.exists()
    assert_alike(whole, tmp_path / "made", exactly=True)


def test_a_damaged_checkpoint_begins_anew(tmp_path: Path) -> None:
    """It is taken away before the training is touched."""
    file = tmp_path / "trained.unfinished"
    file.write_bytes(b"half of a file")
    assert trained.restore(None, file) == 0.0
    assert not file.exists()


BESIDE = """\
model: avatars
output: made
defaults: {regions: {count: 1, size: 8}}
directions: {mouth: {regions: mouth}, hair: {regions: hair}}
measure: false
"""


def test_what_is_found_does_not_depend_on_what_was_found_before(tmp_path: Path) -> None:
    """In the app a search goes on from an earlier one of the same picture. The entries of a recipe are shared out among
    processes, and have to give the same in each."""
    ANALYSES.clear()
    after = run(write_recipe(tmp_path / "after", BESIDE))[0]
    ANALYSES.clear()
    alone = run(write_recipe(tmp_path / "alone", BESIDE.replace("mouth: {regions: mouth}, ", "")))[0]
    after.outcome.require_complete()
    assert list(alone.presets) == list(after.presets)[1:] == ["directions/avatars/hair.safetensors"]
    found = [presets.load(tmp_path / name / "made" / alone.presets[0]) for name in ("after", "alone")]
    shifts = [preset.direction.state()[0] for preset in found]
    assert all(torch.equal(value, shifts[1][name]) for name, value in shifts[0].items())


def test_what_fails_costs_itself_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SMALL.replace("hair: {regions: hair}", "hair: {regions: feathers}")
    path = write_recipe(tmp_path, text)
    assert main(["precompute", str(path)]) == 1
    printed = capsys.readouterr()
    assert (
        "hair: faces.yaml, line 9, directions.hair.regions: this picture has no part “feathers”. It has: "
        in printed.err
    )
    assert "Everything else is done and kept." in printed.err
    assert [line for line in printed.out.splitlines() if "safetensors" in line] == [
        str(tmp_path / "made" / file) for file in FILES[:2]
    ]
    assert "Happy" not in (tmp_path / "made" / "README.md").read_text(), "it is made of what failed"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, room, written = write_recipe(tmp_path, TINY), [2], os.fsync

    def full(descriptor: int) -> None:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= 1
        written(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(tensor_file.os, "fsync", full)
        done, _ = run(path)
    with pytest.raises(ResourceError, match="No space left on device.*Free some space"):
        done.outcome.require_complete()
    assert not [file for file in (tmp_path / "made").rglob("*") if file.name.endswith(".partial")]
    kept = [file.name for file in (tmp_path / "made" / HIDDEN).glob("*.safetensors")]
    assert len(kept) == 2
    done, _ = run(path)
    assert not {key for key in done.outcome.made if any(name.startswith(key) for name in kept)}
    assert FILES[0] in visible(tmp_path / "made")


PICTURES = """\
model: avatars
output: made
pictures: portraits
directions: {smiling: {source: face, target: smiling face, steps: 4, samples: 9, batch: 2, t_edit: 600}}
measure: false
"""


def test_broken_pictures_are_left_out_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = write_recipe(tmp_path, PICTURES), tmp_path / "portraits"
    folder.mkdir()
    with pytest.raises(RecipeError, match="faces.yaml, line 3, pictures: There are no pictures in"):
        run(path)
    written = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(written, "PNG")
    good = written.getvalue()
    (folder / "a.png").write_bytes(good)
    (folder / "b.png").write_bytes(good[:200])
    (folder / "c.jpg").write_bytes(b"no picture")
    (folder / "d.png").write_bytes(good)
    (folder / "notes.txt").write_text("no picture at all, and no one says it is")
    assert main(["precompute", str(path)]) == 0
    said = capsys.readouterr().err
    assert "2 of 4 pictures cannot be read and are left out. b.png: " in said
    assert "c.jpg: " in said
    preset = presets.load(tmp_path / "made" / FILES[0])
    assert preset.parameters["samples"] == 2
    assert preset.parameters["latents"] == "inverted pictures"


def test_what_the_recipe_names_and_is_not_there(tmp_path: Path) -> None:
    for text, words in (
        (PICTURES, "line 3, pictures: There is no folder"),
        (
            SMALL.replace("measure: {count: 1", "measure: {pictures: nowhere"),
            "line 11, measure.pictures: There is no folder",
        ),
        (SMALL + "shown: nowhere.png\n", "line 13, shown: the picture"),
        (SMALL.replace("size: 8", "size: 8, picture: x.png"), "directions.hair.picture: the picture"),
        (SMALL.replace("hair: 0.3", "x.safetensors: 1"), "directions.happy.sum.x.safetensors: "),
    ):
        with pytest.raises(RecipeError) as told:
            run(write_recipe(tmp_path, text))
        assert words in told.value.message


def test_two_runs_on_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from core.recipes.team import folder_lock

    path = write_recipe(tmp_path)
    with folder_lock(tmp_path / "made", Team()):
        assert main(["precompute", str(path)]) == 1
    assert "Another run works in" in capsys.readouterr().err


def test_shares_of_a_job_array(whole: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    kinds = []
    for k in (1, 2):
        done, _ = run(path, Team(share=(k, 2)))
        done.outcome.require_complete()
        assert done.presets == ()
        kinds.append(sorted(key.partition("-")[0] for key in done.outcome.made))
    assert kinds == [
        ["found", "pictures", "preset", "preset", "sources", "trained"],
        ["averaged", "preset", "trained"],
    ], "smiling and hair, then sad, whose trajectories are there"
    done, _ = run(path)
    assert [key.partition("-")[0] for key in done.outcome.made] == ["preset"], "the sum, which needs what both made"
    assert_alike(whole, tmp_path / "made", exactly=True)


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(2))
def test_one_of_two_processes_is_killed_at_any_moment(kill: int, whole: Path, tmp_path: Path) -> None:
    """KILL_SEED tries other moments; at rest, two processes take some seconds for all of it."""
    chance = random.Random(f"{os.environ.get('KILL_SEED', '')} {kill}")
    path, rank, moment = write_recipe(tmp_path), chance.randrange(2), chance.uniform(0.5, 8)
    processes = start_two(path)
    time.sleep(moment)
    processes[rank].kill()
    for process in processes:
        process.join(120)
        assert process.exitcode is not None, "the other one ends by itself"
    done, _ = run(path)
    done.outcome.require_complete()
    assert_alike(whole, tmp_path / "made")
    assert not [file for file in (tmp_path / "made").rglob("*") if file.suffix in (".partial", ".unfinished")]


@pytest.mark.slow
def test_two_processes_of_accelerate_give_the_same(whole: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    ran = launched("precompute", path)
    assert ran.returncode == 0, ran.stderr
    assert_alike(whole, tmp_path / "made")
    assert ran.stdout.splitlines() == [str(tmp_path / "made" / file) for file in FILES], "one process speaks"
    ran = launched("precompute", write_recipe(tmp_path, SMALL.replace("target: smiling", "target: smiling, x: 1")))
    assert ran.returncode == 1
    assert "faces.yaml, line 7, directions.smiling.x" in ran.stderr
