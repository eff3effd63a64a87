"""How long a search in a large network takes, told before it starts."""

from collections.abc import Iterator

import pytest
from small_models import small_model

from core.editing import EditSettings, edit, sample_latent
from core.models.loader import DiffusionModel
from core.progress import finish
from core.regions import parse_regions
from core.studio import jobs
from core.studio.discover import estimate
from core.studio.discover.estimate import estimated_seconds, seconds_per_pass
from core.studio.discover.exploration import Exploration
from core.studio.discover.search import explore_work
from core.studio.frames import Picture

LEFT = parse_regions([{"label": "Left", "boxes": [[0.1, 0.2, 0.45, 0.8]]}], 32)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return small_model()


@pytest.fixture
def asked(model: DiffusionModel) -> Exploration:
    pixels = finish(edit(model, sample_latent(model, 3), settings=EditSettings(4)))
    return Exploration(model, Picture(pixels, model.card.id), LEFT, size=16)


def ticking(seconds: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += seconds


def test_small_networks_are_not_asked(asked: Exploration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "seconds_per_pass", lambda *_: pytest.fail("asked"))
    assert estimated_seconds(asked) is None
    monkeypatch.setattr(estimate, "LARGE", 1)
    monkeypatch.setattr(jobs, "_elsewhere", lambda *_: None)
    assert estimated_seconds(asked) is None, "another process has another pace"


def test_it_is_the_work_times_a_pass(asked: Exploration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "LARGE", 1)
    clock = ticking(0.5)
    quick, whole = (estimated_seconds(asked, refining, lambda: next(clock)) for refining in (False, True))
    assert quick == pytest.approx(0.5 * explore_work(asked, False).rows)
    assert whole == pytest.approx(0.5 * explore_work(asked, True).rows)
    assert quick < whole


def test_a_pass_of_this_machine(model: DiffusionModel) -> None:
    assert 0 < seconds_per_pass(model) < 10
