"""Editing with directions of h-space on a text-to-image model, by the loops that unconditional models have."""

from collections.abc import Callable

import pytest
import torch
from small_text_models import small_text_model
from torch import Tensor

from core.anchoring import PathCache, edit_anchored, source_path
from core.directions import GlobalDirection, PerTimestepDirection
from core.editing import EditSettings, edit, invert
from core.errors import RequestError
from core.latents import LatentCache
from core.models.loader import DiffusionModel
from core.process import Kept, edit_pictures
from core.progress import finish
from core.prompted import with_prompt
from core.text_to_image import Autoencoder

GUIDED = [(1.0, "both"), (4.0, "both"), (4.0, "conditional")]


@pytest.fixture(params=GUIDED, ids=str)
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    return with_prompt(small_text_model("v_prediction"), "a cat", *request.param)


def pictures(model: DiffusionModel, rows: int = 2) -> Tensor:
    """That the autoencoder can make."""
    x = torch.randn(rows, *model.x_shape, generator=torch.Generator().manual_seed(0))
    return model.codec.decode(0.5 * x).clamp(-1, 1)


def direction(model: DiffusionModel, size: float = 5.0) -> GlobalDirection:
    delta = torch.randn(1, *model.card.h_shape, generator=torch.Generator().manual_seed(3))
    return GlobalDirection(size * delta, 40)


