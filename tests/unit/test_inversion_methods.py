"""Every inversion method on a linear network, where its answer is known; float64 throughout."""

from collections.abc import Callable
from math import log2, sqrt

import pytest
import torch
from diffusers.pipelines.ledits_pp.pipeline_leditspp_stable_diffusion import compute_noise_ddim
from small_text_models import closed_form_task, scheduler
from torch import Tensor

from benchmarks import released_null_text
from core.inversion import (
    anchored,
    cycle_diffusion,
    ddib,
    ddim,
    direct,
    edict,
    edit_friendly,
    fixed_point,
    latent_top,
    negative_prompt,
    null_text,
    teacher_forced,
)
from core.inversion.optimise import Minimum, Objective, gaussianity, minimise, minimise_in_time
from core.inversion.sampler import Conditioning, denoise_batch
from core.inversion.solution import Solution, Task
from core.progress import finish
from core.schedule import Schedule

SLOPE, SOURCE, EMPTY, G = 0.1, 0.3, -0.2, 7.5
GUIDED = EMPTY + G * (SOURCE - EMPTY)


def coefficients(task: Task, i: int) -> tuple[float, float]:
    """Step i: x_i = a x_{i+1} + b eps."""
    a_t, a_prev = (task.model.schedule.alpha(level) for level in (task.levels[i + 1], task.levels[i]))
    a = sqrt(a_prev / a_t)
    return a, sqrt(1 - a_prev) - a * sqrt(1 - a_t)


def plain_inversion(task: Task, mean: float, slope: float = SLOPE) -> Tensor:
    """The recurrence x_{i+1} = (x_i - b (slope x_i + mean)) / a."""
    xs = [task.x0]
    for i in range(task.settings.steps):
        a, b = coefficients(task, i)
        xs.append((xs[-1] - b * (slope * xs[-1] + mean)) / a)
    return torch.cat(xs)


def down(task: Task, x: Tensor, mean: float, slope: float = SLOPE) -> Tensor:
    """The recurrence x_i = a x_{i+1} + b (slope x_{i+1} + mean), to the picture."""
    for i in range(task.settings.steps - 1, -1, -1):
        a, b = coefficients(task, i)
        x = a * x + b * (slope * x + mean)
    return x


def decoded(task: Task, solution: Solution, guidance: float | None = None, skip: float = 0.0) -> Tensor:
    """The pictures (2, 3, 4, 4) of the source and of a target with the same prompt at `guidance`."""
    guidance = solution.guidance if guidance is None else guidance
    rows = Conditioning(
        task.text.expand(2, -1, -1),
        torch.tensor([solution.guidance, guidance])[:, None, None, None],
        torch.ones(2, 1, 1, 1),
    )
    *_, (_, _, x) = denoise_batch(task.model, solution, rows, skip)
    return x


# ------------------------------------------------------------------------------------------------- without optimising


@pytest.mark.parametrize(
    ("invert", "mean_up", "mean_down"),
    [
        (ddim.invert, SOURCE, SOURCE),
        (ddim.invert_guided, GUIDED, GUIDED),
        (ddib.invert, SOURCE, GUIDED),
        (negative_prompt.invert, SOURCE, SOURCE),
    ],
    ids=["ddim", "ddim guided", "ddib", "negative prompt"],
)
def test_plain_methods_follow_their_recurrence(invert: Callable, mean_up: float, mean_down: float) -> None:
    task = closed_form_task(SLOPE, SOURCE, EMPTY)
    solution = finish(invert(task))
    expected = plain_inversion(task, mean_up)
    assert torch.allclose(solution.trajectory, expected, rtol=0, atol=1e-12)
    x = decoded(task, solution)
    assert torch.allclose(x[:1], down(task, expected[-1:], mean_down), rtol=0, atol=1e-11)
    assert (x[:1] - task.x0).abs().max() > 1e-3  # none of them is exact, even here


