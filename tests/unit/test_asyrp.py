"""Asyrp training: the loss against the paper's formula and finite differences, resuming, derived directions."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core.asyrp import sources
from core.asyrp.forms import global_direction, mean_direction
from core.asyrp.loss import asyrp_loss, directional_loss, text_direction
from core.asyrp.prompts import TABLE_3, coefficients
from core.asyrp.train import (
    Training,
    TrainingSettings,
    augmented,
    source_trajectories,
)
from core.directions import GlobalDirection, ImplicitDirection
from core.editing import EditSettings, Intervals, edit, invert, sample_latent
from core.errors import RequestError
from core.models.loader import DiffusionModel
from core.progress import Running, finish
from tests.unit.small_models import small_model, trained_block


class LinearImageText:
    """Stands in for CLIP: a fixed linear map of the pixels, in the pixels' own precision; words have fixed vectors."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.map = torch.randn(3 * 8 * 8, 6, generator=torch.Generator().manual_seed(0), dtype=dtype)

    def embed_images(self, pixels: Tensor) -> Tensor:
        return F.normalize(F.avg_pool2d(pixels.to(self.map.dtype), 4).flatten(1) @ self.map, dim=-1)

    def embed_texts(self, texts: list[str]) -> Tensor:
        def vector(word: str) -> Tensor:
            seed = sum(ord(c) * 31**i for i, c in enumerate(word)) % 2**31
            return torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=self.map.dtype)

        return F.normalize(torch.stack([sum(vector(word) for word in text.split()) for text in texts]), dim=-1)


SETTINGS = TrainingSettings(form="global", steps=8, samples=4, epochs=2, batch=2, t_edit=400, augment=0.0)


def training(form: str = "global", dtype: torch.dtype = torch.float64, **changes: object) -> Training:
    settings = TrainingSettings(**{**SETTINGS.__dict__, "form": form, **changes})
    made = Training(small_model(dtype=dtype), LinearImageText(dtype), "face", "smiling face", settings)
    for parameter in made.parameters:
        parameter.data = parameter.data.to(dtype)
    return made


