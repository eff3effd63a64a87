"""A change of words and directions of h-space in one pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from small_text_models import small_text_model
from torch import Tensor

from core.calibration import calibrated
from core.delta_block import DeltaBlock
from core.directions import CompositeDirection, GlobalDirection, ImplicitDirection
from core.editing import EditSettings
from core.errors import RequestError
from core.inversion import editing
from core.inversion.editing import PromptEditSettings, Target, edit, reconstruct
from core.inversion.inversion import Inversion
from core.inversion.methods import invert
from core.inversion.sampler import denoise_batch
from core.inversion.solution import InversionSettings
from core.progress import finish
from core.regions import Region
from core.row_shifts import RowShifts
from core.text_to_image import TextToImage

PROMPT, TARGET = "a photo of a cat", "a photo of a dog"
STEPS = 5
FREE = PromptEditSettings(attention="none")


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return small_text_model()


def picture() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def inversion(model: TextToImage) -> Inversion:
    return finish(invert(model, picture(), PROMPT, "anchored", InversionSettings(steps=STEPS, guidance=3.0)))


def direction(seed: int = 1, size: float = 3.0) -> GlobalDirection:
    return GlobalDirection(size * torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(seed)), 40)


@contextmanager
def hooked(model: TextToImage, delta_h: Tensor) -> Iterator[None]:
    """Within the block the whole network has delta_h added to the output of its mid block: no split, no shifts."""
    hook = model.unet.mid_block.register_forward_hook(lambda module, given, h: h + delta_h)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def test_every_row_has_its_own_shift(model: TextToImage) -> None:
    """Against the whole network with a hook, one row at a time; more rows than one call has."""
    one, other = direction(1), direction(2)
    x = torch.randn(10, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    text = model.embed([PROMPT])
    strengths = torch.linspace(-1, 1, 10), torch.linspace(0, 2, 10)
    made = model.eps(x, 400, text, None, RowShifts(((one, strengths[0]), (other, strengths[1])), 20))
    assert model.rows < len(x)
    for row in range(10):
        delta_h = 40 / 20 * (strengths[0][row] * one.delta + strengths[1][row] * other.delta)
        with hooked(model, delta_h):
            torch.testing.assert_close(made[row], model.eps(x[row : row + 1], 400, text)[0], rtol=0, atol=1e-5)
    nothing = RowShifts(((one, torch.zeros(10)),), 20)
    torch.testing.assert_close(model.eps(x, 400, text, None, nothing), model.eps(x, 400, text), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_trained_direction_follows_the_rows_own_h(model: TextToImage) -> None:
    block = DeltaBlock(16, model.unet.time_embedding.linear_2.out_features)
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(1))
    implicit = ImplicitDirection(block.eval(), 40)
    x, text = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3)), model.embed([PROMPT])
    made = model.eps(x, 400, text, None, RowShifts(((implicit, torch.ones(2)),), 40))
    alone = [model.eps(row[None], 400, text, None, RowShifts(((implicit, torch.ones(1)),), 40)) for row in x]
    torch.testing.assert_close(made, torch.cat(alone), rtol=0, atol=1e-5)
    assert (made - model.eps(x, 400, text)).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("same_texts", [True, False])
def test_guidance_and_strengths_with_shifts_written_out(model: TextToImage, same_texts: bool) -> None:
    """eps(0) + G (eps(source) + s (eps(own) - eps(source)) - eps(0)) of h, and what delta_h changes of eps(0)."""
    one = direction()
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    text = model.embed([PROMPT, TARGET, TARGET])
    empty = text[:1] if same_texts else model.embed([""])
    s, c = torch.tensor([0.0, 0.4, 1.0]), torch.tensor([0.0, 1.0, -0.5])
    made = model.guided(x, 400, text, empty, 3.0, strength=s[:, None, None, None], shifts=RowShifts(((one, c),), 40))
    for row in range(3):
        null, source, own = (model.eps(x[row : row + 1], 400, e) for e in (empty, text[:1], text[row : row + 1]))
        with hooked(model, c[row] * one.delta):
            shifted = model.eps(x[row : row + 1], 400, empty)
        expected = shifted + 3 * (source + s[row] * (own - source) - null)
        torch.testing.assert_close(made[row : row + 1], expected, rtol=0, atol=2e-5)


def test_strength_0_of_both_is_the_picture(model: TextToImage, inversion: Inversion) -> None:
    made = finish(edit(model, inversion, [Target(TARGET, 0.0, directions=[(direction(), 0.0)])], FREE))
    torch.testing.assert_close(made, finish(reconstruct(model, inversion)), rtol=0, atol=1e-4)


def test_words_alone_are_what_they_were(model: TextToImage, inversion: Inversion) -> None:
    for settings in (FREE, PromptEditSettings()):
        plain, zero = (
            finish(edit(model, inversion, [Target(TARGET, directions=given)], settings))
            for given in ((), [(direction(), 0.0)])
        )
        torch.testing.assert_close(plain, zero, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_direction_without_words_written_out(model: TextToImage, inversion: Inversion) -> None:
    """The anchored step of a target (`core.inversion.anchored`) by hand, the direction by a hook."""
    one, strength = direction(), 2.0
    [made] = finish(edit(model, inversion, [Target(PROMPT, 0.0, directions=[(one, strength)])], FREE))
    solution, schedule = inversion.solution, model.schedule
    steps = solution.steps_left(solution.decoder.skip)
    times = schedule.timesteps(STEPS)
    placed = calibrated(schedule, times[:steps], one, EditSettings(steps, injection="symmetric"))
    delta_h = strength * placed.weights[0] * one.delta * 40 / steps
    text, empty = model.embed([PROMPT]), solution.unconditional_at(0)
    guidance = solution.guidance_beside(inversion.edit_guidance)
    x = solution.trajectory[steps : steps + 1]
    for i in range(steps - 1, -1, -1):
        t, t_prev = times[i], times[i - 1] if i else -1
        on_path = solution.trajectory[i + 1 : i + 2]

        def step(z: Tensor, delta_h: Tensor) -> Tensor:
            null, towards = model.eps(z, t, empty), model.eps(z, t, text)  # noqa: B023
            with hooked(model, delta_h):
                shifted = model.eps(z, t, empty)  # noqa: B023
            eps = shifted + guidance * (towards - null)
            return schedule.reverse_step(z, eps, eps, t, t_prev, solution.decoder.eta, z.new_zeros(()))  # noqa: B023

        r = solution.trajectory[i : i + 1] - step(on_path, torch.zeros_like(delta_h))
        x = step(x, delta_h) + r
    torch.testing.assert_close(made, model.decode(x)[0], rtol=0, atol=1e-4)
    assert (made - finish(reconstruct(model, inversion))[0]).abs().max() > 1e-2


def test_words_and_directions_only_in_a_region(model: TextToImage, inversion: Inversion) -> None:
    """Outside, the latents are those of the picture; both changes are inside."""
    mask = np.zeros((16, 16), bool)
    mask[:8] = True
    inside = PromptEditSettings(region=Region("top", mask))
    steps = inversion.solution.steps_left(inversion.solution.decoder.skip)

    def latents(given: list[tuple[GlobalDirection, float]]) -> Tensor:
        rows = editing._conditioning(model, inversion, [Target(TARGET, 1.0, directions=given)], inside, steps)
        *_, (_, _, x) = denoise_batch(model, inversion.solution, rows, inversion.solution.decoder.skip)
        return x[1]

    both, words, kept = latents([(direction(), 2.0)]), latents([]), inversion.solution.trajectory[0]
    torch.testing.assert_close(both[:, 4:], kept[:, 4:])
    for other in (words, kept):
        assert (both - other)[:, :4].abs().max() > 1e-2


def test_several_targets_have_directions_of_their_own(model: TextToImage, inversion: Inversion) -> None:
    """In one batch as alone, also where attention is controlled and targets are done in groups."""
    one, other = direction(1), direction(2)
    targets = [
        Target(TARGET, 1.0, directions=[(one, 1.0)]),
        Target(PROMPT, 0.0, directions=[(other, -2.0), (one, 0.5)]),
        Target("a red cat", 0.5),
        Target(TARGET, 1.0, directions=[(one, 2.0)]),
    ]
    for settings in (FREE, PromptEditSettings()):
        together = finish(edit(model, inversion, targets, settings))
        alone = [finish(edit(model, inversion, [target], settings)) for target in targets]
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)


def test_where_a_part_acts(model: TextToImage, inversion: Inversion) -> None:
    """A part that ends above every step that is done changes nothing; one that acts on the predicted picture alone is
    refused."""
    late = CompositeDirection((direction(),), (1.0,), (999,), ("symmetric",))
    plain = finish(edit(model, inversion, [Target(PROMPT, 0.0)], FREE))
    same = finish(edit(model, inversion, [Target(PROMPT, 0.0, directions=[(late, 5.0)])], FREE))
    torch.testing.assert_close(same, plain, rtol=0, atol=1e-5)
    asyrp = CompositeDirection((direction(),), (1.0,), (0,), ("asymmetric",))
    with pytest.raises(RequestError, match="without words"):
        finish(edit(model, inversion, [Target(TARGET, directions=[(asyrp, 1.0)])], FREE))