def test_a_shared_eps_comes_back() -> None:
    """Without a slope eps is the same on the way up and down."""
    for invert in (ddim.invert, ddim.invert_guided, negative_prompt.invert):
        task = closed_form_task(0.0, SOURCE, EMPTY, steps=50)
        x = decoded(task, finish(invert(task)))
        assert torch.allclose(x, task.x0.expand_as(x), rtol=0, atol=1e-12)


def test_fixed_point_solves_every_step() -> None:
    """x_{i+1} = (x_i - b mean) / (a + b slope). For this network Anderson's first combination is the answer."""
    task = closed_form_task(SLOPE, SOURCE, EMPTY, solver_iterations=3, depth=1, solver_tolerance=0.0)
    solution = finish(fixed_point.invert(task))
    expected = [task.x0]
    for i in range(10):
        a, b = coefficients(task, i)
        expected.append((expected[-1] - b * GUIDED) / (a + b * SLOPE))
    assert torch.allclose(solution.trajectory, torch.cat(expected), rtol=0, atol=1e-12)
    assert torch.allclose(decoded(task, solution), task.x0.expand(2, -1, -1, -1), rtol=0, atol=1e-11)

    unaccelerated = closed_form_task(SLOPE, SOURCE, EMPTY, solver_iterations=3, depth=0, solver_tolerance=0.0)
    x = decoded(unaccelerated, finish(fixed_point.invert(unaccelerated)))
    assert (x - task.x0).abs().max() > 1e-6


def test_fixed_point_stops_where_it_is_solved() -> None:
    solver = {"solver_iterations": 20, "depth": 1, "solver_tolerance": 1e-9}
    task = closed_form_task(SLOPE, SOURCE, EMPTY, source_guidance=1.0, **solver)
    finish(fixed_point.invert(task))
    assert task.model.evaluations.forward <= 4 * task.settings.steps


def test_a_prediction_costs_nothing_and_removes_most_of_the_error() -> None:
    """One evaluation per step, as in plain inversion; the errors of three step counts fall with a higher order."""
    errors = []
    for steps in (20, 40, 80):
        task = closed_form_task(SLOPE, SOURCE, EMPTY, steps=steps, solver_iterations=1, source_guidance=1.0)
        solution = finish(fixed_point.invert(task))
        assert task.model.evaluations.forward == steps + 1
        plain = closed_form_task(SLOPE, SOURCE, EMPTY, steps=steps)
        found = [solution, finish(ddim.invert(plain))]
        errors.append([(decoded(plain, one) - task.x0).abs().max().item() for one in found])
    assert all(ours < 0.05 * theirs for ours, theirs in errors)
    orders = [[log2(a / b) for a, b in zip(*pair, strict=True)] for pair in zip(errors, errors[1:], strict=False)]
    assert all(ours > 1.7 and theirs < 1.3 for ours, theirs in orders)


# ------------------------------------------------------------------------------------------------------ anchored ones


def test_direct_holds_the_source_and_lets_targets_go() -> None:
    """The target is what plain decoding at the working guidance makes of the latent, as in DDIB."""
    task = closed_form_task(SLOPE, SOURCE, EMPTY)
    x = decoded(task, finish(direct.invert(task)))
    assert torch.equal(x[:1], task.x0)
    assert torch.allclose(x[1:], down(task, plain_inversion(task, SOURCE)[-1:], GUIDED), rtol=0, atol=1e-11)


def test_anchored_targets_differ_by_what_guidance_makes_of_their_words() -> None:
    """Of G and of 1 + 0.6 (G - 1): a target with mean m adds G (m - empty) less the source's share of its own, at every
    step. With the source's own prompt and no more guidance than the source has, it is the picture again."""
    task = closed_form_task(SLOPE, SOURCE, EMPTY)
    solution = finish(anchored.invert(task))
    assert solution.decoder.skip == 0.36
    other = 0.4
    for guidance in (1.0, 3.0, G):
        own = solution.guidance_beside(guidance)
        assert own == pytest.approx(1 + 0.6 * (guidance - 1))
        rows = Conditioning(
            torch.cat((task.text, task.text, torch.full_like(task.text, other), task.text)),
            torch.tensor([own, own, guidance, guidance], dtype=torch.float64).view(4, 1, 1, 1),
            torch.ones(4, 1, 1, 1),
        )
        *_, (_, _, x) = denoise_batch(task.model, solution, rows)
        assert torch.equal(x[:1], task.x0)
        assert torch.allclose(x[1:2], task.x0, rtol=0, atol=1e-11)
        for row, mean in ((2, other), (3, SOURCE)):
            added = 0.0
            for i in range(9, -1, -1):  # the difference of target and source, the same in every pixel
                a, b = coefficients(task, i)
                added = a * added + b * (SLOPE * added + guidance * (mean - EMPTY) - own * (SOURCE - EMPTY))
            assert torch.allclose(x[row : row + 1], task.x0 + added, rtol=0, atol=1e-10)


