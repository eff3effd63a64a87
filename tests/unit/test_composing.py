"""Compositions: their bookkeeping, their algebra against independent arithmetic, their links and their pictures."""

import io
import json
import random
import zipfile
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from core.studio.compose.history import RESULTS, STEPS_BACK, History
from PIL import Image

from core import presets
from core.directions import CompositeDirection, GlobalDirection, ImplicitDirection
from core.discovery import global_jacobian
from core.discovery.basis import analyse as krylov
from core.discovery.basis import orthonormalise, rayleigh_ritz
from core.discovery.linear import Jacobian, descend, nearest_timestep
from core.editing import EditSettings, edit, invert
from core.errors import ModelUnavailable, PresetError, RequestError, VisitorError
from core.instruments import Attribute
from core.intervals import Intervals
from core.latents import LatentCache
from core.models.cards import MODELS
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.progress import finish
from core.studio import latents, library, measuring
from core.studio.compose import animation, applying, effects, link, orthogonalise, pictures, similarity
from core.studio.compose.composition import DIGITS, MAX_COMPONENTS, Component, Composition
from core.studio.discover.analysis import Analysis, analyse
from core.studio.discover.exploration import Exploration
from core.studio.edit import edit_frames
from core.studio.frames import EditOptions, Frame, Picture
from core.studio.visit import compose as changes
from core.studio.visit.session import Session
from tests.unit.small_models import small_model, trained_block

FAST = EditOptions(steps=8)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DiffusionModel:
    """A model without instruments, in an otherwise empty house."""

    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(library, "ROOT", tmp_path)
    monkeypatch.setattr(measuring, "_lpips", missing)
    monkeypatch.setattr(latents, "LATENTS", LatentCache())
    made = small_model()
    monkeypatch.setitem(MODELS, made.card.id, made.card)
    return made


def vector(seed: int) -> torch.Tensor:
    return torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(seed))


def preset(name: str, seed: int, steps: int = 8, **values: object) -> Preset:
    known = {"model": "small", "fingerprint": "0" * 16, "t_edit": 300, "t_boost": 0, "name": name}
    return Preset(**{"direction": GlobalDirection(vector(seed), steps), **known, **values})


@pytest.fixture
def picture(model: DiffusionModel) -> Picture:
    return Picture(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1, "small")


# ------------------------------------------------------------------------------------------------------- bookkeeping


def three() -> Composition:
    return Composition().add("a", 1.0).add("b", -0.5).add("c", 40.0)


def test_adding_moving_removing() -> None:
    composition = three()
    assert [c.key for c in composition.components] == ["a", "b", "c"]
    assert composition["c"].unit == 40
    assert composition.add("a", 9.0) is composition
    assert [c.key for c in composition.move("a", 1).components] == ["b", "a", "c"]
    assert [c.key for c in composition.move("a", 99).components] == ["b", "c", "a"]
    assert [c.key for c in composition.move("c", -1).components] == ["c", "a", "b"]
    assert [c.key for c in composition.remove("b").components] == ["a", "c"]
    assert composition.exchange("b", "d")["d"].strength == -0.5
    for fault in (lambda: composition.remove("x"), lambda: composition.exchange("a", "b"), lambda: composition["x"]):
        with pytest.raises(RequestError):
            fault()
    full = Composition()
    for i in range(MAX_COMPONENTS):
        full = full.add(str(i))
    with pytest.raises(RequestError, match="Remove one"):
        full.add("one more")
    for strength in (float("nan"), float("inf"), "1", None, True):
        with pytest.raises(RequestError):
            composition.set("a", strength)


def test_mute_and_solo() -> None:
    composition = three()
    assert [c.key for c in composition.mute("a", True).heard] == ["b", "c"]
    assert [c.key for c in composition.solo("a", True).heard] == ["a"]
    assert [c.key for c in composition.solo("a", True).solo("b", True).mute("a", True).heard] == ["b"]
    assert composition.solo("a", True).solo("a", False) == composition


def test_a_locked_total_stays() -> None:
    """Whatever strengths are set: the total of the shares stays, the others keep their proportions and signs."""
    numbers = random.Random(0)
    composition = three().add("d", 0.25).mute("d", True).lock(True)
    for _ in range(200):
        key = numbers.choice("abc")
        before = composition
        composition = composition.set(key, numbers.uniform(-3, 3) * composition[key].unit)
        assert composition.total == pytest.approx(before.total, abs=3 * 10**-DIGITS), "but for the last digit"
        assert composition["d"] == before["d"]
        x, y = (k for k in "abc" if k != key)
        if before[x].share > 0.2 and composition[y].share > 0.2:
            ratio = (before[x].share * composition[y].share) / (composition[x].share * before[y].share)
            assert ratio == pytest.approx(1, abs=0.02)
    assert three().lock(True).set("a", 100).total == pytest.approx(three().total)
    assert Composition().add("a").lock(True).set("a", 0.3)["a"].strength == 0.3
    zeros = Composition((Component("a", 1.0), Component("b", 0.0), Component("c", 0.0)), locked=True).set("a", 0.0)
    assert [c.strength for c in zeros.components] == [0, 0.5, 0.5]


