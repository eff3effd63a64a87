"""What directions share, and directions without it, against independent arithmetic."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from core import presets
from core.calibration import SYMMETRIC_STEPS
from core.directions import CompositeDirection, GlobalDirection, ImplicitDirection
from core.discovery import global_jacobian
from core.discovery.basis import krylov_basis, orthonormalise, rayleigh_ritz
from core.discovery.jacobian_operator import Jacobian, denoise_to, nearest_timestep
from core.editing import EditSettings, invert
from core.errors import RequestError
from core.instruments import Attribute, Comparison
from core.intervals import Intervals
from core.models.loader import DiffusionModel
from core.process import USUAL_STEPS, edit_pictures
from core.progress import finish
from core.studio import measuring
from core.studio.compose import effects, orthogonalise, similarity
from core.studio.discover.analysis import Analysis, analyse_picture
from core.studio.discover.exploration import Exploration
from core.studio.frames import Picture
from core.studio.visit.compose import analysis_of
from core.studio.visit.session import Session
from tests.unit.composing import isolated_model, preset, small_picture, vector
from tests.unit.small_models import trained_block


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DiffusionModel:
    return isolated_model(monkeypatch, tmp_path)


@pytest.fixture
def picture(model: DiffusionModel) -> Picture:
    return small_picture()


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
    assert made.name == "A orthogonal to 3 others"
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
    G = finish(similarity.gram_in_h_space(model, picture, chosen))
    x = finish(invert(model, picture.pixels, model.card.steps)).x_T
    timesteps, expected = (
        model.schedule.timesteps(similarity.TRAJECTORY_STEPS)[::-1],
        torch.zeros(2, 2, dtype=torch.float64),
    )
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
    x_t = finish(denoise_to(model, latent.x_T, t, steps))
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
    x_t = finish(denoise_to(model, latent.x_T, t, steps))
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
        finish(krylov_basis(jacobian, 8)),
        rayleigh_ritz(
            jacobian,
            held := orthonormalise(torch.stack([vector(k)[0] for k in (1, 2, 5)]), h[:0]),
            jacobian.forward(held),
        ),
        finish(krylov_basis(jacobian, h.numel(), 64)),
    ]
    for analysis in (None, *(Analysis(model, picture, x_t, basis, len(basis)) for basis in bases)):
        G = finish(similarity.gram_of_responses(model, picture, chosen, analysis))
        assert np.allclose(G.numpy(), expected, rtol=2e-2, atol=2e-2 * expected.diagonal().min())
        made = finish(orthogonalise.orthogonalise(model, picture, chosen[0], chosen[1:], "response", analysis))
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

    def compare(self, before: torch.Tensor, after: torch.Tensor) -> Comparison:
        nothing = torch.zeros(len(after))
        values = {name: value[0] for name, value in self.attributes(before).items()}
        return Comparison(nothing, nothing, values, self.attributes(after))


@pytest.mark.slow
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
        preset("B", 2, t_edit=500, measured={"smile": 0.1, "age": -0.4}, **texts),
        preset("C", 3, injection="symmetric", measured={"gray": 1.0}),
    ]

    @cache
    def pixels(weights: tuple[float, ...], t_edit: int) -> torch.Tensor:
        """Of the picture, plain and edited: asymmetric parts shift P_t, symmetric ones P_t and D_t. Edits that are
        compared have the same steps: twice as many, as one of them is symmetric."""
        parts = [
            (CompositeDirection((p.direction,), (c,), (t_edit,), (p.injection,)), 1.0)
            for p, c in zip(chosen, weights, strict=True)
            if c
        ]
        steps = USUAL_STEPS["anchored"] * (1 if weights[2] else SYMMETRIC_STEPS)
        settings = EditSettings(steps, Intervals(t_edit, 0))
        edited = (finish(edit_pictures(model, picture.pixels, 1, weighted, settings)) for weighted in ((), parts))
        return torch.cat(list(edited))

    def unit(k: int) -> tuple[float, ...]:
        return tuple(float(k == j) for j in range(3))

    own = torch.diff(seen.embed_images(pixels(unit(1), 500)), dim=0)[0]  # the words of B say half of what it does
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
        able = np.abs(np.diag(e)) > effects.MIN_OWN_EFFECT * np.abs(e).max()  # the others are left out
        assert able[0]
        kept, b = able[1:], np.zeros(2)
        b[kept] = np.clip(np.linalg.lstsq(e[1:, 1:][kept][:, kept], e[1:, 0][kept], rcond=None)[0], -1, 1)
        others = [chosen[k] for k in order[1:]]
        if (e[0, 0] - e[0, 1:] @ b) / e[0, 0] < orthogonalise.MIN_KEPT:
            refused += 1
            with pytest.raises(RequestError, match="nothing of"):
                finish(orthogonalise.orthogonalise(model, picture, one, others, "effect"))
            continue
        scores, lefts = {}, {}
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            weights = np.zeros(3)
            weights[order] = [1.0, *(-share * b)]
            row = np.array([effect(tuple(weights), one.t_edit, on, one.t_edit) for on in order]) / np.diag(e)
            scores[share], lefts[share] = np.linalg.norm(row[1:][kept]) / row[0], row[0]
        made = finish(orthogonalise.orthogonalise(model, picture, one, others, "effect")) if probed else together[i]
        share = min(scores, key=lambda s: np.abs(np.array(made.direction.weights[1:]) + s * b).max())
        assert np.abs(b).max() > 0.02
        assert made.direction.weights == pytest.approx((1.0, *(-share * b)), abs=0.03)
        assert scores[share] < 1.01 * min(score for s, score in scores.items() if lefts[s] >= orthogonalise.MIN_KEPT)
        assert made.t_edit == one.t_edit
        assert made.measured["left"] == pytest.approx(lefts[share], abs=0.03)
        taken.append(share)
    assert refused < 3
    assert max(taken) > 0, "something is taken out of one of them"


def test_what_a_direction_is_for() -> None:
    names, changes = ["age", "gray", "smile"], torch.tensor([0.1, -0.7, 0.5])
    for measured, expected in (({"smile": -0.2, "age": 0.1}, [0, 0, 1]), ({"roir": 3.0}, [0, 1, 0])):
        assert effects._attribute_axis(preset("A", 1, measured=measured), names, changes).tolist() == expected


def test_effects_are_taken_back() -> None:
    """Closed form: A does half of what B is for and B a tenth of what A is for; C does nothing here."""
    E = torch.tensor([[2.0, 0.2, 0.0], [0.5, 1.0, 0.0], [0.3, 0.4, 1e-3]], dtype=torch.float64)
    b, left = effects.first_order_compensation(E)
    assert b.tolist() == pytest.approx([0.5, 0.0])
    assert left == pytest.approx(0.95)
    assert effects.relative_effects(E).tolist() == [pytest.approx(row) for row in ([1, 0.1, 0], [0.5, 1, 0], [0, 0, 0])]
    b, _ = effects.first_order_compensation(torch.tensor([[1.0, 0.0], [7.0, 1.0]], dtype=torch.float64))
    assert b.tolist() == [1.0]  # never more than the other at its own strength
    b, left = effects.first_order_compensation(torch.tensor([[1e-3, 0.2], [0.5, 1.0]], dtype=torch.float64))
    assert (b.tolist(), left) == ([0.5], 1.0)  # a direction that does nothing here cannot lose it


def test_the_attempt_that_drags_least() -> None:
    """For what it does of its own; C does nothing here, so what is done of it is not counted."""
    E = torch.tensor([[2.0, 0.2, 0.0], [0.5, 1.0, 0.0], [0.3, 0.4, 1e-3]], dtype=torch.float64)
    tried = torch.tensor([[2.0, 1.9, 0.4, 0.0], [0.5, -0.2, -0.1, 0.0], [0.3, 9.0, 0.0, 0.0]], dtype=torch.float64)
    assert effects.smallest_side_effects(E, tried, 0.01) == (1, pytest.approx(0.95))  # 0.25, 0.21, 0.25 of a half
    worse = torch.tensor([[2.0, 2.0], [0.5, -0.6], [0.0, 0.0]], dtype=torch.float64)
    assert effects.smallest_side_effects(E, worse, 0.01) == (0, pytest.approx(1.0))
    idle = torch.tensor([[1e-3, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert effects.smallest_side_effects(idle, torch.tensor([[1e-3, 5.0], [0.4, 0.1]]).double(), 0.01) == (1, 1.0)


def test_what_a_basis_holds_costs_no_product(
    model: DiffusionModel, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = model.card.steps
    t, latent = nearest_timestep(model, steps), finish(invert(model, picture.pixels, steps))
    x_t = finish(denoise_to(model, latent.x_T, t, steps))
    basis = finish(krylov_basis(Jacobian(model, x_t, t), 16))
    y = torch.eye(len(basis))
    found = [preset(f"Found {k}", 0, direction=basis.direction(y[k] + 0.5 * y[k + 1])) for k in range(3)]
    expected = finish(similarity.gram_of_responses(model, picture, found))
    monkeypatch.setattr(similarity, "Jacobian", None)
    analysis = Analysis(model, picture, x_t, basis, len(basis))
    G = finish(similarity.gram_of_responses(model, picture, found, analysis))
    assert torch.allclose(G, expected, rtol=1e-3, atol=1e-3 * expected.diagonal().min().item())


def test_the_analysis_of_a_visit_is_that_of_the_picture_it_looked_at(model: DiffusionModel, picture: Picture) -> None:
    session = Session("small")
    assert analysis_of(session, picture) is None
    session.discover.exploration = Exploration(model, picture, [], global_jacobian.METHOD.name, size=8)
    assert analysis_of(session, picture) is None
    session.discover.exploration.analysis = finish(analyse_picture(model, picture, size=8))
    again = Picture(picture.pixels.clone(), "small")
    assert analysis_of(session, again) is session.discover.exploration.analysis
    assert analysis_of(session, Picture(-picture.pixels, "small")) is None
    assert analysis_of(session, Picture(picture.pixels, "avatars")) is None