@pytest.mark.parametrize("invert", [edit_friendly.invert, cycle_diffusion.invert], ids=["edit-friendly", "cycle"])
def test_noise_maps_reconstruct_exactly(invert: Callable) -> None:
    """The second row is not held: it gets there by the noise maps alone."""
    task = closed_form_task(SLOPE, SOURCE, EMPTY, steps=20)
    solution = finish(invert(task))
    x = decoded(task, solution)
    assert torch.allclose(x, task.x0.expand_as(x), rtol=0, atol=1e-12)
    assert (decoded(task, solution, guidance=G)[1:] - task.x0).abs().max() > 1e-2
    skipped = decoded(task, solution, skip=0.35)
    assert torch.allclose(skipped, task.x0.expand_as(x), rtol=0, atol=1e-12)


def test_edit_friendly_edits_are_those_of_diffusers() -> None:
    """Noise maps of LEDITS++ on the same noisy pictures, then DDPM steps of diffusers at another guidance."""
    task = closed_form_task(SLOPE, SOURCE, EMPTY, steps=1000)
    solution = finish(edit_friendly.invert(task))
    ddpm = scheduler()
    ddpm.alphas_cumprod = ddpm.alphas_cumprod.double()
    ddpm.set_timesteps(1000)
    mean = {g: EMPTY + g * (SOURCE - EMPTY) for g in (3.5, G)}
    x = solution.x_T
    for i in range(999, 0, -1):
        held, held_prev = solution.trajectory[i + 1], solution.trajectory[i]
        z, _ = compute_noise_ddim(ddpm, held_prev, held, i, SLOPE * held + mean[3.5], 1.0)
        x = ddpm.step(SLOPE * x + mean[G], i, x, eta=1.0, variance_noise=z[None]).prev_sample

    guidance = torch.tensor([3.5, G])[:, None, None, None]
    rows = Conditioning(task.text.expand(2, -1, -1), guidance, torch.ones(2, 1, 1, 1))
    ours = next(x for i, _, x in denoise_batch(task.model, solution, rows) if i == 1)
    assert torch.allclose(ours[1:], x, rtol=0, atol=1e-9)
    assert (ours[1:] - ours[:1]).abs().max() > 1e-2


def test_noisy_pictures_have_the_marginals_of_the_process() -> None:
    """Of both stochastic encoders; neighbours are independent in the one and nearly equal in the other."""
    task = closed_form_task(SLOPE, steps=10)
    x0 = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    wide = Task(task.model, x0, task.text, task.empty, task.settings)
    for invert, related in ((edit_friendly.invert, 0.0), (cycle_diffusion.invert, 0.99)):
        xs = finish(invert(wide)).trajectory
        for x, t in zip(xs[1:], wide.levels[1:], strict=True):
            assert x.square().mean().item() == pytest.approx(1 - task.model.schedule.alpha(t), rel=0.05)
        correlation = torch.corrcoef(xs[5:7].flatten(1))[0, 1].item()
        assert correlation == pytest.approx(related, abs=0.03)


# -------------------------------------------------------------------------------------------------------------- EDICT