def test_the_loss_is_equation_7() -> None:
    rng = np.random.default_rng(0)
    edited, plain = rng.normal(size=(2, 3, 32, 32)), rng.normal(size=(2, 3, 32, 32))
    image_text = LinearImageText()
    E = image_text.embed_images(torch.tensor(plain))
    dT = torch.tensor(rng.normal(size=6))
    loss = asyrp_loss(torch.tensor(edited), torch.tensor(plain), E, dT, image_text, l_clip=0.8, l_recon=2.7)

    dI = image_text.embed_images(torch.tensor(edited)).numpy() - E.numpy()
    cosine = dI @ dT.numpy() / np.linalg.norm(dI, axis=1) / np.linalg.norm(dT.numpy())
    expected = np.mean(0.8 * (1 - cosine) + 2.7 * np.abs(edited - plain).mean(axis=(1, 2, 3)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_released_code_s_form_is_the_log_of_the_cosine_s_place_between_its_bounds() -> None:
    dT = torch.tensor([1.0, 0.0], dtype=torch.float64)
    dI = torch.tensor([[3.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(
        directional_loss(dI, dT, "log"), torch.tensor([0.0, np.log(2.0)]).double(), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(directional_loss(dI, dT), torch.tensor([0.0, 1.0]).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", ["global", "implicit"])
@pytest.mark.parametrize("augment", [0.0, 1.0])
def test_the_gradient_agrees_with_finite_differences(form: str, augment: float) -> None:
    made = training(form, augment=augment)
    list(made.prepare())
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters:  # away from zero, where dI would vanish
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data += (1.0 if form == "global" else 0.3) * noise
    rows, k = torch.tensor([0, 2]), 2
    x = made.sources.x_T[rows].double()
    with torch.no_grad():
        features = made.model.features(x, made.timesteps[k])

    loss, _, _ = made.loss_at(x, features, rows, k)
    gradients = torch.autograd.grad(loss, made.parameters)
    steps = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in made.parameters]
    slope = sum((g * s).sum() for g, s in zip(gradients, steps, strict=True)).item()

    def at(distance: float) -> float:
        for parameter, step in zip(made.parameters, steps, strict=True):
            parameter.data += distance * step
        value = made.loss_at(x, features, rows, k)[0].item()
        for parameter, step in zip(made.parameters, steps, strict=True):
            parameter.data -= distance * step
        return value

    difference = (at(1e-5) - at(-1e-5)) / 2e-5
    assert slope == pytest.approx(difference, rel=1e-4)
    assert abs(slope) > 1e-4  # or the comparison would say nothing


def test_a_stopped_and_resumed_run_ends_where_an_uninterrupted_one_does() -> None:
    whole = training(dtype=torch.float32)
    expected = finish(whole.run())

    first = training(dtype=torch.float32)
    job = first.run()
    while first.step < first.total // 2:
        next(job)
    job.close()
    second = training(dtype=torch.float32)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(finish(second.run()).delta, expected.delta)
    assert second.losses == pytest.approx(whole.losses)


def test_a_preparation_goes_on_from_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every event at which it can be taken away it is, by the way that another process gets it, and goes on from
    there: nothing is computed twice, and it is prepared as in one go, to the last digit."""
    monkeypatch.setattr(sources, "CHUNK", 2)
    whole = training(dtype=torch.float32)
    finish(whole.prepare())
    sliced, slices, latents = training(dtype=torch.float32), 0, []
    plain = DiffusionModel.features

    def features(model: DiffusionModel, x: torch.Tensor, t: int) -> object:
        latents.append(len(x))
        return plain(model, x, t)

    monkeypatch.setattr(DiffusionModel, "features", features)
    while True:
        job, event = sliced.prepare(), None
        event = next((event for event in job if event.kept), None)
        job.close()
        if event is None:
            break
        slices += 1
        assert sliced.sources is not None or sliced.unprepared < sliced.settings.samples
        sliced = copy.copy(sliced)
    n, K = sliced.settings.samples, len(sliced.timesteps)
    assert slices == -(-n // 2) - 1 + K
    assert sum(latents) == n * K
    assert torch.equal(sliced.sources.P, whole.sources.P)
    assert sliced.sources.h_rms == whole.sources.h_rms
    assert torch.equal(sliced.E_source, whole.E_source)
    assert (sliced.begun, sliced.E_rows, sliced.unprepared) == ([], [], 0)


def test_training_turns_the_images_towards_the_text() -> None:
    made = training(dtype=torch.float32, l_recon=0.05, epochs=12, rate=0.1)
    direction = finish(made.run())
    settings = EditSettings(steps=8, intervals=Intervals(400, 0))
    unseen = sample_latent(made.model, seed=99, count=6).x_T
    plain = finish(edit(made.model, unseen, [], settings))
    edited = finish(edit(made.model, unseen, [(direction, 1.0)], settings))
    dI = made.image_text.embed_images(edited) - made.image_text.embed_images(plain)
    cosine = F.cosine_similarity(dI, made.dT[None])
    assert cosine.mean() > 0.3
    assert (cosine > 0).sum() >= 5


def test_a_negative_strength_learns_the_reversed_pair() -> None:
    """Of one vector: trained at -1 from B to A, it is minus the one trained at 1 from A to B. Batches take turns."""
    fixed = {"l_clip": 0.8, "l_recon": 2.0}
    plain = finish(training(**fixed).run()).delta
    back = training(strengths=(-1.0,), **fixed)
    back.dT = -back.dT
    torch.testing.assert_close(finish(back.run()).delta, -plain, atol=1e-9, rtol=1e-6)

    mixed = training(strengths=(1.0, -1.0, 2.0), **fixed)
    taken = []
    for batch in range(4):
        mixed.step = batch * len(mixed.timesteps)
        taken.append(mixed.strength)
    assert taken == [1.0, -1.0, 2.0, 1.0]
    for wrong in ((), (0.0,), (float("nan"),)):
        with pytest.raises(RequestError, match="strength"):
            TrainingSettings(strengths=wrong)


def test_a_training_that_starts_late_sees_the_unedited_process_until_then() -> None:
    """Its first loss is that of a shift of nothing at the first timestep it edits, against the source there."""
    late, whole = training(dtype=torch.float32, t_start=800), training(dtype=torch.float32)
    list(late.prepare())
    assert late.timesteps == [t for t in whole.timesteps if t <= 800]
    assert 0 < len(late.before) < len(whole.timesteps)
    rows = torch.arange(2)
    x = late.x_start[rows]
    with torch.no_grad():
        _, _, P = late.loss_at(x, late.model.features(x, late.timesteps[0]), rows, 0)
    source = late.sources.P[len(late.before), rows].float()
    torch.testing.assert_close(P.float(), source, atol=5e-3, rtol=0)  # kept in half precision
    assert finish(late.run()).t_start == 800


def test_cancelling_keeps_what_was_learned() -> None:
    made = training(dtype=torch.float32)
    job = made.run()
    while not made.losses:
        next(job)
    next(job)
    job.close()
    assert made.direction().delta.abs().max() > 0


def test_the_direction_is_returned_and_steps_count_up() -> None:
    made = training(dtype=torch.float32)
    running = Running(made.run())
    events = [event for event in running if event.note != "preparing"]
    assert [event.step for event in events] == list(range(1, made.total + 1))
    assert isinstance(running.result, GlobalDirection)


def test_the_source_trajectory_is_the_unedited_process() -> None:
    model = small_model()
    latent = sample_latent(model, seed=3, count=3)
    sources = finish(source_trajectories(model, latent.x_T, steps=8, t_edit=0, chunk=2))
    plain = finish(edit(model, latent, [], EditSettings(steps=8)))
    # At t = 0 the predicted image is the result itself, up to the last step's tiny noise level.
    assert (sources.P[-1].float().clamp(-1, 1) - plain).abs().max() < 2e-2
    assert sources.timesteps[-1] == 0


@pytest.mark.parametrize("t_start", [None, 800])
def test_mean_and_global_directions_are_the_means_along_the_edited_trajectories(t_start: int | None) -> None:
    model = small_model()
    direction = ImplicitDirection(trained_block(emb_channels=64), 8, t_start)
    x_T = sample_latent(model, seed=5, count=4).x_T
    mean = mean_direction(model, direction, x_T, t_edit=500)

    down = model.schedule.timesteps(8)[::-1]
    timesteps = [t for t in down if 500 <= t <= (t_start or 1000)]
    assert mean.timesteps.tolist() == timesteps[::-1]
    assert global_direction(mean).t_start == mean.t_start == t_start
    first, x = timesteps[0], x_T
    with torch.no_grad():
        for t, t_prev in zip(down, down[1:], strict=False):
            if t > first:
                eps = model.eps(model.features(x, t), x, t)
                x = model.schedule.reverse_step(x, eps, eps, t, t_prev)
        features = model.features(x, first)
        expected = direction.f_t(features.h, features.emb).mean(0)
    torch.testing.assert_close(mean.deltas[-1], expected)
    torch.testing.assert_close(global_direction(mean).delta[0], mean.deltas.mean(0))

    one = mean_direction(model, direction, x_T[:1], t_edit=500)  # of one latent, the mean is its own shift
    settings = EditSettings(steps=8, intervals=Intervals(500, 0))
    by_mean = finish(edit(model, x_T[:1], [(one, 1.0)], settings))
    torch.testing.assert_close(by_mean, finish(edit(model, x_T[:1], [(direction, 1.0)], settings)), atol=1e-4, rtol=0)


def test_augmented_views_are_shifted_and_noisy_but_differentiable() -> None:
    pixels = torch.zeros(1, 3, 32, 32, requires_grad=True)
    assert augmented(pixels, 0.0, 1) is pixels
    views = [augmented(pixels.detach(), 1.0, seed) for seed in range(20)]
    assert len({round(view.std().item(), 6) for view in views}) > 10
    augmented(pixels, 1.0, 3).sum().backward()
    assert pixels.grad.sum() == pytest.approx(3 * 32 * 32)


def test_shifts_of_single_timesteps_are_optimised_each_for_itself() -> None:
    """Appendix L.2: the gradient at a timestep is its own shift's alone and agrees with finite differences, each has
    the rate of its own h, and the direction has them where they were trained."""
    made = training("per_timestep")
    finish(made.prepare())
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters:
        parameter.data += torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    rows, k = torch.tensor([0, 2]), 2
    x = made.sources.x_T[rows].double()
    with torch.no_grad():
        features = made.model.features(x, made.timesteps[k])
    loss, _, _ = made.loss_at(x, features, rows, k)
    gradients = torch.autograd.grad(loss, made.parameters, allow_unused=True)
    assert [g is not None for g in gradients] == [i == k for i in range(len(made.timesteps))]
    step = torch.randn(made.parameters[k].shape, generator=generator, dtype=torch.float64)
    values = []
    for distance in (1e-5, -2e-5):
        made.parameters[k].data += distance * step
        values.append(made.loss_at(x, features, rows, k)[0].item())
    assert (gradients[k] * step).sum().item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)

    rates = [group["lr"] for group in made.optimiser.param_groups]
    assert rates == pytest.approx([0.1 * rms for rms in made.sources.h_rms])
    assert len(set(rates)) == len(made.timesteps)
    direction = made.direction()
    for t, parameter in zip(made.timesteps, made.parameters, strict=True):
        shift = direction.delta_h(torch.zeros(1, 32, 4, 4), torch.zeros(1, 16), t)
        assert torch.equal(shift, parameter.detach().to(shift))


def test_a_single_timestep_learns_as_one_shift_does() -> None:
    """Where only one timestep is edited, one shift per timestep and one for all are the same training."""
    same = {"t_edit": 999, "rate": 0.05, "dtype": torch.float32}
    alone, whole = training("per_timestep", **same), training("global", **same)
    assert len(alone.timesteps) == 1
    torch.testing.assert_close(finish(alone.run()).deltas, finish(whole.run()).delta)


def test_training_from_pictures_learns_from_their_latents() -> None:
    """Appendix J.2 and Algorithm 2, lines 1 to 6: the same as with latents that were inverted before."""
    model = small_model()
    pixels = finish(edit(model, sample_latent(model, 40, 5), [], EditSettings(8)))
    settings = TrainingSettings(**{**SETTINGS.__dict__, "samples": 99})

    def made(**given: object) -> Training:
        return Training(small_model(), LinearImageText(torch.float32), "face", "smiling face", settings, **given)

    x_T = finish(invert(model, pixels, 8)).x_T
    by_latents, by_pictures = made(x_T=x_T), made(pixels=pixels)
    assert (by_pictures.to_invert, by_pictures.unprepared, by_pictures.total) == (5, 5, by_latents.total)
    expected = finish(by_latents.run()).delta
    torch.testing.assert_close(finish(by_pictures.run()).delta, expected)
    torch.testing.assert_close(by_pictures.sources.x_T, x_T)
    assert by_pictures.to_invert == 0

    random = Training(small_model(), LinearImageText(torch.float32), "face", "smiling face", SETTINGS)
    assert not torch.allclose(finish(random.run()).delta, expected, atol=1e-3 * expected.abs().max().item())
    with pytest.raises(RequestError, match="no pictures"):
        finish(made(pixels=pixels[:0]).prepare())


def test_an_inversion_for_a_training_goes_on_from_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", 2)
    model = small_model()
    pixels = finish(edit(model, sample_latent(model, 40, 5), [], EditSettings(8)))
    made = Training(model, LinearImageText(torch.float32), "face", "smiling face", SETTINGS, pixels=pixels)
    job = made.prepare()
    next(event for event in job if event.kept)
    job.close()
    made = copy.copy(made)
    assert made.to_invert == 3
    x_T = finish(made.prepare()).x_T
    torch.testing.assert_close(x_T, torch.cat([finish(invert(model, part, 8)).x_T for part in pixels.split(2)]))


def test_texts_that_cannot_give_a_direction_are_refused_with_words() -> None:
    image_text = LinearImageText()
    with pytest.raises(RequestError, match="both texts"):
        text_direction(image_text, "face", "  ", ["{}"])
    with pytest.raises(RequestError, match="the same"):
        text_direction(image_text, "a  face", "a face", ["{}"])


def test_coefficients_are_the_paper_s() -> None:
    assert len(TABLE_3) == 30
    assert coefficients("Face", "Smiling face").l_recon == pytest.approx(0.899 * 3)
    assert coefficients("Dog", "Yorkshire terrier").l_clip == 2.0
    assert coefficients("Human", "Zombie").from_random
    assert not coefficients("Face", "Sad face").from_random
    assert coefficients("face", "a face in the rain").l_recon is None  # 3 x the similarity, known only with a CLIP
