"""Words that a model has never read are told, with near ones; those that it has read are not."""

import re

import pytest
import torch

from core import thesaurus
from core.asyrp.prompts import templates
from core.errors import RequestError, quoted
from core.inversion.alignment import scales
from core.models.cards import MODELS
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.studio.invert.targets import read_weights
from core.studio.measuring import image_text
from core.studio.texts import remarks
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
    told = remark(AVATARS, "a smilling man with a xyzzy")
    assert "smiling for “smilling”; face for “man”" in told
    assert "no word near “xyzzy”. Some of those that it does know: smiling" in told
    assert "no word near" not in remark(AVATARS, "a smilling man")


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("smilling", ("smiling",)),
        ("beerd", ("beard",)),
        ("glases", ("glasses",)),
        ("mustache", ("moustache",)),
        ("grandma", ("old", "elderly", "senior")),
        ("ear", ()),
        ("dog", ()),
    ],
)
def test_near_is_what_is_spelled_alike_or_means_the_same(word: str, near: tuple[str, ...]) -> None:
    [one] = unknown_words(AVATARS, word)
    assert one.near == near


def test_every_word_of_the_thesaurus_is_of_use() -> None:
    """What it is asked for is unknown to the model, and what it offers is known."""
    known = known_words(AVATARS)
    for word, offered in thesaurus.MEANINGS.items():
        assert unknown_words(AVATARS, word), word
        assert known.issuperset(offered), word


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("smile " * 300, r"has 1,799 characters, and up to 200 can be used\. Shorten"),
        ("smile " * 30, r"reads the first 26 of its 30 words and ignores the rest, from word 27 on: “smile smile"),
        ("a face with a xyzzy", "never read “xyzzy”"),
        ("smile " * 26, ""),
    ],
)
def test_texts_that_are_too_long_to_train_from(text: str, words: str) -> None:
    said = remarks(AVATARS, "face", text)
    assert len(said) == bool(words)
    for one in said:
        assert re.search(words, one), one
        assert len(one) < 300


def test_the_model_reads_the_words_that_it_is_said_to_read() -> None:
    """What is cut changes no embedding, in the longest template; the last word that is read does."""
    model = image_text(AVATARS)
    longest = max(templates(AVATARS), key=lambda template: len(model.tokenizer.encode(template)))
    text = " ".join(["smiling face with glasses"] * 9)
    read = len(text.split()) - len(model.words_cut(text, templates(AVATARS)).split())
    cut, shorter = (" ".join(text.split()[:n]) for n in (read, read - 1))
    whole, same, other = model.embed_texts([longest.format(t) for t in (text, cut, shorter)])
    assert torch.allclose(whole, same, atol=1e-6)
    assert not torch.allclose(whole, other, atol=1e-3)


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