def test_edict_is_its_printed_equation() -> None:
    """Eq. 14 with numbers: a = sqrt(a_prev / a_t), b = sqrt(1 - a_prev) - a sqrt(1 - a_t)."""
    schedule = Schedule(torch.tensor([0.81, 0.36], dtype=torch.float64))
    x, y = (torch.tensor(value, dtype=torch.float64) for value in (1.0, 2.0))
    a, b, p = 1.5, sqrt(0.19) - 1.5 * 0.8, 0.93
    x_inter = a * 1.0 + b * (2 * 2.0)
    y_inter = a * 2.0 + b * (2 * x_inter)
    x_prev = p * x_inter + (1 - p) * y_inter
    y_prev = p * y_inter + (1 - p) * x_prev
    found = edict.denoise(schedule, x, y, 1, 0, lambda z: 2 * z, p)
    assert [value.item() for value in found] == pytest.approx([x_prev, y_prev], abs=1e-12)
    swapped = edict.denoise(schedule, y, x, 1, 0, lambda z: 2 * z, p, x_first=False)
    assert [value.item() for value in swapped] == pytest.approx([y_prev, x_prev], abs=1e-12)


@pytest.mark.parametrize("x_first", [True, False])
def test_edict_steps_are_inverses_for_any_network(x_first: bool) -> None:
    schedule = Schedule.from_scheduler(scheduler())
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=generator) for _ in range(2))

    def eps(z: Tensor) -> Tensor:
        return torch.sin(3 * z) + z.roll(1, dims=-1) ** 2

    for t_prev, t in ((-1, 0), (0, 20), (480, 500), (979, 999)):
        up = edict.noise(schedule, x, y, t_prev, t, eps, 0.93, x_first)
        back = edict.denoise(schedule, *up, t, t_prev, eps, 0.93, x_first)
        for found, start in zip(back, (x, y), strict=True):
            assert torch.allclose(found, start, rtol=0, atol=1e-12)


def test_edict_comes_back_to_round_off() -> None:
    """Errors of 1e-16 grow by at most 1 / p^2 a step and mixing layer."""
    task = closed_form_task(SLOPE, SOURCE, EMPTY, steps=50)
    solution = finish(edict.invert(task))
    assert not torch.allclose(solution.trajectory[-1], solution.decoder.partner[-1], atol=1e-6)
    x = decoded(task, solution)
    assert torch.allclose(x, task.x0.expand_as(x), rtol=0, atol=1e-11)
    assert (decoded(task, solution, guidance=3.0)[1:] - task.x0).abs().max() > 1e-2


# ---------------------------------------------------------------------------------------------------------- optimised


def best_null(task: Task, x: Tensor, goal: Tensor, i: int) -> tuple[float, float]:
    """The unconditional mean that is best for step i from x, in the sense of least squares, and the loss it leaves."""
    a, b = coefficients(task, i)
    needed = (goal - a * x) / b - SLOPE * x  # what the guided mean should be, pixel by pixel
    best = needed.mean().item()
    return (best - G * SOURCE) / (1 - G), (b**2 * (needed - best).square().mean()).item()


CONVERGED = {"iterations": 25, "optimiser": "lbfgs", "rate": 1.0, "tolerance": 0.0, "late": 1.0, "prior_iterations": 0}


def test_null_text_finds_the_best_embedding_of_every_step() -> None:
    task = closed_form_task(SLOPE, SOURCE, EMPTY, **CONVERGED)
    solution = finish(null_text.invert(task))
    pivots = plain_inversion(task, SOURCE)
    for i in range(10):
        # The tolerance grows by 2e-5 per step, so some steps are left before they are converged.
        x = solution.trajectory[i + 1 : i + 2]
        _, least = best_null(task, x, pivots[i : i + 1], i)
        loss = (solution.trajectory[i] - pivots[i]).square().mean().item()
        assert least - 1e-12 <= loss <= max(least + 1e-9, 2e-5 * (9 - i))
    x = decoded(task, solution)
    assert torch.allclose(x, solution.trajectory[:1].expand_as(x), rtol=0, atol=1e-11)
    assert (x - task.x0).square().mean() < 0.01 * (down(task, pivots[-1:], GUIDED) - task.x0).square().mean()


