"""A direction method is complete in its own file: one more, declared as its file would do it, and used everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from small_models import small_model

from core.cache import Cache
from core.discovery.algebra import directions_of
from core.discovery.basis import Basis
from core.discovery.interface import DiscoveryMethod, DiscoverySettings, FoundDirection
from core.discovery.jacobian_operator import Jacobian
from core.discovery.methods import METHODS
from core.editing import EditSettings, edit, sample_latent
from core.errors import ModelUnavailable, RequestError
from core.models.loader import DiffusionModel
from core.progress import Job, Progress, Running, finish
from core.regions import Region, parse_regions
from core.studio import measuring
from core.studio.discover import search
from core.studio.discover.exploration import Exploration
from core.studio.discover.preset import as_preset
from core.studio.discover.search import explore
from core.studio.frames import Picture
from tabs.discover.rows import ELSEWHERE, row_json
from tabs.discover.tab import method_choices

REGIONS = [
    {"label": "Left", "boxes": [[0.1, 0.2, 0.45, 0.8]]},
    {"label": "Right", "boxes": [[0.55, 0.2, 0.9, 0.8]]},
]
calls: list[str] = []


@dataclass(frozen=True)
class Prepared:
    t: int
    nbytes: int = 8


def prepare(model: DiffusionModel, t: int, count: int) -> Job[Prepared]:
    calls.append("prepared")
    yield Progress(1, 1, "getting ready")
    return Prepared(t)


def directions(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> list[FoundDirection]:
    assert settings.prepared == Prepared(basis.t)
    Y, values = torch.eye(len(basis), dtype=torch.float64)[:, : settings.count], basis.values[: settings.count]
    return [found for region in regions for found in directions_of(basis, region, Y, values, "new")]


def refine(jacobian: Jacobian, basis: Basis, region: Region, settings: DiscoverySettings) -> Job[Basis]:
    calls.append(region.label)
    yield Progress(1, 1, "refining")
    return basis


METHOD = DiscoveryMethod(
    name="new",
    label="New: whatever comes first",
    find=directions,
    value_name="novelty",
    value_help="How new it is.",
    refine=refine,
    prepare=prepare,
)


def test_a_method_is_complete_in_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(measuring, "_lpips", missing)
    monkeypatch.setitem(METHODS, METHOD.name, METHOD)
    monkeypatch.setattr(search, "PREPARED", Cache(2**20))
    model = small_model()
    picture = Picture(finish(edit(model, sample_latent(model, 3), settings=EditSettings(6))), model.card.id)

    def exploration(regions: list[Region]) -> Exploration:
        return Exploration(model, picture, regions, METHOD.name, DiscoverySettings(count=2), size=16)

    with pytest.raises(RequestError, match="Draw a region first"):
        finish(explore(exploration([])))
    assert calls == ["prepared"]
    running = Running(explore(exploration(parse_regions(REGIONS, 32))))
    notes = {event.note for event in running}
    assert calls == ["prepared", "Left", "Right"]  # prepared once for all searches, refined for each region
    assert "Refining" in notes
    rows = running.result.rows
    assert [row.region.label for row in rows] == ["Left", "Left", "Right", "Right"]
    assert as_preset(running.result, rows[0]).method == "new"
    assert ("New: whatever comes first", "new") in method_choices()
    assert row_json(rows[0])["facts"][1][::2] == ["novelty", "How new it is."]
    for ratio, said in ((1.2, True), (0.8, False)):
        assert row_json(replace(rows[0], roir=ratio))["changes"].startswith(ELSEWHERE) is said
