"""Whether a picture is one that its model knows, and what an edit says of it if it is not."""

from contextlib import AbstractContextManager
from dataclasses import replace
from math import sqrt

import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.domain import drawing, separation
from core.domain import denoised, nearest
from core.errors import ModelUnavailable
from core.imaging import to_pixels
from core.models.loader import DiffusionModel, models
from core.progress import finish
from core.queries import Query
from core.studio import domain, library, measuring
from core.studio.device import Engine, Urgency
from core.studio.domain import Domain, domain_of, honest, others
from core.studio.edit import edit_frames
from core.studio.frames import AttributeReading, EditOptions, Measures, Picture
from tests.unit.small_models import small_model


class KnowsOne(DiffusionModel):
    """Has learned one picture mu and nothing else: eps = (x - sqrt(a) mu) / sqrt(1 - a), in closed form."""

    mu: Tensor

    def answer(self, queries: list[Query]) -> list[Tensor]:
        answers = []
        for query in queries:
            a = self.schedule.alpha(query.t)
            answers.append((query.x - sqrt(a) * self.mu) / sqrt(1 - a))
        return answers


@pytest.fixture
def knows_one() -> KnowsOne:
    model = small_model()
    made = KnowsOne(**{name: getattr(model, name) for name in model.__dataclass_fields__})
    made.mu = torch.rand(made.x_shape, generator=torch.Generator().manual_seed(3)) - 0.5
    return made


def test_a_model_of_one_picture_makes_that_of_all_others(knows_one: KnowsOne) -> None:
    only = knows_one.codec.decode(knows_one.mu[None]).clamp(-1, 1)
    asked = torch.rand(3, *only.shape[1:], generator=torch.Generator().manual_seed(4)) * 2 - 1
    for made in (denoised(knows_one, asked), denoised(knows_one, asked, 0.2), finish(nearest(knows_one, asked))):
        torch.testing.assert_close(made, only.expand_as(asked), atol=2e-3, rtol=0)


def test_an_example_is_known_and_a_drawing_of_something_else_is_not() -> None:
    domain._KEPT.clear()
    model = models.get("avatars")
    example = library.open_example(library.examples("avatars")[0], "avatars")
    known = finish(domain_of(model, example))
    assert known.known
    assert known.nearest is None

    picture = Picture(to_pixels(drawing(3), 128), "avatars")
    assert finish(domain_of(model, picture)).nearest is None, "an edit does not wait for it"
    strange = finish(domain_of(model, picture, to_show=True))
    assert strange.known is False
    assert strange.error > 1.5 * known.error
    nearest_one = Picture(strange.nearest_pixels, "avatars")
    assert finish(domain_of(model, nearest_one)).error < strange.error, "what is offered is nearer to what it knows"

    key = domain.content_hash(picture.pixels), model.fingerprint
    assert domain._KEPT.get(key).value is strange, "kept with the picture"

    [frame] = finish(edit_frames(model, picture, library.shipped("avatars")["smiling"], [1.0], EditOptions(steps=4)))
    measures = frame.measures
    assert measures.in_domain is False
    assert measures.as_json()["in_domain"] is False
    assert (measures.identity, measures.distance, measures.s_dir, measures.attributes) == (None, None, None, ())
    assert domain.NOT_MEASURED in measures.missing


def test_measures_that_do_not_apply_are_left_out() -> None:
    reading = AttributeReading("smile", 0.0, 1.0, -1, 1, 2.0)
    full = Measures(0.4, 1.0, 0.9, (reading,), ("a remark",))
    assert honest(full, Domain(0.3, 0.5)) == replace(full, in_domain=True)
    assert honest(full, Domain(0.0, None)) == full
    assert honest(full, Domain(0.6, 0.5)) == Measures(in_domain=False, missing=(domain.NOT_MEASURED, "a remark"))


def test_what_cannot_be_measured_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(measuring, "distance", missing)
    model = small_model()
    model.card = replace(model.card, domain_limit=0.5)
    side = model.card.resolution
    assert finish(domain_of(model, Picture(torch.zeros(1, 3, side, side), model.card.id))).known is None
    model.card = replace(model.card, domain_limit=None)
    assert list(domain_of(model, Picture(torch.zeros(1, 3, side, side), model.card.id))) == []


@pytest.mark.parametrize(("strengths", "urgency"), [([1.0], Urgency.FIRST), ([0.0, 0.5, 1.0], Urgency.MORE)])
def test_looking_and_measuring_are_as_urgent_as_the_edit(
    strengths: list[float], urgency: Urgency, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever was looked at together is edited one after another: the first is done before the last begins."""
    asked: list[int] = []

    class Noting(Engine):
        def turn(self, urgency: int = Urgency.MORE) -> AbstractContextManager[None]:
            asked.append(urgency)
            return super().turn(urgency)

    monkeypatch.setattr(domain, "DEVICE", Noting())
    domain._KEPT.clear()
    model = models.get("avatars")
    example = library.open_example(library.examples("avatars")[0], "avatars")
    finish(edit_frames(model, example, library.shipped("avatars")["smiling"], strengths, EditOptions(steps=4)))
    assert asked == [Urgency.FIRST, urgency]


def test_other_models_of_the_same_subject_are_named() -> None:
    card = models.get("avatars").card
    found = [other.id for other in others(card)]
    assert found[:2] == ["ddpm-ema-celebahq-256", "ldm-celebahq-256"]
    assert not {"avatars", "ddpm-ema-church-256"} & set(found)
    assert others(replace(card, domain_word="boat"))[-1].id == "ldm-celebahq-256"
    assert "drawn portraits" in domain.in_words(card)


def test_separation_counts_pairs() -> None:
    assert separation(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 3.0])) == 0.75
    assert isinstance(drawing(0), Image.Image)