def test_a_visit_adds_changes_and_takes_back(model: DiffusionModel) -> None:
    session = Session("small")
    key = session.keep(preset("Wider", 0, strength=2.0))
    foreign = session.keep(preset("Elsewhere", 0, model="other"))
    changes.add(session, key)
    assert session.composition[key].strength == 2
    assert changes.chosen(session) == [(session.own[key], 2.0)]
    for wrong in (foreign, "nothing"):
        with pytest.raises(RequestError, match="not here"):
            changes.add(session, wrong)
    changes.change(session, session.composition.set(key, 0.5))
    changes.change(session, session.composition)
    assert changes.undo(session)
    assert session.composition[key].strength == 2
    assert changes.undo(session)
    assert not session.composition.components
    assert not changes.undo(session)
    for k in range(STEPS_BACK + 5):
        changes.change(session, Composition((Component("x", k / 10),)))
    assert sum(changes.undo(session) for _ in range(2 * STEPS_BACK)) == STEPS_BACK


def test_history_is_bounded() -> None:
    history = History()
    for k in range(RESULTS + 3):
        kept = history.keep(("key", k), Composition(), f"number {k}", torch.zeros(3, 2, 2), Frame(1.0, None, None), 0.0)
        assert kept.number == k + 1
    assert len(history.results) == RESULTS
    assert history.result(1) is history.find(("key", 0)) is None
    assert history.result(RESULTS + 3) is history.find(("key", RESULTS + 2)) is kept


# ---------------------------------------------------------------------------------------------------------- applying


def test_a_composition_of_global_directions_is_their_sum(model: DiffusionModel, picture: Picture) -> None:
    """One pass with the vector sum_i c_i delta_i S_i / S~, made by hand."""
    a, b = preset("A", 1), preset("B", 2, steps=16)
    [frame] = finish(applying.apply(model, picture, [(a, [0.7]), (b, [-0.2])], FAST))
    total = GlobalDirection(0.7 * vector(1) - 0.2 * 2 * vector(2), steps=8)
    latent = finish(invert(model, picture.pixels, 8))
    expected = finish(edit(model, latent, [(total, 1.0)], EditSettings(8, Intervals(300, 0))))
    assert torch.allclose(frame.pixels, expected[0], atol=1e-4)
    assert frame.strength == 0.7
    plain = finish(edit(model, latent, (), EditSettings(8)))
    assert (expected - plain).abs().max() > 0.005, "far above the tolerance"


def test_intervals_and_injection_of_the_parts_are_kept(model: DiffusionModel, picture: Picture) -> None:
    """Boosting below the smallest t_boost; with a part of no effect, each acts as it would alone."""
    early = preset("Early", 1, t_edit=600, t_boost=200)
    late = preset("Late", 2, t_edit=100, t_boost=150, injection="symmetric")
    assert applying.intervals_of(model.card, [early, late]) == Intervals(100, 150)
    for one, strengths in ((early, (1.0, 0.0)), (late, (0.0, 1.0))):
        both = list(zip((early, late), [[c] for c in strengths], strict=True))
        alone = EditOptions(steps=8, t_boost=150)
        [together] = finish(applying.apply(model, picture, both, FAST))
        [single] = finish(edit_frames(model, picture, one, [1.0], alone))
        assert torch.allclose(together.pixels, single.pixels, atol=1e-4), one.name


def test_a_saved_composition_does_the_same(model: DiffusionModel, picture: Picture, tmp_path: Path) -> None:
    """Every kind of part, its file, and a composition of compositions."""
    session = Session("small")
    implicit = ImplicitDirection(trained_block(emb_channels=64), steps=16)
    chosen = [(preset("A", 1), 0.5), (preset("F", 0, direction=implicit, injection="symmetric", t_edit=500), -0.8)]
    [frame] = finish(applying.apply(model, picture, [(p, [c]) for p, c in chosen], FAST))
    saved = applying.combine(model.card, chosen, "Both", FAST)
    assert saved.description == "A +0.5, F −0.8"
    again = presets.load(session.write(saved))
    [same] = finish(edit_frames(model, picture, again, [1.0], FAST))
    assert torch.allclose(same.pixels, frame.pixels, atol=1e-4)
    twice = applying.combine(model.card, [(again, 1.0), (preset("B", 2), 0.3)], "All", FAST)
    assert len(twice.direction.parts) == 3
    [nested] = finish(edit_frames(model, picture, presets.from_bytes(presets.to_bytes(twice)), [1.0], FAST))
    [flat] = finish(applying.apply(model, picture, [*((p, [c]) for p, c in chosen), (preset("B", 2), [0.3])], FAST))
    assert torch.allclose(nested.pixels, flat.pixels, atol=1e-4)
    session.end()