def test_null_text_is_as_close_as_the_released_loop_for_less() -> None:
    errors, gradients = [], []
    for invert in (null_text.invert, released_null_text.invert):
        task = closed_form_task(0.0, SOURCE, 0.28)
        x = decoded(task, finish(invert(task)))
        errors.append((x - task.x0).square().mean().item())
        gradients.append(task.model.evaluations.backward)
    plain = down(task, plain_inversion(task, SOURCE, 0.0)[-1:], 0.28 + G * (SOURCE - 0.28), 0.0)
    unmended = (plain - task.x0).square().mean().item()
    assert errors[0] < 1.1 * errors[1] < 0.1 * unmended
    assert 0 < gradients[0] < gradients[1]


def test_the_rate_of_null_text_is_the_released_one_at_50_steps_and_positive_at_any_number() -> None:
    for S in (10, 50):
        for n in range(S):
            assert null_text.schedule_at(n, S) == pytest.approx((1 - n / 100, 2e-5 * n))
    for S in (1, 4, 100, 200, 999):
        shares, growths = zip(*(null_text.schedule_at(n, S) for n in range(S)), strict=True)
        assert shares[0] == 1
        assert min(shares) > 0.5
        assert growths[0] == 0 <= max(growths) < 1e-3


def test_null_text_optimises_every_one_of_200_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the released rate, which is negative from the 100th on, half of them would lead away."""
    rates = []

    def recorded(task: Task, objective: Objective, start: list[Tensor], rate: list[float], *others: float) -> Minimum:
        rates.extend(rate)
        return minimise_in_time(task, objective, start, rate, *others)

    monkeypatch.setattr(null_text, "minimise_in_time", recorded)
    finish(null_text.invert(closed_form_task(SLOPE, SOURCE, EMPTY, steps=200, iterations=1)))
    assert rates == pytest.approx([1e-2 * (1 - n / 400) for n in range(200)])


def test_null_text_is_exact_where_an_embedding_is() -> None:
    """Without a slope the guided prediction is right when the empty embedding has the source's mean."""
    task = closed_form_task(0.0, SOURCE, EMPTY, **CONVERGED)
    solution = finish(latent_top.invert(task))
    assert solution.unconditional[:-1].mean((1, 2)).tolist() == pytest.approx([SOURCE] * 9, abs=1e-6)
    x = decoded(task, solution)
    assert torch.allclose(x, task.x0.expand_as(x), rtol=0, atol=1e-6)


def test_teacher_forced_solves_each_step_at_the_prior() -> None:
    task = closed_form_task(SLOPE, SOURCE, EMPTY, rows=4, **CONVERGED)
    solution = finish(teacher_forced.invert(task))
    prior = plain_inversion(task, SOURCE)
    assert torch.allclose(solution.trajectory, prior, rtol=0, atol=1e-12)
    expected = [best_null(task, prior[i + 1 : i + 2], prior[i : i + 1], i)[0] for i in range(10)]
    assert solution.unconditional.mean((1, 2)).tolist() == pytest.approx(expected, abs=1e-5)


def test_latent_top_learns_both_biases() -> None:
    """z_T can take up any error of the first step; later steps are the best that a text bias can do."""
    task = closed_form_task(SLOPE, SOURCE, EMPTY, **CONVERGED, starts=1)
    solution = finish(latent_top.invert(task))
    prior = plain_inversion(task, SOURCE)
    assert (solution.trajectory[9] - prior[9]).square().mean() < 1e-9
    assert (solution.x_T - prior[-1:]).abs().max() > 1e-4
    for i in range(9):
        x, goal = solution.trajectory[i + 1 : i + 2], prior[i : i + 1]
        null, least = best_null(task, x, goal, i)
        assert (solution.trajectory[i] - goal).square().mean().item() == pytest.approx(least, abs=1e-10)
        assert solution.unconditional[i].mean().item() == pytest.approx(null, abs=1e-4)
    x = decoded(task, solution)
    assert torch.allclose(x, solution.trajectory[:1].expand_as(x), rtol=0, atol=1e-11)


