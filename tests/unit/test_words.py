"""Words that a model has never read are told, with near ones; those that it has read are not."""

import pytest

from core.errors import RequestError, quoted
from core.inversion.alignment import scales
from core.models.cards import MODELS
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.studio.invert.targets import read_weights
from core.studio.words import known_words, remark, unknown_words

AVATARS = MODELS["avatars"]


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a dog on a skateboard", ["dog", "skateboard"]),
        ("ein lachendes Gesicht", ["ein", "lachendes", "gesicht"]),
        ("xyzzy " * 100, ["xyzzy"]),
        ("улыбка", ["улыбка"]),
        ("a smiling face with glasses and a red beard", []),
        ("an OLD face, with blond hair!", []),
        ("smiling faces", []),
        ("", []),
    ],
)
def test_unknown_words(text: str, unknown: list[str]) -> None:
    assert [one.word for one in unknown_words(AVATARS, text)] == unknown
    assert bool(remark(AVATARS, text)) == bool(unknown)


def test_near_words_are_offered() -> None:
    [typo] = unknown_words(AVATARS, "a smilling face")
    assert "smiling" in typo.near
    assert "smiling for “smilling”" in remark(AVATARS, "a smilling face")
    assert "Words that it knows: smiling" in remark(AVATARS, "xyzzy")


def test_every_word_of_the_captions_is_known_to_both_models() -> None:
    for card in (AVATARS, TEXT_TO_IMAGE["avatars-t2i"]):
        assert {"glasses", "beard", "smiling"} <= known_words(card)


def test_of_models_that_have_read_the_web_nothing_is_said() -> None:
    others = [card for card in (*MODELS.values(), *TEXT_TO_IMAGE.values()) if card.instruments is None]
    assert others
    for card in others:
        assert known_words(card) is None
        assert remark(card, "xyzzy") == ""


def test_long_words_of_a_visitor_are_not_quoted_at_length() -> None:
    long = "a smiling face with glasses " * 80

    class Model:
        length = 77

        def token_counts(self, words: list[str]) -> list[int]:
            return [1] * len(words)

    said = [quoted(long), remark(AVATARS, "x" * 1500)]
    for ask in (lambda: read_weights(long), lambda: scales(Model(), long, {"xyzzy": 2.0})):
        with pytest.raises(RequestError) as caught:
            ask()
        said.append(caught.value.message)
    assert all(len(words) < 300 for words in said), said
    assert quoted("a\nshort one") == "“a short one”"
    assert quoted(long) == "“a smiling face with glasses a smiling face with glasses a …”"