def test_requests_that_cannot_be_composed(model: DiffusionModel, picture: Picture) -> None:
    a = preset("A", 1)
    for chosen in ([], [(a, [])], [(a, [1.0]), (preset("B", 2), [1.0, 2.0])], [(a, [1.0] * 122)], [(a, [101.0])]):
        with pytest.raises(RequestError):
            finish(applying.apply(model, picture, chosen, FAST))
    with pytest.raises(PresetError, match="other"):
        finish(applying.apply(model, picture, [(preset("B", 2, model="other"), [1.0])], FAST))
    with pytest.raises(RequestError, match="nothing to save"):
        applying.combine(model.card, [], "x")
    with pytest.raises(RequestError, match="up to 32"):
        applying.combine(model.card, [(a, 1.0)] * 33, "x")
    with pytest.raises(RequestError, match="not here any more"):
        applying.heard(three(), {"a": a})


# ----------------------------------------------------------------------------------------------------------- likeness


def least_squares(vectors: np.ndarray) -> np.ndarray:
    """What is left of the first row without its least-squares fit by the others, by numpy."""
    b, *_ = np.linalg.lstsq(vectors[1:].T, vectors[0], rcond=1e-6)
    return vectors[0] - b @ vectors[1:]


def test_orthogonalised_in_h_space(model: DiffusionModel, picture: Picture) -> None:
    """Global directions: the remainder of numpy's least squares, orthogonal to every other one."""
    others = [preset("B", 2, steps=16), preset("C", 3), preset("B again", 2)]
    mixed = GlobalDirection(vector(1) + 0.8 * vector(2) - 0.3 * vector(3), 8)
    made = finish(orthogonalise.orthogonalise(model, picture, preset("A", 0, direction=mixed), others))
    delta = made.direction.delta_h(torch.zeros(1, 32, 4, 4), torch.zeros(1, 64), 500)
    rows = np.stack([v.flatten().numpy() for v in (mixed.delta, vector(2), vector(3))])
    assert np.allclose(delta.numpy().ravel(), least_squares(rows), atol=1e-3)
    for seed in (2, 3):
        cosine = torch.cosine_similarity(delta.flatten(), vector(seed).flatten(), dim=0)
        assert abs(cosine.item()) < 1e-4
    assert made.name == "A apart from 3 others"
    assert "B, C, B again" in made.description
    assert presets.from_bytes(presets.to_bytes(made)).measured["left"] == pytest.approx(made.measured["left"])
    with pytest.raises(RequestError, match="nothing of"):
        finish(orthogonalise.orthogonalise(model, picture, preset("Twin", 2), others))
    with pytest.raises(RequestError, match="at least one other"):
        finish(orthogonalise.orthogonalise(model, picture, preset("Twin", 2), []))
    for job in (orthogonalise.similarities, orthogonalise.orthogonalise_all):
        with pytest.raises(RequestError, match="metric"):
            finish(job(model, picture, others, "magic"))


def test_implicit_directions_are_compared_along_the_trajectory(model: DiffusionModel, picture: Picture) -> None:
    """Their shifts at the h of each timestep, none below t_edit, against sums made one by one."""
    implicit = ImplicitDirection(trained_block(emb_channels=64), steps=16)
    chosen = [preset("F", 0, direction=implicit, t_edit=400), preset("B", 2, t_edit=700)]
    G = finish(similarity.in_h_space(model, picture, chosen))
    x = finish(invert(model, picture.pixels, model.card.steps)).x_T
    timesteps, expected = model.schedule.timesteps(similarity.LOOKS)[::-1], torch.zeros(2, 2, dtype=torch.float64)
    for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
        with torch.no_grad():
            features = model.features(x, t)
            eps = model.eps(features, x, t)
            f = 16 * implicit.delta_h(features.h, features.emb, t).flatten().double() * (t >= 400)
        b = 8 * vector(2).flatten().double() * (t >= 700)
        expected += torch.stack([torch.stack([f @ f, f @ b]), torch.stack([f @ b, b @ b])])
        x = model.schedule.reverse_step(x, eps, eps, t, t_prev)
    assert torch.allclose(G, expected, rtol=1e-3)
    cosine = finish(orthogonalise.similarities(model, picture, chosen))
    assert cosine[0, 1].item() == pytest.approx((G[0, 1] / (G[0, 0] * G[1, 1]).sqrt()).item())


