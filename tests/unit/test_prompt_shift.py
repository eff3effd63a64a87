"""The shift of h between two prompts, against its definition."""

from dataclasses import replace

import pytest
import torch
from small_text_models import small_text_model
from test_asyrp import LinearImageText
from torch import Tensor
from torch.nn import functional as F

from core.asyrp.prompt_shift import everywhere, prompt_shift
from core.asyrp.train import Training, TrainingSettings
from core.conditional_unet import SplitConditionalUNet
from core.directions import PerTimestepDirection
from core.editing import EditSettings
from core.errors import RequestError
from core.process import edit_pictures
from core.progress import finish
from core.prompted import with_prompt


@torch.no_grad()
def test_the_mean_shift_along_the_sources_way() -> None:
    """Written out: DDIM by the source prompt with the whole network, h of both prompts by a hook at the mid block."""
    model = small_text_model("v_prediction")
    source, target = with_prompt(model, "a cat"), with_prompt(model, "a smiling cat")
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    shift = finish(prompt_shift(source, target, x, steps=4))
    texts = model.embed(["a cat", "a smiling cat"]).split(1)
    times, seen = model.schedule.timesteps(4), []
    hook = model.unet.mid_block.register_forward_hook(lambda module, given, h: seen.append(h))
    expected = {}
    for k in (3, 2, 1, 0):
        outputs = [model.unet(x, times[k], text.expand(3, -1, -1)).sample for text in texts]
        expected[times[k]] = (seen[-1] - seen[-2]).mean(0)
        eps = model.schedule.eps_from_output(outputs[0], x, times[k])
        x = model.schedule.reverse_step(x, eps, eps, times[k], times[k - 1] if k else -1)
    hook.remove()
    assert shift.timesteps.tolist() == times
    for delta, t in zip(shift.deltas, times, strict=True):
        torch.testing.assert_close(delta, expected[t], rtol=0, atol=1e-5)
        assert delta.abs().max() > 1e-3, "or the prompt does nothing to h"
    assert shift.steps == source.card.steps


@torch.no_grad()
def test_samples_are_those_of_their_seeds() -> None:
    model = small_text_model()
    source, target = with_prompt(model, "a cat"), with_prompt(model, "a dog")
    both, first, second = (
        finish(prompt_shift(source, target, samples=n, steps=3, seed=seed)) for n, seed in ((2, 5), (1, 5), (1, 6))
    )
    torch.testing.assert_close(both.deltas, (first.deltas + second.deltas) / 2, rtol=0, atol=1e-5)
    assert (first.deltas - second.deltas).abs().max() > 1e-3
    backwards = finish(prompt_shift(target, target, samples=1, steps=3))
    assert backwards.deltas.abs().max() == 0


@torch.no_grad()
def test_added_in_full_it_is_h_of_the_target() -> None:
    """For one latent at its first step: the shift puts the mid block where the target prompt has it."""
    model = small_text_model()
    source, target = with_prompt(model, "a cat"), with_prompt(model, "a dog")
    x = torch.randn(1, 4, 8, 8)
    shift = finish(prompt_shift(source, target, x, steps=3))
    split, T = SplitConditionalUNet(model.unet), model.schedule.T - 1
    features = split.encode(x, T, model.embed(["a cat"]))
    shifted = features.h + shift.delta_h(features.h, features.emb, T)
    torch.testing.assert_close(shifted, split.encode(x, T, model.embed(["a dog"])).h, rtol=0, atol=1e-5)


def test_one_shift_for_all_timesteps() -> None:
    shift = PerTimestepDirection(torch.tensor([10, 500, 900]), torch.arange(3.0)[:, None, None, None], 40)
    assert everywhere(shift).delta.item() == 1
    assert everywhere(shift, 400).delta.item() == 1.5
    assert everywhere(replace(shift, gain=0.5)).gain == 0.5
    with pytest.raises(RequestError, match="further down"):
        everywhere(shift, 950)


def test_what_cannot_be_asked() -> None:
    model = small_text_model()
    source = with_prompt(model, "a cat")
    other = with_prompt(model, "a dog")
    other.fingerprint = "1" * 16
    with pytest.raises(RequestError, match="one model"):
        finish(prompt_shift(source, other))
    with pytest.raises(RequestError, match="samples"):
        finish(prompt_shift(source, source, samples=0))


class Enlarging(LinearImageText):
    """Reads pictures of half the size that it is made for."""

    def embed_images(self, pixels: Tensor) -> Tensor:
        return super().embed_images(F.interpolate(pixels, scale_factor=2))


@pytest.mark.parametrize("form", ["implicit", "global"])
def test_training_in_this_h_space(form: str) -> None:
    """Asyrp's training takes a bound model as any other: the loss goes down, and the direction changes a picture."""
    model = with_prompt(small_text_model("v_prediction"), "a cat")
    settings = TrainingSettings(steps=4, samples=2, batch=2, epochs=6, form=form, t_edit=300, augment=0.0, rate=0.05)
    training = Training(model, Enlarging(torch.float32), "cat", "happy cat", settings)
    direction = finish(training.run())
    count = len(training.timesteps)
    assert sum(training.losses[-count:]) < sum(training.losses[:count])
    pixels = model.codec.decode(torch.randn(1, *model.x_shape)).clamp(-1, 1)
    made = finish(edit_pictures(model, pixels, 1, [(direction, [3.0])], EditSettings(4)))
    assert (made - pixels).abs().max() > 1e-3
