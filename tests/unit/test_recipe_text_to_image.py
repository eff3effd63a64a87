"""Recipes, evaluation and edits of the command line with a text-to-image model, which is bound to a prompt."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from small_recipes import run, write_recipe

from core import presets
from core.api_directions import between_prompts
from core.cli import main
from core.errors import RecipeError
from core.imaging import to_pil
from core.recipes.reading import read_recipe
from core.studio import library

RECIPE = """\
model: avatars-t2i
prompt: a smiling face
output: made
directions:
  sad: {source: face, target: sad face, steps: 4, samples: 2, batch: 2, t_edit: 600}
  mouth: {regions: mouth, count: 1, size: 8, refine: no}
  both: {sum: {sad: 1, mouth: 0.5}}
measure: false
"""
FILES = [f"directions/avatars-t2i/{name}.safetensors" for name in ("sad", "mouth", "both")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_recipe(tmp_path_factory.mktemp("made"), RECIPE)
    done, _ = run(path)
    done.outcome.require_complete()
    assert list(done.presets) == FILES
    return path.parent / "made"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    example = library.open_example(library.examples("avatars")[0], "avatars")
    path = tmp_path / "pictures" / "portrait.png"
    to_pil(example.pixels)[0].save(path)
    return path


def test_presets_say_what_the_model_was_told(made: Path) -> None:
    for file in FILES:
        preset = presets.load(made / file)
        assert (preset.family, preset.model, preset.prompt) == ("text-to-image", "avatars-t2i", "a smiling face"), file


def test_another_prompt_is_another_direction(made: Path, tmp_path: Path) -> None:
    other = RECIPE.replace("a smiling face", "an old face").replace("  both: {sum: {sad: 1, mouth: 0.5}}\n", "")
    other = "\n".join(line for line in other.splitlines() if "sad:" not in line)
    shutil.copytree(made, tmp_path / "made")
    done, _ = run(write_recipe(tmp_path, other))
    assert [key.partition("-")[0] for key in done.outcome.made] == ["found", "pictures", "preset"], "made anew"
    mouth = presets.load(tmp_path / FILES[1].replace("directions", "made/directions"))
    assert mouth.prompt == "an old face"


def test_edits_and_measures_of_the_command_line(
    made: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "edited.png"
    command = ["apply", str(made / FILES[0]), str(picture), str(out), "--json"]
    assert main(command) == 0
    as_read = json.loads(capsys.readouterr().out)
    assert main([*command, "--force", "--prompt", "a face with glasses"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert as_read["attributes"] != told["attributes"], "the model is told something else"

    folder = tmp_path / "evaluation"
    given = ["--pictures", str(picture.parent), "--out", str(folder), "--prompt", "a face", "--strengths", "1"]
    assert main(["evaluate", *(str(made / file) for file in FILES[:2]), *given]) == 0
    rows = json.loads((folder / "evaluation.json").read_text())["directions"]
    assert [row["attribute"] for row in rows] == ["smile", ""], "nothing says what the mouth's direction is for"
    assert (folder / "evaluation.html").read_text().count("Side effects") == 2


def test_what_is_wrong_with_a_prompt(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, words in (
        (RECIPE.replace("avatars-t2i", "avatars"), "line 2, prompt: only text-to-image models take a prompt"),
        (RECIPE.replace("a smiling face", '""'), "line 2, prompt:"),
        (RECIPE.replace("avatars-t2i", "avatars-t3i"), "avatars-t2i"),
    ):
        with pytest.raises(RecipeError, match=words):
            read_recipe(write_recipe(tmp_path, text))
    portrait = str(library.examples("avatars")[0])
    assert main(["apply", "smiling", portrait, str(tmp_path / "x.png"), "--prompt", "a face"]) == 1
    assert "avatars takes no prompt: leave --prompt out." in capsys.readouterr().err


def test_a_direction_is_the_same_for_both_of_its_presets(made: Path) -> None:
    """The sum carries the parts as they are, with the weights that it says."""
    sad, both = presets.load(made / FILES[0]), presets.load(made / FILES[2])
    ours, theirs = sad.direction.state()[0], both.direction.state()[0]
    shared = [name for name in theirs if any(torch.equal(theirs[name], value) for value in ours.values())]
    assert len(shared) >= len(ours)


COMPARED = """\
model: avatars-t2i
output: made
defaults:
  texts: {steps: 5, samples: 50}
  prompts: {steps: 4, samples: 1}
directions:
  smiling: {source: a sad face, target: a smiling face, form: fitted}
  again: {source: a sad face, target: a smiling face, form: fitted}
  mean: {source: a sad face, target: a smiling face, form: prompts, samples: 3, seed: 7}
  both: {sum: {smiling: 1, mean: 0.5}}
measure: false
"""


def test_what_two_prompts_differ_in_is_that_of_the_library(tmp_path: Path) -> None:
    """Bound to what the recipe says that pictures show, "a face", as edits are."""
    done, _ = run(write_recipe(tmp_path, COMPARED))
    done.outcome.require_complete()
    assert [key.partition("-")[0] for key in done.outcome.made].count("compared") == 2, "the same words are fitted once"
    made = {path.stem: presets.load(path) for path in (tmp_path / "made/directions/avatars-t2i").glob("*")}
    assert made.keys() == {"smiling", "again", "mean", "both"}
    words = "avatars-t2i", "a sad face", "a smiling face"
    references = {
        "smiling": between_prompts(*words, prompt="a face", samples=1, steps=4),
        "mean": between_prompts(*words, fit=False, samples=3, seed=7, steps=4),
    }
    for name, reference in references.items():
        ours, theirs = made[name].direction.state(), reference.direction.state()
        assert ours[1] == theirs[1], name
        assert all(torch.equal(ours[0][key], value) for key, value in theirs[0].items()), name
        for field in ("method", "parameters", "source_text", "target_text", "injection", "strength", "strength_range"):
            assert getattr(made[name], field) == getattr(reference, field), (name, field)
    assert (made["smiling"].name, made["smiling"].prompt) == ("Smiling", "a face")
    assert made["smiling"].measured == references["smiling"].measured
    assert made["again"].measured == made["smiling"].measured


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "model: avatars-t2i",
            "model: avatars",
            "line 7, directions.smiling.form: “fitted” is for text-to-image models",
        ),
        ("target: a smiling face, form: fitted", "target: A sad  face, form: fitted", "target: says the same as the"),
        ("form: fitted}", "form: fitted, epochs: 2}", "directions.smiling.epochs: there is no field of this name"),
        ("form: fitted}", "form: fited}", "must be one of .*prompts, not “fited”. Did you mean fitted?"),
        ("samples: 3, seed", "samples: 0, seed", "directions.mean.samples: must be a whole number from 1 to 200"),
        ("texts: {steps: 5, ", "texts: {form: fitted, ", "defaults.texts.form: must be one of implicit"),
    ],
)
def test_what_is_wrong_with_prompts_to_compare(old: str, new: str, words: str, tmp_path: Path) -> None:
    assert old in COMPARED
    with pytest.raises(RecipeError, match=words):
        read_recipe(write_recipe(tmp_path, COMPARED.replace(old, new)))
