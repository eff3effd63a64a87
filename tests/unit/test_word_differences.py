"""What a target changes of its source, and the same change in another prompt."""

import pytest

from core.inversion.word_differences import carried, differences


@pytest.mark.parametrize(
    ("source", "target", "short"),
    [
        ("a smiling face with short hair", "a sad face with short hair", ["smiling → sad"]),
        ("a pale face", "a pale smiling face", ["+ smiling"]),
        ("a pale face", "a pale face with glasses", ["+ glasses"]),
        ("a face with glasses and short hair", "a face with short hair", ["− glasses"]),
        ("a sad face with short hair", "a happy face with long hair", ["sad → happy", "short → long"]),
        ("a face", "the face", ["a → the"]),
        ("A face", "a  FACE", []),
    ],
)
def test_a_change_in_short(source: str, target: str, short: list[str]) -> None:
    assert list(map(str, differences(source, target))) == short


@pytest.mark.parametrize(
    ("source", "target", "prompt", "expected"),
    [
        (
            "a pale smiling face",
            "a pale sad face",
            "a dark smiling face with curly hair",
            "a dark sad face with curly hair",
        ),
        ("a smiling face", "a sad face", "a pale face", None),
        ("a pale face with short hair", "a pale smiling face with short hair", "a dark face", "a dark smiling face"),
        ("a pale face", "a pale smiling face", "a pale man", "a pale smiling man"),
        ("a face", "a young face", "the face of a man", "the young face of a man"),
        ("pale face", "smiling pale face", "dark face", "smiling dark face"),
        ("a pale face", "a pale face with glasses", "a face with a beard", "a face with a beard and glasses"),
        ("a face with a beard", "a face with a beard and glasses", "a pale face", "a pale face with glasses"),
        ("a face with a beard", "a face", "a pale face with a beard", "a pale face"),
        ("a face, sad", "a face, glad", "a man's face, sad, old", "a man's face, glad, old"),
        ("a sad face with short hair", "a glad face with long hair", "a sad face", None),
        ("a face with short hair", "a face with very short hair", "a portrait of a man", None),
    ],
)
def test_the_same_change_of_another_prompt(source: str, target: str, prompt: str, expected: str | None) -> None:
    assert carried(source, target, prompt) == expected


def test_it_is_the_target_where_the_prompt_is_its_own() -> None:
    source, target = "a smiling woman's face, with glasses", "an old woman's face, with a hat and glasses"
    assert carried(source, target, source) == target
