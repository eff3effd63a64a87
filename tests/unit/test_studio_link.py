"""Compositions as links."""

import random

import pytest
import torch

from core.errors import RequestError, VisitorError
from core.process import Process
from core.studio.compose import link
from core.studio.compose.composition import MAX_COMPONENTS, Component, Composition
from core.studio.frames import EditOptions, Picture

ON_HUB = f"someone/my.directions@{'0a' * 20}/faces/beard.safetensors"


def test_links_come_back_as_they_went() -> None:
    numbers = random.Random(1)
    keys = ["smiling", "gray-hair", "old", "x1", ON_HUB]
    for _ in range(100):
        components = tuple(
            Component(key, numbers.uniform(-99, 99), numbers.choice([1.0, 0.5, 42.0]), numbers.random() < 0.5)
            for key in numbers.sample(keys, numbers.randint(1, 5))
        )
        composition = Composition(components, locked=numbers.random() < 0.5)
        picture = numbers.choice(["", "portrait-3", "seed-7"])
        process: Process = numbers.choice(["anchored", "paper", "published"])
        model = numbers.choice(["avatars", "someone/Dog_2.0", "someone/Dog@v1.0", f"someone/Dog@{'0a' * 20}"])
        value = link.encode(composition, model, picture, 40, 3, process)
        assert link.decode(value) == link.Restored(model, picture, composition, 40, 3, process)
        assert not set(value) & set(" \"'<>#&+%"), "needs no escaping in an address"


def test_what_a_picture_shows_travels() -> None:
    composition = Composition().add("smiling")
    for prompt in ("a face", "ein Mädchen, 50% ~ & ☂", "x" * link.MAX_PROMPT):
        value = link.encode(composition, "avatars-t2i", "portrait-1", 7, 0, "anchored", prompt)
        assert link.decode(value).prompt == prompt
        assert not set(value) & set(" \"'<>#&+%")
    with pytest.raises(RequestError, match="fewer words"):
        link.encode(composition, "avatars-t2i", "portrait-1", 7, 0, "anchored", "x" * (link.MAX_PROMPT + 1))
    value = link.encode(composition, "avatars-t2i", "portrait-1", 7, 0, "anchored", "a face")
    letters = value.split("~")[5]
    for damaged in ("", "a", "%%", "AAAA", "_" * 700):  # AAAA: zeros, which no prompt has in it
        with pytest.raises(RequestError, match="damaged"):
            link.decode(value.replace(letters, damaged))
    seen = Picture(torch.zeros(1, 3, 8, 8), "avatars-t2i", example="portrait-1", prompt="a face")
    assert link.decode(link.one_direction("smiling", 1.0, seen, EditOptions())).prompt == "a face"
    other = Picture(torch.zeros(1, 3, 8, 8), "avatars", example="portrait-1", prompt="a face")
    assert link.one_direction("smiling", 1.0, other, EditOptions()).startswith("2~")


def test_own_directions_do_not_travel() -> None:
    mixed = Composition().add("smiling").add("own-1")
    assert [c.key for c in link.decode(link.encode(mixed, "avatars", "", 40, 0)).composition.components] == ["smiling"]
    with pytest.raises(RequestError, match="Your own directions stay with you"):
        link.encode(Composition().add("own-1"), "avatars", "", 40, 0)


GOOD = "2~avatars~portrait-1~40~0~smiling:1"
HOSTILE = [
    "",
    "2",
    "x" * 10_000,
    GOOD.replace("avatars", "../../etc"),
    GOOD.replace("avatars", "<script>"),
    GOOD.replace("avatars", "avatars (elf)"),
    GOOD.replace("avatars", "folder-Dog-0a1b2c3d"),
    GOOD.replace("avatars", "a/b/c"),
    GOOD.replace("avatars", "../b"),
    GOOD.replace("avatars", "a/b@../c"),
    GOOD.replace("avatars", "https://a/b"),
    GOOD.replace("portrait-1", "../portrait-1"),
    GOOD.replace("portrait-1", "/etc/passwd"),
    GOOD.replace("40", "99999"),
    GOOD.replace("~0~", "~-1~"),
    GOOD.replace("smiling:1", "smiling:nan"),
    GOOD.replace("smiling:1", "smiling:1e9"),
    GOOD.replace("smiling:1", "smiling:1000"),
    GOOD.replace("smiling:1", "smiling"),
    GOOD.replace("smiling:1", "own-1:1"),
    GOOD.replace("smiling:1", "../smiling:1"),
    GOOD.replace("smiling:1", "smiling:1:x"),
    GOOD.replace("smiling:1", "smiling:1\n"),
    GOOD + "~smiling:2",
    GOOD + "~" + "~".join(f"d{i}:1" for i in range(MAX_COMPONENTS)),
    GOOD.replace("smiling:1", "a/b@main/c.safetensors:1"),
    GOOD.replace("smiling:1", f"a/b@{'0' * 40}/../c.safetensors:1"),
    GOOD.replace("smiling:1", f"a/b@{'0' * 40}/c.pth:1"),
    GOOD.replace("smiling:1", f"a/b/c@{'0' * 40}/c.safetensors:1"),
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_links_are_refused_in_words(value: str) -> None:
    with pytest.raises(VisitorError, match="damaged"):
        link.decode(value)


def test_links_of_newer_versions_and_noise() -> None:
    assert link.decode(GOOD).composition == Composition().add("smiling")
    with pytest.raises(RequestError, match="newer"):
        link.decode("4" + GOOD[1:])
    numbers = random.Random(2)
    for _ in range(2000):
        damaged = list(GOOD)
        for _ in range(numbers.randint(1, 4)):
            damaged[numbers.randrange(len(damaged))] = chr(numbers.choice([*range(32, 127), 0, 0x202E, 0x1F600]))
        try:
            restored = link.decode("".join(damaged))
        except VisitorError:
            continue
        assert all(abs(c.strength) <= 100 for c in restored.composition.components)


def test_links_of_version_1_open_with_the_process_of_today() -> None:
    restored = link.decode("1~avatars~portrait-1~40l~3~smiling:1.5~old:-0.5,2:m")
    composition = Composition((Component("smiling", 1.5), Component("old", -0.5, 2.0, muted=True)), locked=True)
    assert restored == link.Restored("avatars", "portrait-1", composition, None, 3, "anchored")
    with pytest.raises(RequestError, match="damaged"):
        link.decode("1~avatars~portrait-1~40p~3~smiling:1.5")


def test_a_link_names_what_it_can_bring_back() -> None:
    pixels = torch.zeros(1, 3, 32, 32)
    assert link.picture_name(Picture(pixels, "small", seed=7)) == "seed-7"
    assert link.picture_name(Picture(pixels, "small", example="portrait-3")) == "portrait-3"
    assert link.picture_name(Picture(pixels, "small")) == link.picture_name(None) == ""
