"""Directions that visitors train: what they ask for is checked, and names are suggested."""

import pytest
from small_models import small_model

from core.asyrp.prompts import suggested_name
from core.errors import RequestError
from core.studio.train import start_training, training_settings


@pytest.mark.parametrize(
    ("form", "samples", "steps", "l_clip"),
    [("odd", 32, 20, 1.0), ("global", 3, 20, 1.0), ("global", 32, 500, 1.0), ("global", 32, 20, 50.0)],
)
def test_training_settings_are_checked(form: str, samples: int, steps: int, l_clip: float) -> None:
    with pytest.raises(RequestError):
        training_settings(form, samples, steps, l_clip)


def test_a_text_that_is_too_long() -> None:
    with pytest.raises(RequestError, match="201 characters; up to 200"):
        start_training(small_model(), "face", "x" * 201, training_settings("global", 4, 8))


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("face", "smiling face", "Smiling"),
        ("face", "face with a red beard", "Red beard"),
        ("church", "a Gothic church", "Gothic"),
        ("person", "Nicolas Cage", "Nicolas Cage"),
        ("face", "face", "face".capitalize()),
        ("face", "x" * 200, "X" + "x" * 59),
    ],
)
def test_suggested_names(source: str, target: str, name: str) -> None:
    assert suggested_name(source, target) == name
