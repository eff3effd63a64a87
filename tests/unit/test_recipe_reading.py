"""A recipe file: what it says, and every kind of mistake, with its line and field."""

from pathlib import Path

import pytest

from core.errors import RecipeError
from core.recipes.reading import parse_recipe, read_recipe
from core.recipes.recipe import Composition, PictureSource, Purpose, RegionDirection, TextDirection

HERE = Path("/recipes/faces.yaml")

WHOLE = """\
model: avatars
output: made
pictures: {folder: portraits, count: 48}
author: somebody
licence: cc0-1.0
defaults:
  texts: {steps: 20, samples: 48, t_edit: 300}
  regions: {count: 2, size: 32}
directions:
  smiling:
    source: face
    target: smiling face
    l_recon: 6
    rate: 1e-3
    strengths: [1, -1, 2]
    t_start: 0700
    strength_range: [-1, 2]
    purpose: {attribute: smile, part: mouth, also: [blush]}
    note: >
      Small parts take shape
      late.
  sad:
    source: face
    target: sad face
    form: per_timestep
    samples: 8
    latents: random
    t_boost: 0
    corrections: {}
  eyes:
    regions: {left eye: [0.2, 0.3, 0.4, 0.5], mouth: mouth, both: [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]}
    method: projection
    names: [wide, narrow]
    timestep: 600
    picture: one.png
  hair:
    regions: hair
    count: 1
  happy:
    sum: {smiling: 1, wide: -0.5, old/face.safetensors: 0.25}
measure: {count: 4, strengths: [0.5, 1]}
publish: {repository: somebody/faces, private: yes}
"""


def read(text: str) -> object:
    return parse_recipe(text, HERE)


def test_a_whole_recipe() -> None:
    recipe = parse_recipe(WHOLE, HERE)
    assert recipe.model == "avatars"
    assert recipe.output == Path("/recipes/made")
    assert recipe.pictures == PictureSource(Path("/recipes/portraits"), count=48)
    smiling, sad, eyes, hair, happy = recipe.directions
    assert isinstance(smiling, TextDirection)
    training = smiling.training
    assert (training.form, training.steps, training.samples, training.t_edit) == ("implicit", 20, 48, 300)
    assert (training.t_start, training.rate, training.l_recon, training.l_clip) == (700, 1e-3, 6, None)
    assert training.strengths == (1, -1, 2)
    assert smiling.purpose == Purpose("smile", 1, ("blush",), "mouth")
    assert smiling.note == "Small parts take shape late."
    assert isinstance(sad, TextDirection)
    assert (sad.form, sad.training.samples, sad.training.steps, sad.latents, sad.t_boost) == (
        *("per_timestep", 8, 20, "random", 0),
    )
    assert isinstance(eyes, RegionDirection)
    assert [shape.label for shape in eyes.regions] == ["left eye", "mouth", "both"]
    assert eyes.regions[0].boxes == ((0.2, 0.3, 0.4, 0.5),)
    assert eyes.regions[1].part == "mouth"
    assert len(eyes.regions[2].boxes) == 2
    assert (eyes.method, eyes.discovery.count, eyes.size, eyes.count) == ("projection", 2, 32, 6)
    assert eyes.picture == Path("/recipes/one.png")
    assert isinstance(hair, RegionDirection)
    assert (hair.method, hair.count, hair.regions[0].part) == ("contrast", 1, "hair")
    assert isinstance(happy, Composition)
    assert dict(happy.parts) == {"smiling": 1, "wide": -0.5, "old/face.safetensors": 0.25}
    assert recipe.measure is not None
    assert recipe.measure.strengths == (0.5, 1)
    assert recipe.publish is not None
    assert recipe.publish.private
    assert recipe.direction("sad") is sad
    assert len(recipe.texts) == len(recipe.regions) == 2


def test_the_shortest_recipe() -> None:
    recipe = parse_recipe("model: avatars\ndirections: {old: {source: face, target: old face}}\n", HERE)
    assert recipe.output == Path("/recipes/faces")
    (old,) = recipe.texts
    assert (old.training.samples, old.training.steps, old.training.epochs) == (1000, 40, 1), "as in the paper"
    assert (old.training.l_clip, old.training.l_recon, old.training.strengths) == (None, None, (1.0,))


