"""Inversion as a visitor meets it: one call for all methods, cancelling and going on, a time budget, clear refusals."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_text_models import toy_text_model
from torch import Tensor

from core import metrics
from core.errors import RequestError
from core.inversion.editing import reconstruct
from core.inversion.inversion import Inversion
from core.inversion.methods import METHODS, invert
from core.inversion.robustness import add_noise, other_prompts, study_robustness
from core.inversion.solution import Checkpoint, InversionSettings
from core.progress import Running, finish
from core.text_to_image import TextToImage

QUICK = InversionSettings(steps=6, iterations=2, starts=3, solver_iterations=3, tolerance=0.0)
PROMPT = "a photo of a cat"
EXACT = {"anchored", "direct", "EDICT", "edit-friendly DDPM", "CycleDiffusion"}


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return toy_text_model()


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def inverted(model: TextToImage, pixels: Tensor, method: str, **options: Any) -> Inversion:
    return finish(invert(model, pixels, PROMPT, method, options.pop("settings", QUICK), **options))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_same_kind_of_thing(model: TextToImage, pixels: Tensor, method: str) -> None:
    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3))

    inverting = Running(invert(model, pixels, PROMPT, method, QUICK, distance=distance))
    events, made = list(inverting), inverting.result
    assert all(0 <= event.step <= event.total for event in events)
    assert any(event.preview is not None for event in events)
    assert (made.method, made.model, made.prompt) == (method, "toy", PROMPT)
    solution = made.solution
    assert solution.trajectory.shape == (7, *model.latent_shape)
    assert solution.unconditional.shape[1:] == model.text_shape
    assert not solution.trajectory.requires_grad
    assert not solution.unconditional.requires_grad
    assert torch.equal(solution.x_T, solution.trajectory[6:])

    measures = made.measures
    bound = model.decode(model.encode(pixels))
    assert measures["psnr"] == pytest.approx(metrics.psnr(made.reconstruction, pixels).item(), abs=1e-4)
    assert measures["psnr bound"] == pytest.approx(metrics.psnr(bound, pixels).item(), abs=1e-4)
    assert measures["distance"] == pytest.approx(distance(made.reconstruction, pixels).item(), abs=1e-5)
    assert measures["ssim to bound"] == pytest.approx(metrics.ssim(made.reconstruction, bound).item(), abs=1e-4)
    again = finish(reconstruct(model, made))
    assert torch.equal(again, made.reconstruction)
    if method in EXACT:
        assert torch.allclose(made.reconstruction, bound, atol=1e-4)


def test_the_same_seed_gives_the_same_inversion(model: TextToImage, pixels: Tensor) -> None:
    for method in ("edit-friendly DDPM", "CycleDiffusion"):
        first, second, other = (
            inverted(model, pixels, method, settings=replace(QUICK, seed=seed)).solution for seed in (0, 0, 1)
        )
        assert torch.equal(first.trajectory, second.trajectory)
        assert not torch.equal(first.trajectory, other.trajectory)


def test_optimising_helps(model: TextToImage, pixels: Tensor) -> None:
    """Compared with the same guidance and no optimisation, on a network for which nothing is known."""
    settings = replace(QUICK, iterations=20, rate=0.05, late=1.0)
    plain = inverted(model, pixels, "DDIB").measures["psnr to bound"]
    for method in ("null-text", "latent-TOP"):
        assert inverted(model, pixels, method, settings=settings).measures["psnr to bound"] > plain + 2


def test_solving_the_steps_helps(model: TextToImage, pixels: Tensor) -> None:
    settings = replace(QUICK, solver_iterations=8, guidance=2.0)
    plain = inverted(model, pixels, "DDIM, guided", settings=settings).measures["psnr to bound"]
    assert inverted(model, pixels, "fixed point", settings=settings).measures["psnr to bound"] > plain + 10


# ------------------------------------------------------------------------------------------------ cancelling, budgets


@pytest.mark.parametrize("method", ["null-text", "latent-TOP", "teacher-forced", "EDICT", "fixed point"])
def test_cancelled_and_begun_again_nothing_is_computed_twice(
    model: TextToImage, pixels: Tensor, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(QUICK, steps=12)  # two batches of 8 for the teacher-forced
    whole = inverted(model, pixels, method, settings=settings)
    calls = counted(model, monkeypatch)
    finish(invert(model, pixels, PROMPT, method, settings))
    expected = len(calls)

    for stop_after in (3, 10):
        calls.clear()
        checkpoint = Checkpoint()
        job = invert(model, pixels, PROMPT, method, settings, checkpoint)
        for _, _ in zip(range(stop_after), job, strict=False):
            pass
        job.close()
        done = len(calls)
        assert torch.is_grad_enabled()
        assert 0 < done < expected
        resumed = finish(invert(model, pixels, PROMPT, method, settings, checkpoint))
        assert torch.equal(resumed.solution.trajectory, whole.solution.trajectory)
        assert torch.equal(resumed.solution.unconditional, whole.solution.unconditional)
        assert len(calls) <= expected + 1  # at most the step in which it was stopped


def counted(model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each network call from now on."""
    calls, forward = [], model.unet.forward

    def call(sample: Tensor, *arguments: Any, **options: Any) -> Any:
        calls.append(len(sample))
        return forward(sample, *arguments, **options)

    monkeypatch.setattr(model.unet, "forward", call)
    return calls