def test_orthogonalised_in_what_it_does_to_the_picture(model: DiffusionModel, picture: Picture) -> None:
    """J d' is orthogonal to J e, with J d by central differences."""
    a, b = preset("A", 1), preset("B", 2)
    made = finish(orthogonalise.orthogonalise(model, picture, a, [b], "response"))
    steps = model.card.steps
    t, latent = nearest_timestep(model, steps), finish(invert(model, picture.pixels, steps))
    x_t = finish(descend(model, latent.x_T, t, steps))
    h = torch.zeros(1, 32, 4, 4)
    with torch.no_grad():
        features = model.features(x_t, t)

        def predicted(delta: torch.Tensor) -> torch.Tensor:
            eps = model.eps(features, x_t, t, delta)
            return model.codec.decode(model.schedule.predicted_x0(x_t, eps, t)).double()

        def response(delta: torch.Tensor) -> torch.Tensor:
            delta = delta / delta.norm()
            return ((predicted(1e-2 * delta) - predicted(-1e-2 * delta)) / 2e-2).flatten()

        left, other, before = (response(d) for d in (made.direction.delta_h(h, h, t), vector(2), vector(1)))
    cosine = torch.cosine_similarity(left, other, dim=0).item()
    assert abs(cosine) < 0.02 < abs(torch.cosine_similarity(before, other, dim=0).item())


def test_responses_against_the_dense_jacobian(model: DiffusionModel, picture: Picture) -> None:
    """Gram matrix and orthogonalised direction by numpy from all columns of J, with an analysis of the picture that
    holds nothing, some or all of the directions, and with none."""
    chosen = [preset("A", 1), preset("B", 2), preset("C", 3, direction=ImplicitDirection(trained_block(64), steps=16))]
    steps, h = model.card.steps, torch.zeros(1, 32, 4, 4)
    t, latent = nearest_timestep(model, steps), finish(invert(model, picture.pixels, steps))
    x_t = finish(descend(model, latent.x_T, t, steps))
    with torch.no_grad():
        features = model.features(x_t, t)

        def predicted(delta: torch.Tensor) -> np.ndarray:
            rows = features.select(torch.zeros(len(delta), dtype=torch.long))
            eps = model.eps(rows, x_t.expand(len(delta), -1, -1, -1), t, delta)
            return model.codec.decode(model.schedule.predicted_x0(x_t, eps, t)).double().flatten(1).numpy()

        units = 1e-2 * torch.eye(h.numel()).view(-1, *h.shape[1:])
        J = ((predicted(units) - predicted(-units)) / 2e-2).T
        rows = [p.direction.steps * p.direction.delta_h(features.h, features.emb, t).numpy().ravel() for p in chosen]
    V = np.stack(rows).astype(float)
    responses = V @ J.T
    expected = responses @ responses.T
    b, *_ = np.linalg.lstsq(responses[1:].T, responses[0], rcond=None)
    assert np.abs(b).min() > 0.01

    jacobian = Jacobian(model, x_t, t)
    bases = [
        finish(krylov(jacobian, 8)),
        rayleigh_ritz(
            jacobian,
            held := orthonormalise(torch.stack([vector(k)[0] for k in (1, 2, 5)]), h[:0]),
            jacobian.forward(held),
        ),
        finish(krylov(jacobian, h.numel(), 64)),
    ]
    for analysed in (None, *(Analysis(model, picture, latent, x_t, basis, len(basis)) for basis in bases)):
        G = finish(similarity.of_responses(model, picture, chosen, analysed))
        assert np.allclose(G.numpy(), expected, rtol=2e-2, atol=2e-2 * expected.diagonal().min())
        made = finish(orthogonalise.orthogonalise(model, picture, chosen[0], chosen[1:], "response", analysed))
        assert made.direction.weights == pytest.approx((1.0, *-b), abs=0.02)