def test_latent_top_works_most_near_the_picture() -> None:
    """The last steps are nearly the best that a text bias can do, and those before not yet: they have one iteration."""
    task = closed_form_task(SLOPE, SOURCE, 0.29, iterations=40, late=0.3, starts=1, tolerance=0.0, prior_iterations=0)
    solution = finish(latent_top.invert(task))
    prior = plain_inversion(task, SOURCE)
    excess = []
    for i in range(9):
        _, least = best_null(task, solution.trajectory[i + 1 : i + 2], prior[i : i + 1], i)
        excess.append((solution.trajectory[i] - prior[i]).square().mean().item() - least)
    assert max(excess[:3]) < 0.01 * max(excess[3:])
    assert task.model.evaluations.backward == 2 * 1 + 6 * 1 + 3 * 40


def test_a_single_iteration_of_latent_top_keeps_the_better_bias() -> None:
    """Of the bias of the step before and one that Adam's first step has moved towards the best, by their exact loss."""
    settings = {"iterations": 1, "starts": 1, "rate": 0.2, "tolerance": 0.0, "prior_iterations": 0}
    task = closed_form_task(SLOPE, SOURCE, 0.2, **settings)
    solution = finish(latent_top.invert(task))
    prior = plain_inversion(task, SOURCE)
    moves = 0
    for i in range(9):
        x, goal, before = solution.trajectory[i + 1 : i + 2], prior[i : i + 1], solution.unconditional[i + 1]
        best, _ = best_null(task, x, goal, i)
        towards = 0.2 if best > before.mean() else -0.2
        a, b = coefficients(task, i)
        ends = {n: a * x + b * (SLOPE * x + n + G * (SOURCE - n)) for n in (before.mean(), before.mean() + towards)}
        null, end = min(ends.items(), key=lambda item: (item[1] - goal).square().mean())
        assert solution.unconditional[i].mean().item() == pytest.approx(null.item(), abs=1e-6)
        assert torch.allclose(solution.trajectory[i : i + 1], end, rtol=0, atol=1e-5)
        moves += abs(null.item() - before.mean().item()) > 0.1
    assert 0 < moves < 9


def test_latent_top_works_on_where_the_path_goes_astray() -> None:
    """With an empty prompt far from the source's one iteration is not enough, and a step has them all."""
    task = closed_form_task(SLOPE, SOURCE, -5.0, iterations=4, starts=1, tolerance=0.0)
    finish(latent_top.invert(task))
    assert task.model.evaluations.backward == 2 * 1 + 9 * 4


def test_the_prior_of_latent_top_is_predicted() -> None:
    task = closed_form_task(SLOPE, SOURCE, EMPTY, iterations=0, starts=1)
    prior = finish(fixed_point.invert(closed_form_task(SLOPE, solver_iterations=1, source_guidance=1.0)))
    found = finish(latent_top.invert(task))
    assert torch.allclose(found.x_T, prior.x_T, rtol=0, atol=1e-12)


def test_latent_top_chooses_the_start_with_the_smallest_first_loss() -> None:
    task = closed_form_task(SLOPE, SOURCE, EMPTY, starts=6, start_scale=0.5)
    prior = plain_inversion(task, SOURCE)
    null, z_T = latent_top.choose_start(task, prior)
    a, b = coefficients(task, 9)

    def first_loss(null: Tensor, z_T: Tensor) -> float:
        x = prior[-1:] + z_T
        mean = null.mean() + G * (SOURCE - null.mean())
        return (a * x + b * (SLOPE * x + mean) - prior[9]).square().mean().item()

    generator = torch.Generator().manual_seed(0)
    drawn = [0.5 * torch.randn(5, *like.shape[1:], generator=generator) for like in (null, z_T)]
    losses = [first_loss(task.empty, torch.zeros_like(z_T))]
    losses += [first_loss(task.empty + n, z[None]) for n, z in zip(*drawn, strict=True)]
    assert first_loss(null, z_T) == pytest.approx(min(losses), rel=1e-9)
    assert min(losses) < losses[0]


