"""A search of directions from the picture to the preset, on a small model with random weights."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_models import small_model

from core import presets
from core.cache import Cache
from core.calibration import response
from core.directions import GlobalDirection, Part, parts_of
from core.discovery import basis as krylov
from core.discovery.basis import Basis
from core.discovery.boundary import Boundaries
from core.discovery.interface import DiscoverySettings
from core.discovery.jacobian_operator import Jacobian
from core.discovery.methods import METHODS
from core.discovery.refinement import refine
from core.editing import EditSettings, acts, edit, sample_latent
from core.errors import ModelUnavailable, RequestError
from core.intervals import Intervals
from core.models.loader import DiffusionModel
from core.process import edit_pictures
from core.progress import Job, Progress, Running, finish
from core.regions import box_mask, parse_regions
from core.studio import measuring
from core.studio.device import DEVICE
from core.studio.discover import analysis, pictures
from core.studio.discover import search as discover_search
from core.studio.discover.analysis import AnalysisCache, analyse_picture, timestep_from_share
from core.studio.discover.exploration import Exploration
from core.studio.discover.overlays import heat_overlay, outside_overlay
from core.studio.discover.pictures import apply_to_others
from core.studio.discover.preset import as_preset, regions_json
from core.studio.discover.rows import carry_over
from core.studio.discover.search import explore, find_rows
from core.studio.discover.spectrum import spectra
from core.studio.edit import edit_frames
from core.studio.frames import EditOptions, Picture
from tabs.discover.rows import rows_value

LEFT = [{"label": "Left", "boxes": [[0.1, 0.2, 0.45, 0.8]]}]
RIGHT = [{"label": "Right", "boxes": [[0.55, 0.2, 0.9, 0.8]]}]
SIZE = 24


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "ANALYSES", AnalysisCache())
    monkeypatch.setattr(pictures, "STEPS", 6)

    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(measuring, "_lpips", missing)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return small_model()


@pytest.fixture(scope="module")
def picture(model: DiffusionModel) -> Picture:
    """What the network makes of some noise."""
    return Picture(finish(edit(model, sample_latent(model, 3), settings=EditSettings(6))), model.card.id)


def search(model: DiffusionModel, picture: Picture, regions: object = LEFT, **values: object) -> Exploration:
    settings = DiscoverySettings(count=3, rank=12, joint_rank=6, individual_rank=3)
    known = {"settings": settings, "size": SIZE, **values}
    return Exploration(model, picture, parse_regions(regions, 32) if regions else [], **known)


def found(one: Exploration, refining: bool = False) -> Exploration:
    assert finish(explore(one, refining)) is one
    return one


def test_heat_is_the_change_of_the_predicted_picture(model: DiffusionModel, picture: Picture) -> None:
    one = found(search(model, picture))
    x_t, t = one.analysis.x_t, one.analysis.t
    features = model.features(x_t, t)

    @torch.no_grad()
    def predicted(delta_h: torch.Tensor) -> torch.Tensor:
        return model.codec.decode(model.schedule.predicted_x0(x_t, model.eps(features, x_t, t, delta_h), t))[0]

    for row in one.rows:
        step = 0.05 * row.found.direction.delta
        change = (predicted(step) - predicted(-step)) / 0.1
        expected = change.abs().sum(0)
        assert torch.allclose(row.heat, expected, atol=0.02 * expected.max().item())


@pytest.mark.parametrize("injection", ["symmetric", "asymmetric"])
def test_a_preset_reproduces_the_pictures_of_its_row(model: DiffusionModel, picture: Picture, injection: str) -> None:
    one = found(search(model, picture, injection=injection))
    row = one.rows[1]
    preset = presets.from_bytes(presets.to_bytes(as_preset(one, row)))
    assert (preset.timestep, preset.injection, preset.method) == (one.analysis.t, injection, "contrast")
    assert parse_regions(preset.region, 32)[0].mask.tolist() == one.regions[0].mask.tolist()
    assert preset.picture().size == (128, 128)
    assert preset.strength_range[0] <= preset.strength <= preset.strength_range[1]
    strengths = [-row.strength, 0.0, row.strength]
    settings = EditSettings(pictures.STEPS, injection=preset.injection)
    again = finish(edit_pictures(model, picture.pixels, 3, [(preset.direction, strengths)], settings))
    assert torch.allclose(again, row.frames, atol=1e-4)
    assert (again[0] - again[2]).abs().max() > 1e-3


def test_another_region_asks_the_network_nothing(
    model: DiffusionModel, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = found(search(model, picture))

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(Jacobian, "forward", refuse)
    monkeypatch.setattr(Jacobian, "reverse", refuse)
    monkeypatch.setattr(DiffusionModel, "features", refuse)
    second = search(model, picture, RIGHT)
    second.analysis = finish(analyse_picture(model, picture, None, SIZE))
    assert second.analysis is first.analysis
    for row in find_rows(second):
        assert row.heat[:, 16:].sum() > 0
        assert row.region.label == "Right"


def test_contrast_acts_where_it_was_asked(model: DiffusionModel, picture: Picture) -> None:
    left, right = (find_rows(found(search(model, picture, regions)))[0] for regions in (LEFT, RIGHT))
    share = [row.heat[:, :16].sum() / row.heat.sum() for row in (left, right)]
    assert share[0] > share[1]


def test_refinement_gains_and_keeps_what_was_touched(model: DiffusionModel, picture: Picture) -> None:
    one = search(model, picture, method="jacobian", size=12)
    quick, running = None, Running(explore(one))
    for _ in running:
        if quick is None and one.rows and all(row.frames is not None for row in one.rows):
            quick = list(one.rows)
            one.rename(1, "  My\nown  ")
    assert running.result is one
    assert one.refined
    assert one.rows[1].name == "My own"
    assert torch.equal(one.rows[1].found.direction.delta, quick[1].found.direction.delta)
    assert len(one.analysis.basis) > 12
    assert one.rows[0].found.value >= quick[0].found.value * (1 - 1e-6)
    assert all(row.frames is not None for row in one.rows)
    assert len({row.name for row in one.rows}) == len(one.rows)


def until_rows(one: Exploration, refining: bool = True) -> Job[Exploration]:
    """The job, at the moment when the first rows are there."""
    job = explore(one, refining)
    for _ in job:
        if one.rows:
            return job
    raise AssertionError("there were no rows")


def leading_energy(basis: Basis, mask: np.ndarray, count: int = 5) -> float:
    return torch.linalg.eigvalsh(basis.gram(mask)).flip(0)[:count].sum().item()


def test_the_first_rows_take_few_products_and_hold_most(
    model: DiffusionModel, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No inversion, no whole basis: eleven vectors of the region, and one round of refinement for contrast."""
    one = search(model, picture, size=64)
    job = until_rows(one)
    job.close()
    assert len(one.rows) == 3
    assert all(row.frames is None for row in one.rows)
    first, mask = one.analysis, one.regions[0].mask
    assert not first.complete
    assert first.basis.forwards + first.basis.reverses == 2 * 11 + 2 * 3
    fine = finish(refine(first.jacobian(), first.basis, mask, 3, tolerance=1e-3))
    held, true = (leading_energy(basis, mask, 3) for basis in (first.basis, fine))
    assert 0.85 * true < held <= true * (1 + 1e-5)


