"""Tables of results, and what is said of the intervals of a mix."""

from dataclasses import replace

import pytest
import torch

from core.directions import GlobalDirection
from core.intervals import Curves
from core.models.cards import MODELS
from core.presets import Preset
from core.studio.compose.applying import intervals_in_words, intervals_of
from core.studio.compose.pictures import Batch, Sweep
from core.studio.discover.spectrum import Spectrum
from core.studio.edit import intervals_for
from core.studio.edit import intervals_in_words as one_in_words
from core.studio.frames import AttributeReading, EditOptions, Frame, Measures
from tabs.tables import batch_rows, matrix_rows, measured, records, spectrum_rows, sweep_rows

CARD = MODELS["avatars"]
CURVES = CARD.known_or_typical()


def reading(name: str, before: float, after: float) -> AttributeReading:
    return AttributeReading(name, before, after, 0, 1, after - before)


def test_every_attribute_has_its_columns_and_what_is_missing_is_empty() -> None:
    first = Measures(identity=0.9, attributes=(reading("smile", 0.1, 0.8), reading("age", 0.2, 0.3)), in_domain=True)
    second = Measures(distance=0.5, attributes=(reading("age", 0.4, 0.6),))
    rows = measured([{"name": "a"}, {"name": "b", "seed": 3}], [first, second])
    assert rows[0][:6] == ["name", "seed", "s_dir", "identity", "distance", "in_domain"]
    a, b = records(rows)
    assert (a["smile before"], a["smile after"], a["age after"], a["seed"]) == (0.1, 0.8, 0.3, None)
    assert (b["smile before"], b["age before"], b["distance"], b["identity"]) == (None, 0.4, 0.5, None)


def test_a_sweep_goes_row_by_row_in_units_of_its_directions() -> None:
    frames = tuple(Frame(c, torch.zeros(3, 2, 2), Measures(distance=c)) for c in (0.0, 1.0, 2.0, 3.0))
    cells = records(sweep_rows(Sweep("Old", "Sad", (0.0, 75.0), (-1.0, 2.0), frames), (75.0, 2.0)))
    assert [(cell["Old"], cell["Sad"], cell["distance"]) for cell in cells] == [
        (0.0, -0.5, 0.0),
        (1.0, -0.5, 1.0),
        (0.0, 1.0, 2.0),
        (1.0, 1.0, 3.0),
    ]


def test_a_batch_has_a_row_for_every_picture() -> None:
    entries = [{"picture": "a.png", "problem": "no picture"}, {"picture": "b.png", "file": "02-b.png"}]
    frame = Frame(1.0, torch.zeros(3, 2, 2), Measures(identity=0.7))
    a, b = records(batch_rows(Batch(b"", 1, (), {"pictures": entries}, (frame,))))
    assert (a["problem"], a["identity"]) == ("no picture", None)
    assert (b["file"], b["identity"]) == ("02-b.png", 0.7)


def test_tables_of_numbers() -> None:
    assert matrix_rows(["a", "b"], [[1.0, 0.5], [0.5, 1.0]]) == [["", "a", "b"], ["a", 1.0, 0.5], ["b", 0.5, 1.0]]
    rows = records(spectrum_rows([Spectrum("Mouth", (2.0, 1.0), 0.2, 0.5), Spectrum("Rest", (3.0,))]))
    assert [(row["region"], row["number"], row["singular value"]) for row in rows] == [
        ("Mouth", 1, 2.0),
        ("Mouth", 2, 1.0),
        ("Rest", 1, 3.0),
    ]


def made(name: str, t_boost: int | None, t_edit: int = 400) -> Preset:
    direction = GlobalDirection(torch.zeros(1, *CARD.h_shape), 10)
    return Preset(direction, name=name, model="avatars", fingerprint="", t_edit=t_edit, t_boost=t_boost)


def test_boosting_all_the_same() -> None:
    assert isinstance(CURVES, Curves)
    without, with_own, open_ = made("Without", 0), made("Own", 120, 300), made("Open", None)
    wanted = EditOptions(boost=True)
    assert intervals_for(CARD, without, EditOptions()).t_boost == 0
    assert intervals_for(CARD, without, wanted).t_boost == CURVES.t_boost() > 0
    assert intervals_for(CARD, without, wanted).t_edit == 400, "the rest is as the preset says"
    assert intervals_of(CARD, [without, with_own]).t_boost == 0
    assert intervals_of(CARD, [without, with_own], wanted).t_boost == CURVES.t_boost()

    words = intervals_in_words(CARD, [without, with_own])
    assert words.startswith("In force: Without down to t = 400, Own down to t = 300; as they suggest.")
    assert words.endswith("No boosting, because Without suggests none.")
    assert "below t = 120, where all of them allow it" in intervals_in_words(CARD, [with_own, made("More", 200)])
    boosted = intervals_in_words(CARD, [without, with_own], wanted)
    assert f"Quality boosted below t = {CURVES.t_boost()}, by the model's curves." in boosted
    assert "by the model's curves" in intervals_in_words(CARD, [open_, with_own], EditOptions(source="curves"))
    assert intervals_in_words(CARD, []) == ""


@pytest.mark.parametrize("boost", [False, True])
def test_one_direction_says_whose_boosting_it_is(boost: bool) -> None:
    preset, options = made("Without", 0), EditOptions(boost=boost)
    words = one_in_words(preset, options, intervals_for(CARD, preset, options))
    assert ("no boosting" in words) is not boost
    assert ("by the model's curves" in words) is boost
    assert replace(options, boost=not boost) != options