def test_a_checkpoint_of_other_work_is_not_used(model: TextToImage, pixels: Tensor) -> None:
    checkpoint = Checkpoint()
    finish(invert(model, pixels, PROMPT, "null-text", QUICK, checkpoint))
    for other in (
        {"pixels": pixels.flip(-1)},
        {"prompt": "a dog"},
        {"method": "latent-TOP"},
        {"settings": replace(QUICK, guidance=3.0)},
    ):
        arguments = {"pixels": pixels, "prompt": PROMPT, "method": "null-text", "settings": QUICK} | other
        with_it = finish(invert(model, **arguments, checkpoint=checkpoint)).solution
        assert torch.equal(with_it.trajectory, finish(invert(model, **arguments)).solution.trajectory)


@pytest.mark.parametrize(
    ("method", "some"), [("null-text", 12), ("latent-TOP", 12), ("teacher-forced", 12), ("fixed point", 3)]
)
def test_a_budget_ends_the_optimisation_and_keeps_the_best(
    model: TextToImage, pixels: Tensor, method: str, some: int
) -> None:
    """A clock that advances by a second every time it is looked at."""
    settings = replace(QUICK, iterations=10, rate=0.05, solver_iterations=8, guidance=2.0)
    whole = inverted(model, pixels, method, settings=settings)
    assert whole.measures["out of time"] == 0

    def seconds() -> Iterator[float]:
        now = 0.0
        while True:
            now += 1
            yield now

    short = {}
    for budget in (0, some):
        ticking = seconds()
        short[budget] = inverted(
            model,
            pixels,
            method,
            settings=replace(settings, budget=budget),
            clock=lambda ticking=ticking: next(ticking),
        )
        assert short[budget].solution.trajectory.isfinite().all()
    assert short[0].measures["out of time"] == 1
    assert short[0].measures["gradients"] == 0
    evaluations = [made.measures["evaluations"] for made in (short[0], short[some], whole)]
    assert evaluations[0] < evaluations[1] < evaluations[2]
    quality = [made.measures["psnr to bound"] for made in (short[0], short[some], whole)]
    assert max(quality[:2]) < quality[2]


# ----------------------------------------------------------------------------------------------------------- refusals