@pytest.mark.parametrize("method", ["contrast", "jacobian", "projection", "jive_individual", "global"])
def test_a_search_that_began_early_ends_as_well_as_one_that_did_not(
    model: DiffusionModel, picture: Picture, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    early = found(search(model, picture, method=method, size=64), refining=True)
    monkeypatch.setattr(analysis, "ANALYSES", AnalysisCache())
    known = finish(analyse_picture(model, picture, None, 64))
    late = search(model, picture, method=method, size=64)
    job = until_rows(late)
    assert late.analysis.basis is known.basis
    finish(job)
    values = [[row.found.value for row in one.rows] for one in (early, late)]
    assert values[0] == pytest.approx(values[1], rel=0.02)
    assert early.analysis.complete
    mask = ~early.regions[0].mask
    assert leading_energy(early.analysis.basis, mask) > 0.98 * leading_energy(late.analysis.basis, mask)


def test_rows_follow_the_basis_and_touched_ones_stay(model: DiffusionModel, picture: Picture) -> None:
    """Named before it has a picture; opened between the first pictures and better directions."""
    one = search(model, picture, size=64)
    job = until_rows(one)
    first = list(one.rows)
    one.rename(2, "Mine")
    versions, opened = {one.version}, None
    for event in job:
        if opened is None and all(row.frames is not None for row in one.rows):
            opened = one.pin(0)
        versions.add(one.version)
        assert 0 <= event.step <= event.total
    assert len(versions) >= 3  # first rows, their pictures, those of the whole basis; the last come with the result
    assert one.rows[2].name == "Mine"
    assert torch.equal(one.rows[2].found.direction.delta, first[2].found.direction.delta)
    assert one.rows[2].frames is not None
    assert one.rows[0] is opened
    assert one.rows[1].found.value > first[1].found.value
    assert one.rows[1].frames is not None


@pytest.mark.parametrize("stop", [1, 4, 7, 12, 20, 30, 45, 60])
def test_a_search_can_be_left_at_any_step_and_taken_up(
    model: DiffusionModel, picture: Picture, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    one = search(model, picture)
    job = explore(one)
    for k, _ in enumerate(job, start=1):
        if k == stop:
            break
    job.close()
    assert not DEVICE.busy
    if one.analysis is not None:
        monkeypatch.setattr(analysis, "place", None)  # what there is of the analysis is used
    again = found(search(model, picture, RIGHT), refining=True)
    assert [row.region.label for row in again.rows] == ["Right"] * 3
    assert all(row.frames is not None for row in again.rows)


def test_half_precision_for_the_first_rows_alone(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(dtype=torch.bfloat16)
    one = search(model, picture)
    job = until_rows(one)
    assert one.analysis.basis.dtype == torch.bfloat16
    finish(job)
    basis = one.analysis.basis
    assert basis.dtype == torch.float32
    exact = one.analysis.jacobian().forward(basis.vectors)
    assert (basis.responses - exact).norm() < 1e-3 * exact.norm()

    monkeypatch.setattr(analysis, "ANALYSES", AnalysisCache())
    monkeypatch.setattr(krylov, "MAX_DISAGREEMENT", 1e-4)  # more than float32 has, less than bfloat16
    one = search(model, picture)
    until_rows(one).close()
    assert one.analysis.basis.dtype == torch.float32


def test_a_search_of_several_regions_begins_with_all_of_them(model: DiffusionModel, picture: Picture) -> None:
    one = search(model, picture, LEFT + RIGHT, size=64)
    until_rows(one).close()
    assert [row.region.label for row in one.rows] == ["Left"] * 3 + ["Right"] * 3
    for region in one.regions:
        fine = finish(refine(one.analysis.jacobian(), one.analysis.basis, region.mask, tolerance=1e-3))
        assert leading_energy(one.analysis.basis, region.mask) > 0.85 * leading_energy(fine, region.mask)


def test_a_search_that_is_left_leaves_everything_as_it_was(model: DiffusionModel, picture: Picture) -> None:
    one = search(model, picture)
    job = explore(one)
    for event in job:
        if event.note == "Analysing":
            break
    job.close()
    assert not DEVICE.busy
    assert one.rows == []
    assert one.analysis is None
    assert len(analysis.ANALYSES) == 0
    assert len(found(search(model, picture)).rows) == 3


@pytest.mark.parametrize("method", ["global", "pca"])
def test_methods_without_a_region(model: DiffusionModel, picture: Picture, method: str) -> None:
    one = found(search(model, picture, None, method=method))
    assert len(one.rows) == 3
    for row in one.rows:
        assert row.region.mask.all()
        assert row.roir is None
        assert row.as_json()["linear_roir"] is None
        assert row.heat.max() > 0
    assert as_preset(one, one.rows[0]).region == []


@pytest.mark.parametrize("method", ["jive_individual", "jive_joint", "projection"])
def test_several_regions(model: DiffusionModel, picture: Picture, method: str) -> None:
    one = found(search(model, picture, LEFT + RIGHT, method=method))
    labels = [row.region.label for row in one.rows]
    assert labels == ([""] * 3 if method == "jive_joint" else ["Left"] * 3 + ["Right"] * 3)


def test_spectra_are_those_of_the_masked_responses(model: DiffusionModel, picture: Picture) -> None:
    one = found(search(model, picture))
    rows = one.analysis.basis.responses
    for spectrum, mask in zip(spectra(one, 5), (one.regions[0].mask, ~one.regions[0].mask), strict=True):
        masked = (rows * torch.from_numpy(mask)).flatten(1).double().numpy()
        assert np.allclose(spectrum.values, np.linalg.svd(masked, compute_uv=False)[:5], rtol=1e-3)
        assert spectrum.individual >= 0
        assert 0.5 < spectrum.joint + spectrum.individual <= 1 + 1e-6


def test_on_other_pictures(model: DiffusionModel, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    one = found(search(model, picture))
    side = model.card.resolution
    strangers = [Picture(torch.rand(1, 3, side, side) * 2 - 1, model.card.id) for _ in range(2)]
    before, after = finish(apply_to_others(one, one.rows[0], strangers, one.rows[0].strength))
    assert before.shape == after.shape == (2, 3, side, side)
    assert (after - before).abs().flatten(1).max(1).values.min() > 1e-3
    same, again = finish(apply_to_others(one, one.rows[0], strangers, 0.0))
    assert torch.allclose(same, again)
    assert torch.allclose(same, before, atol=1e-4)


BAD = [
    ({"method": "magic"}, "no method 'magic'"),
    ({"injection": "sideways"}, "no injection 'sideways'"),
    ({"size": 4}, "basis size must lie between 8"),
    ({"size": 10**6}, "basis size must lie between 8"),
    ({"timestep": -1}, "timestep must lie between 0"),
    ({"timestep": 1001}, "timestep must lie between 0"),
    ({"settings": DiscoverySettings(count=13)}, "count must lie between 1 and 12"),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=[str(list(values.items())[0]) for values, _ in BAD])
def test_settings_out_of_range(model: DiffusionModel, picture: Picture, values: dict, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        search(model, picture, **values)


@pytest.mark.parametrize("index", [-1, 3, True, "0", None, 0.0])
def test_rows_that_are_not_there(model: DiffusionModel, picture: Picture, index: object) -> None:
    one = found(search(model, picture))
    with pytest.raises(RequestError, match="no longer here"):
        one.pin(index)
    with pytest.raises(RequestError, match="needs a name"):
        one.rename(0, " \n\t ")


def scribbles(count: int, points: int) -> list[dict]:
    x = np.linspace(0.2, 0.8, points)
    heights = np.linspace(0.2, 0.8, count)
    lines = [np.column_stack((x, y + 0.02 * np.sin(40 * x))) for y in heights]
    return [{"points": line.tolist(), "width": 0.02} for line in lines]


@pytest.mark.parametrize(("count", "points"), [(4, 10), (20, 200), (64, 60)])
def test_strokes_fit_into_a_preset(count: int, points: int) -> None:
    regions = parse_regions(
        [{"label": "a", "strokes": scribbles(count, points)}, {"label": "b", "box": [0, 0, 0.3, 0.3]}], 64
    )
    kept = regions_json(regions)
    assert len(json.dumps(kept)) < 16_384
    for region, again in zip(regions, parse_regions(kept, 64), strict=True):
        assert (again.mask & region.mask).sum() / (again.mask | region.mask).sum() > 0.6


def test_regions_of_very_many_shapes_become_the_boxes_around_them() -> None:
    boxes = [[0.1 + k / 100, 0.2, 0.105 + k / 100, 0.6] for k in range(60)]
    regions = parse_regions([{"label": f"r{k}", "boxes": boxes} for k in range(8)], 64)
    kept = parse_regions(regions_json(regions), 64)
    assert [region.label for region in kept] == [region.label for region in regions]
    for region, again in zip(regions, kept, strict=True):
        assert (again.mask | region.mask == again.mask).all()


def test_rows_keep_what_was_shown_of_them_in_another_order(model: DiffusionModel, picture: Picture) -> None:
    """After a refinement: others in front, a sign turned round, one that was not there before."""
    old = [replace(row, name=f"Row {i}") for i, row in enumerate(found(search(model, picture)).rows)]
    back = GlobalDirection(-old[1].found.direction.delta, old[1].found.direction.steps)
    turned = replace(old[1], found=replace(old[1].found, direction=back, y=-old[1].found.y))
    fresh = replace(
        old[0], found=replace(old[0].found, direction=GlobalDirection(torch.randn(1, 32, 4, 4) / 512**0.5, 8))
    )
    for new in ([old[2], turned, old[0]], [turned, fresh, old[2]]):
        rows = carry_over(old, [replace(row, name="new", frames=None) for row in new])
        names = {id(old[2]): "Row 2", id(turned): "Row 1", id(old[0]): "Row 0", id(fresh): "new"}
        assert [row.name for row in rows] == [names[id(row)] for row in new]
        again = rows[new.index(turned)]
        assert torch.equal(again.found.direction.delta, old[1].found.direction.delta)
        assert torch.equal(again.frames, old[1].frames)
    moved = turned.found.direction.delta + 0.1 * torch.randn(1, 32, 4, 4) / 512**0.5
    better = replace(turned, found=replace(turned.found, direction=GlobalDirection(moved / moved.norm(), back.steps)))
    [row] = carry_over(old, [replace(better, name="new", frames=None)])
    assert (row.name, row.frames) == ("Row 1", None), "its pictures would be those of another direction"


def test_few_analyses_are_kept(model: DiffusionModel, picture: Picture) -> None:
    known = finish(analyse_picture(model, picture, None, SIZE))
    cache = AnalysisCache(capacity=2 * known.nbytes)
    for key in range(5):
        cache.put((key,), known)
    assert len(cache) == 2
    assert cache.get((4,)) is known
    assert cache.get((0,)) is None


def test_what_lies_over_the_picture() -> None:
    mask = box_mask((0.0, 0.0, 0.5, 1.0), 8)
    [region] = parse_regions([{"label": "x", "box": [0, 0, 0.5, 1]}], 8)
    dark = np.asarray(outside_overlay([region], 8))[..., 3]
    assert (dark[mask] == 0).all()
    assert (dark[~mask] > 100).all()
    bright = np.asarray(heat_overlay(torch.arange(64.0).view(8, 8), 8))[..., 3]
    assert bright[0, 0] == 0
    assert bright[7, 7] == 255


def test_a_row_opened_elsewhere_does_what_its_pictures_show(model: DiffusionModel, picture: Picture) -> None:
    """Also one whose direction was refined after its first pictures were there."""
    exploration = Exploration(model, picture, parse_regions(LEFT, 32), size=SIZE)
    job = explore(exploration)
    finish(job)
    for row in exploration.rows:
        options = EditOptions(steps=6)
        strengths = [-row.strength, 0.0, row.strength]
        frames = finish(edit_frames(model, picture, as_preset(exploration, row), strengths, options))
        for frame, shown in zip(frames, row.frames, strict=True):
            assert torch.allclose(frame.pixels, shown, atol=1e-4)


@pytest.mark.parametrize(("T", "asked", "expected"), [(1000, 600, 600), (100, 600, 60), (4000, 250, 1000)])
def test_a_timestep_is_asked_for_in_thousandths(T: int, asked: float, expected: int) -> None:
    """So that the page and programs ask every model in the same words, however many timesteps it has."""
    model = SimpleNamespace(schedule=SimpleNamespace(T=T))
    assert timestep_from_share(model, asked) == expected  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------- where and how far they act


def test_directions_act_at_the_chosen_noise_levels(model: DiffusionModel, picture: Picture) -> None:
    """The pictures, the preset and other pictures are those of the loop with that interval."""
    one = found(search(model, picture, acts_from=700, acts_to=300, strength=20.0))
    row = one.rows[0]
    assert row.found.direction.t_start == 700
    assert row.strength == 20
    delta = row.found.direction.delta
    plain = GlobalDirection(delta, row.found.direction.steps, 700)
    settings = EditSettings(6, Intervals(300, 0), "symmetric")
    expected = finish(edit_pictures(model, picture.pixels, 1, [(plain, 20.0)], settings))
    torch.testing.assert_close(row.frames[2], expected[0], atol=1e-4, rtol=0)
    everywhere = finish(edit_pictures(model, picture.pixels, 1, [(GlobalDirection(delta, 40), 20.0)], settings))
    assert (everywhere[0] - expected[0]).abs().max() > 1e-3
    made = as_preset(one, row)
    assert (made.t_edit, made.direction.t_start, made.strength) == (300, 700, 20)
    _, changed = finish(apply_to_others(one, row, [picture], 20.0))
    torch.testing.assert_close(changed[0], expected[0], atol=1e-4, rtol=0)

    whole = found(search(model, picture))
    assert whole.rows[0].found.direction.t_start is None
    assert (whole.interval, as_preset(whole, whole.rows[0]).t_edit) == ((999, 0), 0)
    for wrong in ({"acts_from": 200, "acts_to": 300}, {"acts_from": 1000}, {"strength": 101.0}):
        with pytest.raises(RequestError):
            search(model, picture, **wrong)


def test_fewer_noise_levels_take_more_strength(model: DiffusionModel, picture: Picture) -> None:
    """For the same visible change: as much more as the response of a unit shift is less."""
    whole, part = (found(search(model, picture, **at)) for at in ({}, {"acts_from": 600, "acts_to": 500}))
    timesteps = model.schedule.timesteps(40)
    settings = EditSettings(40, injection="symmetric")
    direction = GlobalDirection(torch.zeros(1), 40)
    more = response(model.schedule, timesteps, Part(direction), settings)
    less = response(model.schedule, timesteps, Part(replace(direction, t_start=600), t_edit=500), settings)
    assert more > less > 0
    expected = min(100.0, whole.rows[0].strength * more / less)
    assert part.rows[0].strength == pytest.approx(expected, rel=0.06), "rounded to two digits"


def test_squared_change_inside_and_outside(model: DiffusionModel, picture: Picture) -> None:
    one = found(search(model, picture))
    row = one.rows[0]
    minus, zero, plus = row.frames
    mask = torch.from_numpy(row.region.mask)
    for measured, where in zip(row.mse, (mask, ~mask), strict=True):
        by_hand = [(side - zero)[:, where].square().mean().item() for side in (minus, plus)]
        assert measured == pytest.approx(np.mean(by_hand), rel=1e-4)
    assert row.as_json()["mse_inside"] == pytest.approx(row.mse[0], abs=1e-7)
    assert found(search(model, picture, None, method="global")).rows[0].as_json()["mse_outside"] is None


def test_a_boundary_edits_at_one_noise_level(
    model: DiffusionModel, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boundary Diffusion: h is moved at the timestep of the boundary alone, unless the visitor says where."""
    normals = torch.randn(3, *model.card.h_shape, generator=torch.Generator().manual_seed(4))
    normals /= normals.flatten(1).norm(dim=1)[:, None, None, None]
    one = search(model, picture, method="boundary", strength=30.0)
    t = one.interval[0]
    assert one.interval == (t, t)
    assert t in model.schedule.timesteps(40)

    def prepared(*_: object) -> Job[Boundaries]:
        yield Progress(1, 1)
        return Boundaries(("a", "b", "c"), normals, (0.9, 0.8, 0.7), t)

    known = replace(METHODS["boundary"], prepare=prepared)
    monkeypatch.setitem(METHODS, "boundary", known)
    monkeypatch.setattr(discover_search, "PREPARED", Cache(2**20))
    found(one)
    assert {row.found.value for row in one.rows} == {0.9, 0.8, 0.7}
    row, chosen = one.rows[0], as_preset(one, one.rows[0])
    assert (chosen.t_edit, chosen.direction.t_start) == (t, t)
    settings, [part] = EditSettings(40, Intervals(t, 0)), parts_of(chosen.direction)
    acting = [s for s in model.schedule.timesteps(40) if acts(part, s, settings)]
    assert acting == [t]
    assert (row.frames[2] - row.frames[1]).abs().max() > 1e-4
    everywhere = search(model, picture, method="boundary", acts_from=999, acts_to=0)
    assert everywhere.interval == (999, 0)


def test_rows_of_a_search_that_was_stopped_say_so(model: DiffusionModel, picture: Picture) -> None:
    """Not those of one that came to its end."""
    exploration = Exploration(model, picture, parse_regions(LEFT, 32), settings=DiscoverySettings(count=2), size=SIZE)
    searching = explore(exploration)
    while not exploration.rows:
        next(searching)
    assert any(row.frames is None for row in exploration.rows)
    searching.close()
    assert "“Find directions” draws the rest" in rows_value(exploration)["note"]
    finish(explore(exploration))
    assert all(row.frames is not None for row in exploration.rows)
    assert rows_value(exploration)["note"] == ""