def test_strength_0_is_the_picture(model: DiffusionModel) -> None:
    pixels, one = pictures(model), direction(model)
    made = finish(edit_pictures(model, pixels, 3, [(one, [0.0, 1.0, -1.0] * 2)], EditSettings(6)))
    assert torch.equal(made[[0, 3]], pixels)
    for row in (1, 2, 4, 5):
        assert (made[row] - pixels[row // 3]).abs().max() > 1e-3
    assert (made[1] - made[2]).abs().max() > 1e-3


def test_a_small_strength_is_a_small_change(model: DiffusionModel) -> None:
    """What the autoencoder loses of a picture does not appear with the first step away from strength 0."""
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 1.6 - 0.8
    lost = (model.codec.decode(model.codec.encode(pixels)) - pixels).abs().mean()
    made = finish(edit_pictures(model, pixels, 2, [(direction(model), [1e-7, 1.0])], EditSettings(6)))
    assert (made[0] - pixels[0]).abs().mean() < 1e-2 * lost
    assert (made[1] - pixels[0]).abs().max() > 1e-3


def test_a_known_picture_is_edited_with_one_call_of_the_decoder(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can take longer than all of the steps; what the autoencoder loses is known from the picture's path."""
    pixels, one, kept, decoded = pictures(model), direction(model), Kept(PathCache(), LatentCache()), []

    def decode(codec: Autoencoder, x: Tensor, plain: Callable[..., Tensor] = Autoencoder.decode) -> Tensor:
        decoded.append(len(x))
        return plain(codec, x)

    def made(strength: float) -> Tensor:
        return finish(edit_pictures(model, pixels, 1, [(one, [strength] * 2)], EditSettings(6), kept=kept))

    first = made(1.0)
    monkeypatch.setattr(Autoencoder, "decode", decode)
    assert (made(0.5) - first).abs().max() > 1e-3
    assert decoded == [2]
    assert torch.equal(made(1.0), first)


@torch.no_grad()
def test_anchored_steps_written_out(model: DiffusionModel) -> None:
    """Against the two updates by hand, with the whole networks and a hook at the mid block."""
    text_model, prompt = small_text_model("v_prediction"), model.unet.prompt
    one, settings = direction(model), EditSettings(3, injection="symmetric")
    times = (100, 500, 900)
    path = finish(source_path(model, pictures(model, 1), times))
    [made] = finish(edit_anchored(model, path, [(one, 2.0)], settings))

    def eps(x: Tensor, t: int, delta_h: Tensor | None) -> Tensor:
        mid = text_model.unet.mid_block
        outputs = []
        for text, shifted in ((prompt.text, True), (prompt.empty, prompt.shifted == "both")):
            hook = mid.register_forward_hook(
                lambda module, given, h, on=shifted: h if delta_h is None or not on else h + delta_h
            )
            output = text_model.unet(x, t, text).sample
            hook.remove()
            outputs.append(model.schedule.eps_from_output(output, x, t))
        return outputs[1] + prompt.guidance * (outputs[0] - outputs[1])

    x, delta_h = path.x[-1], 2.0 * one.delta * 40 / 3
    for k in (2, 1, 0):
        t, t_prev = times[k], times[k - 1] if k else -1
        source, moved = eps(path.x[k + 1], t, None), eps(x, t, delta_h)
        r = path.x[k] - model.schedule.reverse_step(path.x[k + 1], source, source, t, t_prev)
        x = model.schedule.reverse_step(x, moved, moved, t, t_prev) + r
    change = model.codec.decode(x) - model.codec.decode(path.x[0])
    torch.testing.assert_close(made, (path.pixels + change).clamp(-1, 1)[0], rtol=0, atol=2e-4)


def test_the_papers_process(model: DiffusionModel) -> None:
    pixels, one = pictures(model), direction(model)
    latent = finish(invert(model, pixels, 20, iterations=8))
    settings = EditSettings(20)
    plain, shifted = (finish(edit(model, latent, [(one, c)], settings)) for c in (0.0, 1.0))
    assert (plain - model.codec.decode(model.codec.encode(pixels))).abs().mean() < 0.05
    assert (shifted - plain).abs().max() > 1e-3


def test_every_row_may_have_a_timestep_of_its_own(model: DiffusionModel) -> None:
    """A path that is noised asks for all levels at once."""
    pixels, times = pictures(model), (100, 500, 900)
    path = finish(source_path(model, pixels, times, "noised"))
    for k, t in enumerate(times):
        features = model.features(path.x[k + 1], t)
        with torch.no_grad():
            torch.testing.assert_close(path.eps[k], model.eps(features, path.x[k + 1], t), rtol=0, atol=1e-5)


def test_paths_are_kept_by_prompt_and_guidance() -> None:
    text_model, kept = small_text_model(), Kept(PathCache(), LatentCache())
    cat, dog, more = (
        with_prompt(text_model, prompt, G) for prompt, G in (("a cat", 1.0), ("a dog", 1.0), ("a cat", 3.0))
    )
    pixels, times = pictures(cat), (100, 500, 900)
    paths = [finish(source_path(one, pixels, times, cache=kept.paths)) for one in (cat, dog, more)]
    assert len({path.key for path in paths}) == 3
    assert not torch.equal(paths[0].x, paths[1].x)
    again = finish(source_path(with_prompt(text_model, " a  cat "), pixels, times, cache=kept.paths))
    assert again is paths[0]
    latents = [finish(invert(one, pixels, 4, cache=kept.latents)) for one in (cat, dog)]
    assert latents[0].key != latents[1].key


def test_directions_of_every_timestep(model: DiffusionModel) -> None:
    """One that is zero but at one noise level acts there alone."""
    pixels, times = pictures(model, 1), torch.tensor([0, 400, 500, 600, 999])
    deltas = torch.zeros(5, *model.card.h_shape)
    deltas[2] = direction(model, 20.0).delta
    settings = EditSettings(3, injection="symmetric")
    path = finish(source_path(model, pixels, (100, 500, 900)))
    there = finish(edit_anchored(model, path, [(PerTimestepDirection(times, deltas, 40), 1.0)], settings))
    elsewhere = finish(
        edit_anchored(model, path, [(PerTimestepDirection(times, deltas.roll(2, 0), 40), 1.0)], settings)
    )
    assert (there - pixels).abs().max() > 1e-3
    assert (elsewhere - there).abs().max() > 1e-3


@pytest.mark.parametrize(("prompt", "guidance", "words"), [("", 1.0, "prompt"), ("a cat", 0.5, "guidance")])
def test_what_cannot_be_bound(prompt: str, guidance: float, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        with_prompt(small_text_model(), prompt, guidance)