def test_refusals(model: TextToImage, pixels: Tensor) -> None:
    for arguments, words in (
        ((pixels, PROMPT, "magic"), "no method 'magic'.*latent-TOP"),
        ((pixels, "  ", "direct"), "Write a source prompt"),
        ((pixels, "x" * 3000, "direct"), "up to 2000 characters"),
        ((pixels[..., :8], PROMPT, "direct"), "16x16 pixels"),
        ((pixels.repeat(2, 1, 1, 1), PROMPT, "direct"), "one picture"),
        ((pixels, PROMPT, "direct", InversionSettings(steps=1)), "between 2 and 1000"),
    ):
        with pytest.raises(RequestError, match=words):
            finish(invert(model, *arguments))
    for wrong in ({"guidance": 0.5}, {"guidance": float("nan")}, {"iterations": -1}, {"source_guidance": 90.0}):
        with pytest.raises(RequestError, match="must lie between"):
            InversionSettings(**wrong)
    with pytest.raises(RequestError, match="no optimiser"):
        InversionSettings(optimiser="newton")


def test_prompts_become_one_printable_line(model: TextToImage, pixels: Tensor) -> None:
    made = finish(invert(model, pixels, " a photo\nof\u200b a\tcat ", "direct", QUICK))
    assert made.prompt == "a photo of a cat"


# --------------------------------------------------------------------------------------------------------- robustness


def test_noise_has_the_size_it_is_said_to_have(pixels: Tensor) -> None:
    grey = torch.zeros(1, 3, 64, 64)
    for sigma in (5.0, 20.0):
        assert (127.5 * add_noise(grey, sigma)).std().item() == pytest.approx(sigma, rel=0.05)
    assert torch.equal(add_noise(pixels, 0.0), pixels)
    assert add_noise(pixels, 100.0).abs().max() <= 1
    assert not torch.equal(add_noise(pixels, 5.0, seed=1), add_noise(pixels, 5.0, seed=2))


def test_a_study_has_a_cell_for_every_method_noise_and_prompt(model: TextToImage, pixels: Tensor) -> None:
    """Noise with the first prompt, then the other prompts; a direct inversion's target is what DDIB reconstructs."""
    methods = ["direct", "DDIB", "DDIM"]
    study = Running(study_robustness(model, pixels, [PROMPT, "a red dog"], methods, (0.0, 20.0), QUICK))
    events, cells = list(study), study.result
    assert [event.step for event in events] == sorted(event.step for event in events)
    assert len(cells) == events[-1].step == events[-1].total == 9
    made = [(cell.sigma, cell.inversion.prompt, cell.method) for cell in cells]
    variants = [(0.0, PROMPT), (20.0, PROMPT), (0.0, "a red dog")]
    assert made == [(*variant, method) for variant in variants for method in methods]
    for direct, ddib, ddim in (cells[i : i + 3] for i in (0, 3, 6)):
        assert torch.allclose(direct.decoded, ddib.inversion.reconstruction, atol=1e-4)
        assert torch.allclose(ddim.decoded, ddib.decoded, atol=1e-4)
        assert ddib.measures["psnr decoded"] == pytest.approx(ddib.measures["psnr"], abs=0.01)
    assert torch.equal(cells[3].inversion.pixels, add_noise(pixels, 20.0))


@pytest.mark.parametrize(
    ("prompt", "others"),
    [
        ("a smiling face with glasses", ["a face", "a smiling face", "a sad face with glasses"]),
        ("The Tanned man, outside", ["a face", "The Tanned man", "The pale man, outside"]),
        ("a face with gray hair and red lips", ["a face", "a face with brown hair and red lips"]),
        ("a photo of  a cat on a chair", ["a face", "a photo", "a photo of a dog on a chair"]),
        ("a portrait in the summertime", ["a face", "a portrait"]),
        ("A face", []),
        ("", ["a face"]),
    ],
)
def test_prompts_that_say_nothing_less_and_something_wrong(prompt: str, others: list[str]) -> None:
    assert other_prompts(prompt, "a face") == others
