"""Blending by words against the arithmetic of prompt-to-prompt's code, written out, and in an edit."""

import numpy as np
import pytest
import torch
from small_text_models import LENGTH, small_text_model

from core.attention_control import StepControl
from core.errors import RequestError
from core.inversion import editing
from core.inversion import word_blend as word_blends
from core.inversion.editing import PromptEditSettings, Target, edit, word_blend
from core.inversion.methods import invert
from core.inversion.sampler import denoise_batch
from core.inversion.solution import InversionSettings
from core.inversion.word_blend import WordBlend
from core.progress import finish

SIDE, L = 8, 6


def plain_mask(steps: list[np.ndarray], source: list[int], target: list[int], size: int) -> np.ndarray:
    """Where the target may differ. steps: maps (2, heads, 64, L) of the source and the target, one per layer and step;
    source, target: tokens of the word."""
    there = np.zeros((size, size), bool)
    for row, tokens in ((0, source), (1, target)):
        total = np.zeros((SIDE, SIDE))
        for maps in steps:
            for token in tokens:
                total += maps[row, :, :, token].sum(0).reshape(SIDE, SIDE)
        pooled = np.zeros((SIDE, SIDE))
        for i in range(SIDE):
            for j in range(SIDE):
                pooled[i, j] = total[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max()
        enlarged = np.kron(pooled, np.ones((size // SIDE, size // SIDE)))
        there |= enlarged / enlarged.max() > 0.3
    return there


def drawn_maps(count: int, rows: int = 2) -> list[np.ndarray]:
    """Attention to each word in a place of its own, and a little noise."""
    drawn = np.random.default_rng(3)
    places = np.zeros((rows, 1, SIDE * SIDE, L))
    for row in range(rows):
        places[row, 0, drawn.integers(0, SIDE * SIDE, L), range(L)] = 1
    return [places + 0.2 * drawn.random((rows, 3, SIDE * SIDE, L)) for _ in range(count)]


def test_the_mask_is_that_of_the_code_of_prompt_to_prompt() -> None:
    source, target = torch.zeros(1, L), torch.zeros(1, L)
    source[0, 2] = target[0, 3] = target[0, 4] = 1
    blend, maps = WordBlend(source, target), drawn_maps(5)
    for layer in maps:
        blend.record(torch.from_numpy(layer))
    found = blend.mask((16, 16), 3, 10)
    assert found is not None
    assert found.shape == (2, 1, 16, 16)
    assert found[0].all()
    expected = plain_mask(maps, [2], [3, 4], 16)
    assert 0 < expected.sum() < 256
    assert np.array_equal(found[1, 0].numpy() == 1, expected)


def test_nothing_is_blended_at_the_beginning() -> None:
    blend = WordBlend(torch.ones(1, L), torch.ones(1, L))
    assert blend.mask((16, 16), 5, 10) is None  # nothing was recorded
    blend.record(torch.from_numpy(drawn_maps(1)[0]))
    assert [blend.mask((16, 16), done, 50) is None for done in (1, 10, 11, 50)] == [True, True, False, False]


def test_every_target_has_its_own_word() -> None:
    tokens = [torch.zeros(3, L), torch.zeros(3, L)]
    tokens[0][0, 1] = tokens[1][0, 2] = tokens[0][2, 4] = tokens[1][2, 5] = 1  # the second target has none
    blend, maps = WordBlend(*tokens), drawn_maps(4, rows=4)
    for layer in maps:
        blend.record(torch.from_numpy(layer))
    found = blend.mask((16, 16), 9, 10)
    assert found is not None
    for row, words in ((1, ([1], [2])), (3, ([4], [5]))):
        pairs = [layer[[0, row]] for layer in maps]
        assert np.array_equal(found[row, 0].numpy() == 1, plain_mask(pairs, *words, 16))
    assert found[2].all()


def test_a_control_records_maps_as_they_are_used() -> None:
    maps = torch.rand(4, 2, 16, LENGTH)  # an unconditional row, the source and two targets
    kept: list[torch.Tensor] = []
    half = torch.full((2, LENGTH), 0.5)
    control = StepControl(
        2, torch.eye(LENGTH).expand(2, -1, -1), half, torch.ones(2, LENGTH), record=kept.append, recorded_tokens=16
    )
    changed = control.apply(maps, cross=True)
    assert torch.equal(kept.pop(), changed[1:])
    assert not torch.equal(changed, maps)
    only = StepControl(2, record=kept.append, recorded_tokens=16)
    assert only.acts_on(True, 16)
    assert not only.acts_on(True, 64)
    assert torch.equal(only.apply(maps, cross=True), maps)
    assert torch.equal(kept.pop(), maps[1:])
    control.apply(torch.rand(4, 2, 64, LENGTH), cross=True)
    assert not kept


def test_outside_the_words_an_edit_stays_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_blends, "THRESHOLD", 0.99)  # random weights attend nearly alike everywhere
    monkeypatch.setattr(editing, "WORD_SIDE", 1)  # the small network has attention at the latents' own size only
    model = small_text_model()
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    inversion = finish(invert(model, pixels, "a photo of a cat", "direct", InversionSettings(steps=6)))
    targets = [Target("a photo of a dog", blend=("cat", "dog")), Target("a photo of a dog")]
    settings = PromptEditSettings(attention="refine")
    rows = editing._conditioning(model, inversion, targets, settings, inversion.solution.steps)
    masks = []

    def seen(done: int, total: int) -> torch.Tensor | None:
        masks.append(blend(done, total))
        return masks[-1]

    blend = rows.blend
    object.__setattr__(rows, "blend", seen)
    *_, (_, _, x) = denoise_batch(model, inversion.solution, rows)
    last = masks[-1]
    assert [mask is None for mask in masks] == [True, False, False, False, False, False]
    assert last is not None
    assert 0 < last[1].sum() < 64
    assert last[2].all()
    differs = (x != x[:1]).any(1, keepdim=True)
    assert not differs[1][last[1] == 0].any()
    assert differs[1][last[1] == 1].any()
    assert differs[2].all()
    edited = finish(edit(model, inversion, targets, settings))
    assert not torch.equal(edited[0], edited[1])


def test_words_that_are_not_there() -> None:
    model = small_text_model()
    assert not word_blend(model, "a cat", [Target("a dog")]).acts
    with pytest.raises(RequestError, match="“dog” is not a word of “a cat”"):
        word_blend(model, "a cat", [Target("a dog", blend=("dog", "dog"))])
    pixels = torch.zeros(1, 3, 16, 16)
    inversion = finish(invert(model, pixels, "a cat", "direct", InversionSettings(steps=4)))
    with pytest.raises(RequestError, match="attention control only"):
        finish(edit(model, inversion, [Target("a dog", blend=("cat", "dog"))], PromptEditSettings(attention="none")))