BASE = "model: avatars\ndirections:\n  a: {source: face, target: old face}\n"
MISTAKES = {
    "no such field": ("modle: x\n" + BASE, 1, "modle", "Did you mean model?"),
    "a field of a direction": (BASE[:-2] + ",\n  stepps: 3}", 4, "directions.a.stepps", "Did you mean steps?"),
    "a missing field": ("directions: {a: {source: face, target: b}}", 1, "model", "is missing"),
    "a missing text": ("model: avatars\ndirections:\n  a:\n    source: face", 4, "directions.a.target", "is missing"),
    "no such model": (BASE.replace("avatars", "avatrs"), 1, "model", "no model and no folder “avatrs”"),
    "too small": (BASE[:-2] + ", samples: 0}", 3, "directions.a.samples", "from 1 to 100000, not “0”"),
    "no number": (BASE[:-2] + ", samples: many}", 3, "directions.a.samples", "must be a whole number"),
    "a fraction": (BASE[:-2] + ", epochs: 1.5}", 3, "directions.a.epochs", "must be a whole number"),
    "a number in quotes": (BASE[:-2] + ", epochs: '2'}", 3, "directions.a.epochs", "must be a whole number"),
    "not a number": (BASE[:-2] + ", rate: .nan}", 3, "directions.a.rate", "must be a number above 0"),
    "zero rate": (BASE[:-2] + ", rate: 0}", 3, "directions.a.rate", "must be a number above 0"),
    "zero strength": (BASE[:-2] + ", strengths: [1, 0]}", 3, "directions.a.strengths[2]", "must not be 0"),
    "no choice": (BASE[:-2] + ", form: globl}", 3, "directions.a.form", "Did you mean global?"),
    "a list for a text": (BASE.replace("old face", "[old]"), 3, "directions.a.target", "must be a text, not a list"),
    "an empty text": (BASE.replace("old face", "''"), 3, "directions.a.target", "must not be empty"),
    "a long text": (BASE.replace("old", "o" * 400), 3, "directions.a.target", "has 405 characters"),
    "the same texts": (BASE.replace("old face", "Face"), 3, "directions.a.target", "says the same as the source"),
    "twice": (
        BASE + "  b: {source: face, target: c}\n  a: {}",
        5,
        "directions.a",
        "stands here twice, first in line 3",
    ),
    "one file for two": (BASE + "  A!: {source: face, target: c}", 4, "directions.A!", "would have the file of “a”"),
    "no kind": (BASE + "  b: {note: x}", 4, "directions.b", "must have the fields of one kind"),
    "two kinds": (BASE + "  b: {sum: {a: 1}, source: x, target: y}", 4, "directions.b", "must have the fields of one"),
    "no directions": ("model: avatars\ndirections: {}", 2, "directions", "from 1 to 200 directions"),
    "directions as a list": ("model: avatars\ndirections: [a]", 2, "directions", "each as “name: value”, not a list"),
    "edits that never begin": (
        BASE[:-2] + ", t_edit: 500, t_start: 400}",
        3,
        "directions.a.t_start",
        "is below t_edit",
    ),
    "pictures that are nowhere": (
        BASE[:-2] + ", latents: pictures}",
        3,
        "directions.a.latents",
        "there are no pictures",
    ),
    "two places": (BASE + "pictures: {folder: x, dataset: a/b}", 4, "pictures", "one of the two"),
    "no repository": (BASE + "pictures: {dataset: ab}", 4, "pictures.dataset", "is not the name of a repository"),
    "where to publish": (BASE + "publish:\n  private: true", 5, "publish.repository", "is missing"),
    "no truth": (BASE + "publish: {repository: a/b, private: 2}", 4, "publish.private", "must be true or false"),
    "a default": ("defaults: {texts: {stepz: 2}}\n" + BASE, 1, "defaults.texts.stepz", "Did you mean steps?"),
    "a default's value": ("defaults: {texts: {steps: 1}}\n" + BASE, 1, "defaults.texts.steps", "from 2 to 1000"),
    "no method": (BASE + "  b: {method: contrst, regions: mouth}", 4, "directions.b.method", "Did you mean contrast?"),
    "no region": (BASE + "  b: {method: contrast}", 4, "directions.b.method", "contrast needs regions"),
    "no box": (
        BASE + "  b:\n    regions:\n      m: [0.5, 0, 0.2, 1]",
        6,
        "directions.b.regions.m",
        "with left below right",
    ),
    "a box of three": (
        BASE + "  b: {regions: {m: [0, 0, 1]}}",
        4,
        "directions.b.regions.m",
        "a list of 4 values, not of 3",
    ),
    "outside": (BASE + "  b: {regions: {m: [0, 0, 1, 2]}}", 4, "directions.b.regions.m[4]", "a number from 0 to 1"),
    "too many names": (BASE + "  b: {regions: m, names: [x, y]}", 4, "directions.b.names", "2 names for 1 directions"),
    "a sum of nothing": (BASE + "  b: {sum: {}}", 4, "directions.b.sum", "from 1 to 32 directions"),
    "a sum of what is not there": (BASE + "  b: {sum: {aa: 1}}", 4, "directions.b.sum.aa", "Did you mean a?"),
    "a sum of itself": (BASE + "  b: {sum: {c: 1}}\n  c: {sum: {b: 1}}", 4, "directions.b.sum", "is made of itself"),
    "a correction": (BASE[:-2] + ", corrections: {b: 1}}", 3, "directions.a.corrections.b", "no other direction"),
    "a range": (BASE[:-2] + ", strength_range: [2, 1]}", 3, "directions.a.strength_range", "must rise"),
    "a word for a mapping": (BASE[:-2] + ", purpose: smile}", 3, "directions.a.purpose", "each as “name: value”"),
    "measures": (BASE + "measure: {count: 0}", 4, "measure.count", "from 1 to 100000"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_each_kind_of_mistake_is_told_with_line_and_field(case: str) -> None:
    text, line, place, words = MISTAKES[case]
    with pytest.raises(RecipeError) as told:
        read(text)
    assert f"faces.yaml, line {line}, {place}: " in told.value.message
    assert words in told.value.message
    assert len(told.value.message.splitlines()) == 1, "nothing follows from it that is no mistake of its own"


def test_all_mistakes_at_once_in_order() -> None:
    text = "modle: x\n" + BASE[:-2] + ", samples: 0, form: x}\n  b: {sum: {a: 0, c: 1}}\n"
    with pytest.raises(RecipeError) as told:
        read(text)
    starts = [line.partition(": ")[0] for line in told.value.message.splitlines()]
    assert starts == [
        "faces.yaml, line 1, modle",
        "faces.yaml, line 4, directions.a.form",
        "faces.yaml, line 4, directions.a.samples",
        "faces.yaml, line 5, directions.b.sum.a",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: [", "faces.yaml, line 1: this is not YAML"),
        ("a: b: c", "faces.yaml, line 1: this is not YAML"),
        ("", "faces.yaml is empty"),
        ("- a\n", "a recipe has fields"),
        ("[" * 5000, "this is not YAML"),
        ("a: !!python/object:os.system x", "faces.yaml, line 1, a"),
    ],
)
def test_what_is_no_recipe(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as told:
        read(text)
    assert words in told.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="UTF-8"):
        read_recipe(tmp_path / "binary.yaml")
    (tmp_path / "long.yaml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(RecipeError, match="larger than 1 MB"):
        read_recipe(tmp_path / "long.yaml")


def test_words_that_yaml_takes_for_something_else() -> None:
    recipe = parse_recipe(
        "model: avatars\ndirections:\n  no: {source: on, target: 12, l_clip: 1e-2, t_edit: 010}", HERE
    )
    (one,) = recipe.texts
    assert (one.name, one.source, one.target) == ("no", "on", "12")
    assert (one.training.l_clip, one.training.t_edit) == (0.01, 10)


def test_null_is_left_out_whatever_the_defaults_say() -> None:
    recipe = parse_recipe(WHOLE.replace("    l_recon: 6\n", "    l_recon: 6\n    t_edit: null\n    samples:\n"), HERE)
    training = recipe.texts[0].training
    assert (training.t_edit, training.samples, training.steps) == (None, 1000, 20)


def test_a_fault_that_shows_later_has_its_line() -> None:
    recipe = parse_recipe(WHOLE, HERE)
    assert recipe.wrong("directions.smiling.l_recon", "is bad.").message == (
        "faces.yaml, line 13, directions.smiling.l_recon: is bad."
    )
    line = 1 + WHOLE.splitlines().index("    sum: {smiling: 1, wide: -0.5, old/face.safetensors: 0.25}")
    assert f"line {line}, directions.happy.sum.x" in recipe.wrong("directions.happy.sum.x", "").message


def test_exact_parts() -> None:
    """`{part: NAME}`, alone or behind a label, is no place of that name."""
    for text, label in (("{part: mouth}", "mouth"), ("{lips: {part: mouth}}", "lips")):
        [direction] = parse_recipe(BASE + f"  b: {{regions: {text}}}", HERE).directions[1:]
        assert isinstance(direction, RegionDirection)
        [shape] = direction.regions
        assert (shape.label, shape.part, shape.exact) == (label, "mouth", True)
    for text, words in (("{lips: {prt: mouth}}", "Did you mean part"), ("{part: [0, 1]}", "must be a text")):
        with pytest.raises(RecipeError, match=words):
            parse_recipe(BASE + f"  b: {{regions: {text}}}", HERE)