def test_latent_top_as_published_is_the_best_that_biases_can_do_at_every_step() -> None:
    """From the plain prior, whatever the settings of our form say: closed form, as of `latent_top.invert` above."""
    ours = {"late": 0.1, "prior_iterations": 2, "tolerance": 0.5, "start": "source", "shared": True, "gaussian": 3.0}
    settings = CONVERGED | ours | {"starts": 1}
    task = closed_form_task(SLOPE, SOURCE, EMPTY, **settings)
    solution = finish(latent_top.as_published(task))
    prior = plain_inversion(task, SOURCE)
    assert (solution.trajectory[9] - prior[9]).square().mean() < 1e-9
    for i in range(9):
        x, goal = solution.trajectory[i + 1 : i + 2], prior[i : i + 1]
        null, least = best_null(task, x, goal, i)
        assert (solution.trajectory[i] - goal).square().mean().item() == pytest.approx(least, abs=1e-10)
        assert solution.unconditional[i].mean().item() == pytest.approx(null, abs=1e-4)


def test_latent_top_as_published_hops_from_every_initialisation() -> None:
    """Against the walk written out: 2 initialisations, the first of no bias, and hops kept where the loss falls."""
    task = closed_form_task(SLOPE, SOURCE, EMPTY, starts=7, start_scale=0.1)
    prior = plain_inversion(task, SOURCE)
    a, b = coefficients(task, 9)

    def first_loss(null: Tensor, z_T: Tensor) -> float:
        mean = null.mean() + G * (SOURCE - null.mean())
        x = prior[-1:] + z_T
        return (a * x + b * (SLOPE * x + mean) - prior[9]).square().mean().item()

    generator = task.generator()

    def drawn(n: int) -> list[tuple[Tensor, Tensor]]:
        shapes = (task.empty.shape[1:], task.x0.shape[1:])
        return list(zip(*(0.1 * torch.randn(n, *shape, generator=generator) for shape in shapes), strict=True))

    [(null, z_T)] = drawn(1)
    places = [(task.empty, torch.zeros_like(task.x0)), (task.empty + null, z_T[None])]
    before = [first_loss(*place) for place in places]
    for rows in (2, 2, 1):  # 7 samples in all
        for n, (null, z_T) in enumerate(drawn(rows)):
            moved = (places[n][0] + null, places[n][1] + z_T)
            if first_loss(*moved) < first_loss(*places[n]):
                places[n] = moved
    best = min(places, key=lambda place: first_loss(*place))
    assert first_loss(*best) < min(before)  # a hop was kept
    null, z_T = latent_top.start_with_hops(task, prior)
    assert torch.allclose(null, best[0].to(null), rtol=0, atol=1e-6)
    assert torch.allclose(z_T, best[1].to(z_T), rtol=0, atol=1e-6)
    assert task.model.evaluations.forward == 2 * 7


def test_latent_top_with_one_bias_for_all_steps() -> None:
    """Without a slope the same bias is right everywhere, and it serves every step."""
    task = closed_form_task(0.0, SOURCE, EMPTY, shared=True, starts=1, iterations=100, rate=0.05, tolerance=1e-12)
    solution = finish(latent_top.invert(task))
    assert solution.unconditional.shape == task.empty.shape
    assert solution.unconditional.mean().item() == pytest.approx(SOURCE, abs=1e-3)


def test_latent_top_may_start_at_the_source_prompt() -> None:
    """There the guided prediction is the conditional one: only the error of plain inversion is left to remove."""
    losses = []
    for start in ("empty", "source"):
        task = closed_form_task(SLOPE, SOURCE, EMPTY, start=start, starts=1, iterations=0)
        x = decoded(task, finish(latent_top.invert(task)))
        losses.append((x - task.x0).square().mean().item())
    assert losses[1] < 0.01 * losses[0]