class Seen:
    """An image-text model and a probe whose readings are linear in the pixels."""

    W = torch.randn(3 * 32 * 32, 16, generator=torch.Generator().manual_seed(9))
    words = torch.nn.functional.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(8)))
    known = {name: Attribute(name, "continuous", -1.0, 1.0, 0.0, 2.0) for name in ("smile", "age", "gray")}

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize((pixels + 1).flatten(1) @ self.W)

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.stack([self.words[int("old" in text)] for text in texts])

    def attributes(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: (pixels + 1).flatten(1) @ self.W[:, i] for i, name in enumerate(self.known)}

    def identity(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.embed_images(pixels)

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().mean((1, 2, 3))


@pytest.mark.parametrize("probed", [False, True])
def test_effects_against_edits_made_one_by_one(
    model: DiffusionModel, picture: Picture, monkeypatch: pytest.MonkeyPatch, probed: bool
) -> None:
    """What each direction does to what the others are for, by an image-text model and by a probe; and each of three
    with the least of it, of the shares that are tried, by numpy from edits made one by one."""
    seen = Seen()
    monkeypatch.setattr(measuring, "image_text", lambda card: seen)
    monkeypatch.setattr(measuring, "probe", lambda card: seen if probed else None)
    texts = {"source_text": "face", "target_text": "old face"}
    chosen = [
        preset("A", 1, measured={"smile": 0.5, "own_change": 9.0}),
        preset("B", 2, t_edit=600, measured={"smile": 0.1, "age": -0.4}, **texts),
        preset("C", 3, injection="symmetric", measured={"gray": 1.0}),
    ]
    x_T = finish(invert(model, picture.pixels, model.card.steps))

    @cache
    def pixels(weights: tuple[float, ...], t_edit: int) -> torch.Tensor:
        """Of the picture, plain and edited: asymmetric parts shift P_t, symmetric ones P_t and D_t."""
        parts = [
            (CompositeDirection((p.direction,), (c,), (t_edit,), (p.injection,)), 1.0)
            for p, c in zip(chosen, weights, strict=True)
            if c
        ]
        settings = EditSettings(model.card.steps, Intervals(t_edit, 0))
        return torch.cat([finish(edit(model, x_T, weighted, settings)) for weighted in ((), parts)])

    def unit(k: int) -> tuple[float, ...]:
        return tuple(float(k == j) for j in range(3))

    own = torch.diff(seen.embed_images(pixels(unit(1), 600)), dim=0)[0]  # the words of B say half of what it does
    seen.words = torch.nn.functional.normalize(torch.stack([seen.words[0], seen.words.sum(0) + own / own.norm()]))

    def effect(weights: tuple[float, ...], t_edit: int, on: int, own_t: int) -> float:
        pair = pixels(weights, t_edit)
        if probed:
            row = seen.attributes(pair)[("smile", "age", "gray")[on]]
            return ((row[1] - row[0]) / 2).item()
        change, own = (torch.diff(seen.embed_images(p), dim=0)[0] for p in (pair, pixels(unit(on), own_t)))
        axis = torch.diff(seen.words, dim=0)[0] if on == 1 else own
        return (change @ axis / axis.norm()).item()

    shown = finish(orthogonalise.similarities(model, picture, chosen, "effect")).numpy()
    E = np.array([[effect(unit(of), chosen[of].t_edit, on, chosen[on].t_edit) for of in range(3)] for on in range(2)])
    assert np.allclose(shown[:2], E / np.diag(E)[:, None], atol=2e-2)
    together = None if probed else finish(orthogonalise.orthogonalise_all(model, picture, chosen, "effect"))
    refused, taken = 0, []
    for i, one in enumerate(chosen):
        order = [i, *(k for k in range(3) if k != i)]
        e = np.array([[effect(unit(of), one.t_edit, on, one.t_edit) for of in order] for on in order])
        b = np.clip(np.linalg.lstsq(e[1:, 1:], e[1:, 0], rcond=None)[0], -1, 1)
        others = [chosen[k] for k in order[1:]]
        if (e[0, 0] - e[0, 1:] @ b) / e[0, 0] < orthogonalise.SAME:
            refused += 1
            with pytest.raises(RequestError, match="nothing of"):
                finish(orthogonalise.orthogonalise(model, picture, one, others, "effect"))
            continue
        scores, lefts = {}, {}
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            weights = np.zeros(3)
            weights[order] = [1.0, *(-share * b)]
            row = np.array([effect(tuple(weights), one.t_edit, on, one.t_edit) for on in order]) / np.diag(e)
            scores[share], lefts[share] = np.linalg.norm(row[1:]) / row[0], row[0]
        made = finish(orthogonalise.orthogonalise(model, picture, one, others, "effect")) if probed else together[i]
        share = min(scores, key=lambda s: np.abs(np.array(made.direction.weights[1:]) + s * b).max())
        assert np.abs(b).max() > 0.02
        assert made.direction.weights == pytest.approx((1.0, *(-share * b)), abs=0.03)
        assert scores[share] < 1.01 * min(score for s, score in scores.items() if lefts[s] >= orthogonalise.SAME)
        assert made.t_edit == one.t_edit
        assert made.measured["left"] == pytest.approx(lefts[share], abs=0.03)
        taken.append(share)
    assert refused < 3
    assert max(taken) > 0, "something is taken out of one of them"


def test_what_a_direction_is_for() -> None:
    names, changes = ["age", "gray", "smile"], torch.tensor([0.1, -0.7, 0.5])
    for measured, expected in (({"smile": -0.2, "age": 0.1}, [0, 0, 1]), ({"roir": 3.0}, [0, 1, 0])):
        assert effects._attribute(preset("A", 1, measured=measured), names, changes).tolist() == expected


def test_effects_are_taken_back() -> None:
    """Closed form: A does half of what B is for and B a tenth of what A is for; C does nothing here."""
    E = torch.tensor([[2.0, 0.2, 0.0], [0.5, 1.0, 0.0], [0.3, 0.4, 1e-3]], dtype=torch.float64)
    b, left = effects.compensated(E)
    assert b.tolist() == pytest.approx([0.5, 0.0])
    assert left == pytest.approx(0.95)
    assert effects.relative(E).tolist() == [pytest.approx(row) for row in ([1, 0.1, 0], [0.5, 1, 0], [0, 0, 0])]
    b, _ = effects.compensated(torch.tensor([[1.0, 0.0], [7.0, 1.0]], dtype=torch.float64))
    assert b.tolist() == [1.0]  # never more than the other at its own strength
    b, left = effects.compensated(torch.tensor([[1e-3, 0.2], [0.5, 1.0]], dtype=torch.float64))
    assert (b.tolist(), left) == ([0.5], 1.0)  # a direction that does nothing here cannot lose it


def test_the_attempt_that_drags_least() -> None:
    """For what it does of its own; C does nothing here, so what is done of it is not counted."""
    E = torch.tensor([[2.0, 0.2, 0.0], [0.5, 1.0, 0.0], [0.3, 0.4, 1e-3]], dtype=torch.float64)
    tried = torch.tensor([[2.0, 1.9, 0.4, 0.0], [0.5, -0.2, -0.1, 0.0], [0.3, 9.0, 0.0, 0.0]], dtype=torch.float64)
    assert effects.least_dragging(E, tried, 0.01) == (1, pytest.approx(0.95))  # 0.25, 0.21, 0.25 of a half
    worse = torch.tensor([[2.0, 2.0], [0.5, -0.6], [0.0, 0.0]], dtype=torch.float64)
    assert effects.least_dragging(E, worse, 0.01) == (0, pytest.approx(1.0))
    idle = torch.tensor([[1e-3, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert effects.least_dragging(idle, torch.tensor([[1e-3, 5.0], [0.4, 0.1]]).double(), 0.01) == (1, 1.0)


def test_exchanging_several_is_one_change(model: DiffusionModel) -> None:
    session = Session("small")
    for key in ("own-1", "own-2", "own-3"):
        session.keep(preset(key, 1))
        changes.add(session, key)
    before = session.composition
    changes.exchange(session, {"own-1": preset("X", 1), "own-3": preset("Z", 2)})
    assert [changes.known(session)[key].name for key in session.composition.keys] == ["X", "own-2", "Z"]
    assert changes.undo(session)
    assert session.composition == before


def test_what_a_basis_holds_costs_no_product(
    model: DiffusionModel, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = model.card.steps
    t, latent = nearest_timestep(model, steps), finish(invert(model, picture.pixels, steps))
    x_t = finish(descend(model, latent.x_T, t, steps))
    basis = finish(krylov(Jacobian(model, x_t, t), 16))
    y = torch.eye(len(basis))
    found = [preset(f"Found {k}", 0, direction=basis.direction(y[k] + 0.5 * y[k + 1])) for k in range(3)]
    expected = finish(similarity.of_responses(model, picture, found))
    monkeypatch.setattr(similarity, "Jacobian", None)
    analysed = Analysis(model, picture, latent, x_t, basis, len(basis))
    G = finish(similarity.of_responses(model, picture, found, analysed))
    assert torch.allclose(G, expected, rtol=1e-3, atol=1e-3 * expected.diagonal().min().item())


def test_the_analysis_of_a_visit_is_that_of_the_picture_it_looked_at(model: DiffusionModel, picture: Picture) -> None:
    session = Session("small")
    assert changes.analysed(session, picture) is None
    session.exploration = Exploration(model, picture, [], global_jacobian.NAME, size=8)
    assert changes.analysed(session, picture) is None
    session.exploration.analysis = finish(analyse(model, picture, size=8))
    again = Picture(picture.pixels.clone(), "small")
    assert changes.analysed(session, again) is session.exploration.analysis
    assert changes.analysed(session, Picture(-picture.pixels, "small")) is None
    assert changes.analysed(session, Picture(picture.pixels, "avatars")) is None


# ----------------------------------------------------------------------------------------------------------- pictures


def test_every_cell_of_a_sweep_is_the_edit_it_stands_for(model: DiffusionModel, picture: Picture) -> None:
    chosen = [(preset("A", 1), 0.4), (preset("B", 2, t_edit=600), 1.0), (preset("C", 3), -0.5)]
    made = finish(pictures.sweep(model, picture, chosen, 2, 0, [-1.0, 0.0, 1.0], [0.0, 0.5], FAST))
    assert (made.across, made.down, len(made.frames)) == ("C", "A", 6)
    for k, frame in enumerate(made.frames):
        cell = [(chosen[0][0], [made.downs[k // 3]]), (chosen[1][0], [1.0]), (chosen[2][0], [made.acrosses[k % 3]])]
        [alone] = finish(applying.apply(model, picture, cell, FAST))
        assert torch.allclose(frame.pixels, alone.pixels, atol=1e-4), k
    shown = animation.sheet(made)
    assert shown.width > 3 * 128
    assert shown.height > 2 * 128
    for across, down in ((0, 0), (0, 3), (-1, 0)):
        with pytest.raises(RequestError, match="two different"):
            finish(pictures.sweep(model, picture, chosen, across, down, [0.0, 1.0], [0.0, 1.0], FAST))
    assert pictures.even(-1, 1, 5) == [-1, -0.5, 0, 0.5, 1]
    for wrong in ((1, 0, 5), (0, 1, 1), (0, 1, 12), (0, float("nan"), 5)):
        with pytest.raises(RequestError):
            pictures.even(*wrong)


def test_a_way_goes_from_one_composition_to_another(model: DiffusionModel, picture: Picture) -> None:
    a, b = preset("A", 1), preset("B", 2)
    frames = finish(pictures.way(model, picture, [(a, 1.0)], [(a, 0.5), (b, 1.0)], 3, FAST))
    for frame, (c, d) in zip(frames, ((1.0, 0.0), (0.75, 0.5), (0.5, 1.0)), strict=True):
        [alone] = finish(applying.apply(model, picture, [(a, [c]), (b, [d])], FAST))
        assert torch.allclose(frame.pixels, alone.pixels, atol=1e-4)
    with pytest.raises(RequestError):
        finish(pictures.way(model, picture, [], [(a, 1.0)], 1, FAST))


def test_a_batch_comes_as_a_zip(model: DiffusionModel, tmp_path: Path) -> None:
    """Names cannot leave the folder they are unpacked in; a broken picture does not spoil the others."""
    colours = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    for k, colour in enumerate(colours):
        Image.fromarray(colour).save(tmp_path / f"{k}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = [
        ("../../etc/pass wd.png", tmp_path / "0.png"),
        ("x", tmp_path / "broken.png"),
        ("Ünïcode.jpg", tmp_path / "1.png"),
    ]
    chosen = [(preset("A", 1), 0.5)]
    events = list(pictures.batch(model, files, chosen, FAST))
    with zipfile.ZipFile(io.BytesIO(events[-1].result)) as archive:
        assert archive.namelist() == ["01-pass-wd.png", "03-unicode.png", "contents.json"]
        contents = json.loads(archive.read("contents.json"))
        assert "not a picture" in contents["pictures"][1]["problem"]
        shown = np.asarray(Image.open(io.BytesIO(archive.read("03-unicode.png"))), dtype=float)
    [alone] = finish(
        applying.apply(model, library.open_picture(tmp_path / "1.png", "small"), [(chosen[0][0], [0.5])], FAST)
    )
    assert np.abs(shown - (alone.pixels.permute(1, 2, 0).numpy() + 1) * 127.5).max() <= 1
    steps = [event.step for event in events]
    assert steps == sorted(steps)
    for wrong in ([], files * 9):
        with pytest.raises(RequestError, match="Between 1"):
            finish(pictures.batch(model, wrong, chosen, FAST))
    with pytest.raises(RequestError, match="None of these"):
        finish(pictures.batch(model, files[1:2], chosen, FAST))


# --------------------------------------------------------------------------------------------------------- animations


def greys() -> list[torch.Tensor]:
    """Four flat pictures, from dark to light."""
    return [torch.full((3, 16, 16), value) for value in (-0.8, -0.2, 0.3, 0.9)]


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_an_animation_loops_there_and_back(kind: str) -> None:
    shown = Image.open(io.BytesIO(animation.animation(greys(), kind, per_second=10)))
    assert shown.format == kind.upper()
    assert shown.n_frames == 6
    assert shown.info["loop"] == 0
    values, order = [], [0, 1, 2, 3, 2, 1]
    for k in range(shown.n_frames):
        shown.seek(k)
        values.append(np.asarray(shown.convert("RGB"), dtype=float).mean() / 127.5 - 1)
        shown.load()
        assert shown.info["duration"] == 100
    assert values == pytest.approx([greys()[k].mean().item() for k in order], abs=0.03)


def test_an_mp4_is_the_same_loop() -> None:
    with av.open(io.BytesIO(animation.animation(greys(), "mp4", per_second=10))) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == 10
        values = [frame.to_ndarray(format="rgb24").mean() / 127.5 - 1 for frame in container.decode(video=0)]
    assert values == pytest.approx([greys()[k].mean().item() for k in (0, 1, 2, 3, 2, 1)], abs=0.05)


def test_what_cannot_be_animated() -> None:
    for fault in ((greys()[:1], "gif", 10), (greys(), "exe", 10), (greys(), "gif", 0), (greys(), "gif", 1000)):
        with pytest.raises(RequestError):
            animation.animation(*fault)
    strip = np.asarray(animation.filmstrip(greys()), dtype=float)
    side = strip.shape[0]
    columns = [strip[:, k * (side + animation.GAP) + side // 2].mean() / 127.5 - 1 for k in range(4)]
    assert columns == pytest.approx([-0.8, -0.2, 0.3, 0.9], abs=0.02)


# -------------------------------------------------------------------------------------------------------------- links

ON_HUB = f"someone/my.directions@{'0a' * 20}/faces/beard.safetensors"


def test_links_come_back_as_they_went() -> None:
    numbers = random.Random(1)
    keys = ["smiling", "gray-hair", "old", "x1", ON_HUB]
    for _ in range(100):
        components = tuple(
            Component(key, numbers.uniform(-99, 99), numbers.choice([1.0, 0.5, 42.0]), numbers.random() < 0.5)
            for key in numbers.sample(keys, numbers.randint(1, 5))
        )
        composition = Composition(components, locked=numbers.random() < 0.5)
        picture = numbers.choice(["", "portrait-3", "seed-7"])
        value = link.encode(composition, "avatars", picture, 40, 3)
        assert link.decode(value) == link.Restored("avatars", picture, composition, 40, 3)
        assert not set(value) & set(" \"'<>#&+%"), "needs no escaping in an address"


def test_own_directions_do_not_travel() -> None:
    mixed = Composition().add("smiling").add("own-1")
    assert [c.key for c in link.decode(link.encode(mixed, "avatars", "", 40, 0)).composition.components] == ["smiling"]
    with pytest.raises(RequestError, match="Your own directions stay with you"):
        link.encode(Composition().add("own-1"), "avatars", "", 40, 0)


GOOD = "1~avatars~portrait-1~40~0~smiling:1"
HOSTILE = [
    "",
    "1",
    "x" * 10_000,
    GOOD.replace("avatars", "../../etc"),
    GOOD.replace("avatars", "<script>"),
    GOOD.replace("portrait-1", "../portrait-1"),
    GOOD.replace("portrait-1", "/etc/passwd"),
    GOOD.replace("40", "99999"),
    GOOD.replace("~0~", "~-1~"),
    GOOD.replace("smiling:1", "smiling:nan"),
    GOOD.replace("smiling:1", "smiling:1e9"),
    GOOD.replace("smiling:1", "smiling:1000"),
    GOOD.replace("smiling:1", "smiling"),
    GOOD.replace("smiling:1", "own-1:1"),
    GOOD.replace("smiling:1", "../smiling:1"),
    GOOD.replace("smiling:1", "smiling:1:x"),
    GOOD.replace("smiling:1", "smiling:1\n"),
    GOOD + "~smiling:2",
    GOOD + "~" + "~".join(f"d{i}:1" for i in range(MAX_COMPONENTS)),
    GOOD.replace("smiling:1", "a/b@main/c.safetensors:1"),
    GOOD.replace("smiling:1", f"a/b@{'0' * 40}/../c.safetensors:1"),
    GOOD.replace("smiling:1", f"a/b@{'0' * 40}/c.pth:1"),
    GOOD.replace("smiling:1", f"a/b/c@{'0' * 40}/c.safetensors:1"),
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_links_are_refused_in_words(value: str) -> None:
    with pytest.raises(VisitorError, match="damaged"):
        link.decode(value)


def test_links_of_newer_versions_and_noise() -> None:
    assert link.decode(GOOD).composition == Composition().add("smiling")
    with pytest.raises(RequestError, match="newer"):
        link.decode("2" + GOOD[1:])
    numbers = random.Random(2)
    for _ in range(2000):
        damaged = list(GOOD)
        for _ in range(numbers.randint(1, 4)):
            damaged[numbers.randrange(len(damaged))] = chr(numbers.choice([*range(32, 127), 0, 0x202E, 0x1F600]))
        try:
            restored = link.decode("".join(damaged))
        except VisitorError:
            continue
        assert all(abs(c.strength) <= 100 for c in restored.composition.components)


def test_a_link_names_what_it_can_bring_back() -> None:
    pixels = torch.zeros(1, 3, 32, 32)
    assert link.picture_name(Picture(pixels, "small", seed=7)) == "seed-7"
    assert link.picture_name(Picture(pixels, "small", example="portrait-3")) == "portrait-3"
    assert link.picture_name(Picture(pixels, "small")) == link.picture_name(None) == ""
