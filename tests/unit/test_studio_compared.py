"""Methods and ranks side by side, against each of them alone."""

from dataclasses import replace

import pytest
import torch
from test_studio_discover import found, model, nothing_kept, picture, search  # noqa: F401

from core.discovery.jive import individual_directions
from core.discovery.locality import roir, strength_for
from core.discovery.methods import METHODS, discover
from core.editing import EditSettings
from core.errors import RequestError
from core.intervals import Intervals
from core.models.loader import DiffusionModel
from core.process import USUAL_STEPS, edit_pictures
from core.progress import finish
from core.studio.discover.compared import RANKS, compare_methods, compare_ranks
from core.studio.frames import Picture


def test_every_method_is_shown_as_it_is_alone(model: DiffusionModel, picture: Picture) -> None:  # noqa: F811
    one = found(search(model, picture))
    rows = {row.name: row for row in finish(compare_methods(one))}
    assert list(rows) == [m.label.partition(":")[0] for m in METHODS.values() if m.prepare is None]
    region, basis = one.regions[0], one.require_analysis().basis
    settings = EditSettings(USUAL_STEPS["anchored"], Intervals(0, 0), one.injection)
    for name in ("contrast", "projection", "jacobian"):
        [direction] = discover(basis, list(one.regions), name, replace(one.settings, count=1))
        a = strength_for(direction, region)
        row = rows[METHODS[name].label.partition(":")[0]]
        assert row.strength == a
        weighted = [(direction.direction, [0.0, a])]
        still, edited = finish(edit_pictures(model, picture.pixels, 2, weighted, settings))
        assert torch.allclose(row.pixels, edited, atol=1e-4)
        assert row.roir == pytest.approx(roir(still[None], edited[None], region.mask).item(), rel=1e-2)
    assert rows["Contrast"].strength > 0
    assert (rows["Contrast"].pixels - rows["Global"].pixels).abs().max() > 1e-3


def test_every_pair_of_ranks_is_jive_with_them(model: DiffusionModel, picture: Picture) -> None:  # noqa: F811
    one = found(search(model, picture))
    rows = finish(compare_ranks(one))
    assert [row.name for row in rows] == [f"r_C = {joint}, r_A = {individual}" for joint, individual in RANKS]
    joint, individual = RANKS[0]
    settings = replace(one.settings, count=1, joint_rank=joint, individual_rank=individual)
    [direction] = individual_directions(one.require_analysis().basis, list(one.regions), settings)
    assert rows[0].strength == strength_for(direction, one.regions[0])


def test_without_a_region_there_is_nothing_to_compare(model: DiffusionModel, picture: Picture) -> None:  # noqa: F811
    with pytest.raises(RequestError, match="not analysed yet"):
        finish(compare_methods(search(model, picture)))
    whole = found(search(model, picture, None, method="global"))
    with pytest.raises(RequestError, match="Draw a region"):
        finish(compare_methods(whole))