def test_a_penalty_keeps_the_latent_gaussian() -> None:
    """x_T of a flat picture is flat as well, far from white noise; the penalty pulls it there."""
    found = []
    for weight in (0.0, 10.0):
        paper = {"starts": 1, "iterations": 80, "late": 1.0, "prior_iterations": 0}
        task = closed_form_task(SLOPE, SOURCE, EMPTY, noise_rate=0.1, gaussian=weight, **paper)
        flat = Task(task.model, torch.full_like(task.x0, 0.8), task.text, task.empty, task.settings)
        found.append(gaussianity(finish(latent_top.invert(flat)).x_T).item())
    assert found[1] < 0.5 * found[0]


def test_gaussianity_is_small_for_white_noise_alone() -> None:
    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    white = gaussianity(noise).item()
    assert white < 0.02
    for other in (1.3 * noise, noise + 0.5, noise + noise.roll(1, dims=-1), noise.repeat_interleave(2, dim=-1)):
        assert gaussianity(other).item() > 5 * white


@pytest.mark.parametrize(
    ("invert", "forward", "backward"),
    [
        (ddim.invert, 10, 0),
        (ddim.invert_guided, 20, 0),
        (direct.invert, 10, 0),
        (edict.invert, 40, 0),
        (edit_friendly.invert, 0, 0),
        # Per step: the conditional prediction, m + 1 of the unconditional, and the guided step at the end.
        (null_text.invert, 10 + 10 * (1 + 4 + 2), 10 * 3),
        # The prior (one more in its first step), starts, the first step with both predictions, and one conditional
        # prediction in each of the others; m iterations in the last fifth, else one.
        (latent_top.invert, 11 + 2 * 5 + 2 * 2 + 7 * (1 + 2) + 2 * (1 + 4), 2 * 1 + 7 * 1 + 2 * 3),
        # The plain prior, 5 samples, and m iterations in every step.
        (latent_top.as_published, 10 + 2 * 5 + 2 * 4 + 9 * (1 + 4), 2 * 3 + 9 * 3),
        (teacher_forced.invert, 11 + 10 * (1 + 4), 10 * 3),
        (fixed_point.invert, 2 * (10 * 3 + 1), 0),
        (anchored.invert, 10, 0),
    ],
)
def test_network_evaluations(invert: Callable, forward: int, backward: int) -> None:
    task = closed_form_task(SLOPE, iterations=3, starts=5, tolerance=0.0, solver_iterations=3, solver_tolerance=0.0)
    if invert is null_text.invert:  # its tolerance grows
        task = closed_form_task(SLOPE, SOURCE, -50.0, iterations=3, tolerance=0.0)
    if invert is latent_top.invert:  # the path must not go astray
        task = closed_form_task(SLOPE, SOURCE, 0.29, iterations=3, starts=5, tolerance=0.0)
    finish(invert(task))
    assert (task.model.evaluations.forward, task.model.evaluations.backward) == (forward, backward)


# ----------------------------------------------------------------------------------------------------------- minimise


def test_minimise_keeps_the_best_of_each_row() -> None:
    """A rate that is much too large: the start stays the best where it was good."""
    goal = torch.tensor([[0.0], [5.0]])

    def objective(value: Tensor) -> tuple[Tensor, Tensor]:
        return (value - goal).square().sum(1), 2 * value

    (found,), losses, outputs = minimise(objective, [torch.zeros(2, 1)], [6.0], 1, 0.0)
    assert found.flatten().tolist() == pytest.approx([0.0, 6.0], abs=1e-4)
    assert losses.tolist() == pytest.approx([0.0, 1.0], abs=1e-3)
    assert outputs.flatten().tolist() == pytest.approx([0.0, 12.0], abs=1e-3)


def test_minimise_stops_when_it_may() -> None:
    calls = []

    def objective(value: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(value.item())
        return value.square().flatten(), value

    for optimiser in ("adam", "lbfgs"):
        calls.clear()
        (found,), losses, _ = minimise(objective, [torch.ones(1, 1)], [0.1], 50, 0.5, optimiser)
        assert losses.item() < 0.5
        assert len(calls) < 15
    calls.clear()
    minimise(objective, [torch.ones(1, 1)], [0.1], 50, 0.0, stop=lambda: len(calls) >= 3)
    assert len(calls) == 3
