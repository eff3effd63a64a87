"""The methods against numpy, scipy and an independent JIVE, on a basis made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from small_models import small_model
from torch import Tensor

from core.directions import GlobalDirection, PerTimestepDirection
from core.discovery import jive, locality, pca
from core.discovery.basis import Basis
from core.discovery.interface import DiscoverySettings, FoundDirection
from core.discovery.jacobian_operator import Jacobian
from core.discovery.methods import METHODS, discover
from core.discovery.pca import PrincipalComponents
from core.editing import sample_latent
from core.errors import RequestError
from core.progress import Running, finish
from core.regions import Region

R, K, H = 16, 24, (5, 4, 4)
SETTINGS = DiscoverySettings(count=4, rank=12, joint_rank=6, individual_rank=4, projection_rank=5)
ONE = replace(SETTINGS, count=1)


def region(label: str, top: int, bottom: int) -> Region:
    mask = np.zeros((R, R), bool)
    mask[top:bottom, 3:13] = True
    return Region(label, mask)


EYES, MOUTH = region("eyes", 3, 6), region("mouth", 9, 12)


def by_hand() -> tuple[Basis, np.ndarray]:
    """A basis of K random vectors and J Q as a matrix (3 R R, K); responses fade and have places of their own."""
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((80, K)))[0].T
    places = np.exp(-((np.arange(R)[None] - rng.uniform(0, R, K)[:, None]) ** 2) / 8)
    JQ = rng.standard_normal((K, 3, R, R)) * places[:, None, :, None] + 0.1 * rng.standard_normal((K, 3, R, R))
    JQ = (JQ * 0.9 ** np.arange(K)[:, None, None, None]).reshape(K, -1)
    _, rotation = np.linalg.eigh(JQ @ JQ.T)
    JQ, Q = rotation.T[::-1] @ JQ, rotation.T[::-1] @ Q
    vectors, responses = torch.from_numpy(Q.copy()), torch.from_numpy(JQ.copy())
    whole = responses @ responses.T
    return Basis(vectors.float().view(K, *H), responses.float().view(K, 3, R, R), whole, 589, 40), JQ.T.copy()


BASIS, JQ = by_hand()


def rows(mask: np.ndarray) -> np.ndarray:
    return JQ.reshape(3, R, R, K)[:, mask].reshape(-1, K)


def parallel(a: Tensor, b: np.ndarray) -> float:
    return abs(float(np.dot(a.numpy(), b))) / float(a.norm()) / float(np.linalg.norm(b))


def test_which_methods_work_per_region() -> None:
    """Whatever is added, those that are here declare what they do."""
    declared = {name for name, method in METHODS.items() if method.per_region}
    assert declared >= {"contrast", "jacobian", "projection", "jive_individual"}
    assert not declared & {"jive_joint", "global", "pca"}


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.prepare is None])
def test_what_every_method_gives(method: str) -> None:
    found = discover(BASIS, [EYES, MOUTH], method, SETTINGS)
    per_region = METHODS[method].per_region
    assert [one.region for one in found] == (["eyes"] * 4 + ["mouth"] * 4 if per_region else [""] * 4)
    for one in found:
        assert isinstance(one.direction, GlobalDirection)
        assert one.direction.steps == 40
        assert one.direction.delta.shape == (1, *H)
        assert one.direction.delta.norm() == pytest.approx(1, abs=1e-5)
        mask = {"eyes": EYES.mask, "mouth": MOUTH.mask, "": EYES.mask | MOUTH.mask}[one.region]
        y = one.y.numpy()
        inside, outside = np.linalg.norm(rows(mask) @ y), np.linalg.norm(rows(~mask) @ y)
        assert one.inside == pytest.approx(inside, rel=1e-4)
        assert one.ratio == pytest.approx(outside / inside, rel=1e-4)
        assert BASIS.response(one.y).numpy().reshape(3, R, R)[:, mask].sum() >= 0
        np.testing.assert_allclose(BASIS.response(one.y).flatten(), JQ @ y, atol=1e-4)
    values = [one.value for one in found if one.region == found[0].region]
    assert method == "projection" or values == sorted(values, reverse=True)


def test_jacobian_directions_are_singular_vectors_of_the_masked_rows() -> None:
    found = discover(BASIS, [EYES], "jacobian", SETTINGS)
    _, s, Vh = np.linalg.svd(rows(EYES.mask), full_matrices=False)
    for j, one in enumerate(found):
        assert one.value == pytest.approx(s[j], rel=1e-5)
        assert parallel(one.y, Vh[j]) > 1 - 1e-6


def test_global_directions_do_not_depend_on_the_region() -> None:
    found, alone = (discover(BASIS, regions, "global", SETTINGS) for regions in ([EYES], []))
    for j, (one, other) in enumerate(zip(found, alone, strict=True)):
        assert abs(one.y[j]) == 1
        assert torch.equal(one.y.abs(), other.y.abs())
        assert other.ratio is None
        assert one.value == pytest.approx(BASIS.values[j].item())


def test_contrast_solves_the_generalised_problem() -> None:
    found = discover(BASIS, [MOUTH], "contrast", SETTINGS)
    A, B = (rows(mask).T @ rows(mask) for mask in (MOUTH.mask, ~MOUTH.mask))
    B += SETTINGS.mu * np.linalg.eigvalsh(A)[-1] * np.eye(K)
    values, Y = scipy.linalg.eigh(A, B)
    for j, one in enumerate(found):
        assert one.value**2 == pytest.approx(values[-1 - j], rel=1e-4)
        assert parallel(one.y, Y[:, -1 - j]) > 1 - 1e-5


def test_no_direction_has_a_better_contrast() -> None:
    best = discover(BASIS, [EYES], "contrast", SETTINGS)[0]
    ridge = SETTINGS.mu * np.linalg.eigvalsh(rows(EYES.mask).T @ rows(EYES.mask))[-1]

    def contrast(y: np.ndarray) -> float:
        change = np.linalg.norm(rows(EYES.mask) @ y) ** 2
        return change / (np.linalg.norm(rows(~EYES.mask) @ y) ** 2 + ridge * (y @ y))

    best_value = contrast(best.y.numpy())
    for method in METHODS:
        if METHODS[method].prepare is None:
            for one in discover(BASIS, [EYES], method, SETTINGS):
                assert contrast(one.y.numpy()) <= best_value * (1 + 1e-5)


def test_projection_of_rank_one_is_the_printed_equation() -> None:
    found = discover(BASIS, [EYES], "projection", replace(SETTINGS, projection_rank=1, count=1))[0]
    J_m = np.linalg.svd(rows(EYES.mask), full_matrices=False)[2][0]
    J_u = np.linalg.svd(rows(~EYES.mask), full_matrices=False)[2][0]
    printed = J_m - (J_m @ J_u) / (J_u @ J_u) * J_u
    assert parallel(found.y, printed) > 1 - 1e-6


def test_projection_is_orthogonal_to_the_outside() -> None:
    V_u = np.linalg.svd(rows(~EYES.mask), full_matrices=False)[2][: SETTINGS.projection_rank]
    for one in discover(BASIS, [EYES], "projection", SETTINGS):
        np.testing.assert_allclose(V_u @ one.y.numpy(), 0, atol=1e-5)


def test_projection_leaves_out_what_vanishes() -> None:
    """What changes the region changes everything else as well: one vector does all there is."""
    responses = torch.cat([torch.ones(1, 3, R, R), torch.zeros(K - 1, 3, R, R)])
    whole = torch.zeros(K, K, dtype=torch.float64)
    whole[0, 0] = 3.0 * R * R
    assert discover(replace(BASIS, responses=responses, whole=whole, _grams={}), [EYES], "projection", ONE) == []
    assert len(discover(BASIS, [EYES], "projection", ONE)) == 1


def test_projection_in_a_small_basis_leaves_room_for_its_directions() -> None:
    found = discover(BASIS, [EYES], "projection", replace(SETTINGS, projection_rank=K))
    V_u = np.linalg.svd(rows(~EYES.mask), full_matrices=False)[2][: K - SETTINGS.count]
    assert len(found) == SETTINGS.count
    for one in found:
        np.testing.assert_allclose(V_u @ one.y.numpy(), 0, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- JIVE


def blocks(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    scores, loadings = rng.standard_normal((30, 3)), rng.standard_normal((3, 20))
    X = scores @ loadings * 3
    parts = []
    for i in range(3):
        own = rng.standard_normal((10, 2)) @ rng.standard_normal((2, 20)) * 2
        parts.append(X[10 * i : 10 * i + 10] + own + 0.1 * rng.standard_normal((10, 20)))
    return parts


def independent_jive(X: list[np.ndarray], r_C: int, r_A: int, iterations: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Algorithm 3 by the book, with explicit projectors and eigenvectors in place of truncated decompositions."""
    d = X[0].shape[1]
    bounds = np.cumsum([0] + [len(x) for x in X])
    A = [np.zeros_like(x) for x in X]
    for _ in range(iterations):
        joint = np.vstack([x - a for x, a in zip(X, A, strict=True)])
        V = np.linalg.eigh(joint.T @ joint)[1][:, -r_C:]
        C = joint @ V @ V.T
        A = []
        for i, x in enumerate(X):
            left = (x - C[bounds[i] : bounds[i + 1]]) @ (np.eye(d) - V @ V.T)
            W = np.linalg.eigh(left.T @ left)[1][:, -r_A:]
            A.append(left @ W @ W.T)
    return C, A


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_jive_agrees_with_an_independent_implementation(seed: int) -> None:
    X = blocks(seed)
    split = jive.jive([torch.from_numpy(x) for x in X], 3, 2, tolerance=1e-12, max_iterations=300)
    C, A = independent_jive(X, 3, 2, len(split.residuals))
    np.testing.assert_allclose(torch.cat(split.joint), C, atol=1e-8)
    for mine, theirs in zip(split.individual, A, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-8)


def test_jive_keeps_its_constraints() -> None:
    X = [torch.from_numpy(x) for x in blocks()]
    split = jive.jive(X, 3, 2)
    C = torch.cat(split.joint)
    assert torch.linalg.matrix_rank(C) == 3
    for c, a in zip(split.joint, split.individual, strict=True):
        assert torch.linalg.matrix_rank(a) == 2
        np.testing.assert_allclose(a @ split.V, 0, atol=1e-10)
        np.testing.assert_allclose(a @ c.T, 0, atol=1e-9)
    residuals = np.array(split.residuals)
    assert (np.diff(residuals) <= 1e-9 * residuals[0]).all()
    assert residuals[-1] < residuals[0]
    assert residuals[-1] < 0.1 * torch.cat(X).norm()


def test_jive_stops_on_the_residual_whatever_signs_and_rotations() -> None:
    """Equal singular values rotate freely, which a comparison of vectors would never accept."""
    X = [torch.eye(6, dtype=torch.float64), 2 * torch.eye(6, dtype=torch.float64)]
    assert len(jive.jive(X, 3, 2).residuals) < 20


def test_jive_of_regions_covers_the_image() -> None:
    split = jive.decompose(BASIS, [EYES, MOUTH], SETTINGS)
    assert len(split.individual) == 3
    with pytest.raises(RequestError, match="whole picture"):
        jive.decompose(BASIS, [Region("all", np.ones((R, R), bool))], SETTINGS)


def test_jive_directions_of_two_regions_are_individual() -> None:
    split = jive.decompose(BASIS, [EYES, MOUTH], SETTINGS)
    for one in discover(BASIS, [EYES, MOUTH], "jive_individual", SETTINGS):
        np.testing.assert_allclose(split.V.T @ one.y, 0, atol=1e-9)
    for one in discover(BASIS, [EYES, MOUTH], "jive_joint", SETTINGS):
        assert (split.V.T @ one.y).norm() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_ranks_beyond_the_basis_are_cut(k: int) -> None:
    short = Basis(BASIS.vectors[:k], BASIS.responses[:k], BASIS.whole[:k, :k], 589, 40)
    for method in METHODS:
        if METHODS[method].prepare is None:
            found = discover(short, [EYES], method, DiscoverySettings())
            assert all(np.isfinite([one.value, one.inside, one.ratio]).all() for one in found)
            assert method == "projection" or found


# -------------------------------------------------------------------------------------------------------------- PCA


def test_pca_against_numpy() -> None:
    model = small_model()
    x_T = torch.cat([sample_latent(model, seed).x_T for seed in range(3, 9)])
    t = model.schedule.timesteps(4)[-2]
    with torch.no_grad():
        eps = model.eps(model.features(x_T, 999), x_T, 999)
        x = model.schedule.reverse_step(x_T, eps, eps, 999, t)
        h = model.features(x, t).h.flatten(1).double().numpy()
    made = finish(pca.principal_components(model, [t, 999], samples=6, components=3, steps=4, seed=3))
    assert made.timesteps == (t, 999)
    _, s, Vh = np.linalg.svd(h - h.mean(0), full_matrices=False)
    np.testing.assert_allclose(made.deviations[0], s[:3] / 5**0.5, rtol=1e-3)
    cosines = np.abs((made.components[0].flatten(1).numpy() * Vh[:3]).sum(1))
    assert (cosines > 0.999).all()
    assert ((made.components[0] * made.components[1]).sum((1, 2, 3)) >= 0).all()


def test_pca_directions() -> None:
    axes = torch.nn.functional.normalize(torch.randn(2, 3, 80), dim=-1).view(2, 3, *H)
    known = PrincipalComponents((300, 600), axes, torch.tensor([[3.0, 2, 1], [6, 4, 2]]), 40)
    found = discover(BASIS, [EYES], "pca", DiscoverySettings(count=2, prepared=known))
    assert [one.value for one in found] == [6, 4]
    assert isinstance(found[0].direction, PerTimestepDirection)
    single = PrincipalComponents((589,), axes[:1], torch.ones(1, 3), 40)
    found = discover(BASIS, [], "pca", DiscoverySettings(count=9, prepared=single))
    assert len(found) == 3
    assert all(isinstance(one.direction, GlobalDirection) for one in found)
    assert torch.equal(found[1].direction.delta, axes[:1, 1])


def test_pca_reports_and_refuses() -> None:
    model = small_model()
    running = Running(pca.principal_components(model, [999], samples=4, components=2, steps=4))
    events = list(running)
    assert events[-1].step == events[-1].total
    assert running.result.timesteps == (999,)
    for timesteps, samples in (([5], 8), ([], 8), ([999], 2)):
        with pytest.raises(RequestError):
            finish(pca.principal_components(model, timesteps, samples=samples, components=2, steps=4))
    other = PrincipalComponents((589,), torch.ones(1, 1, 2, 2, 2), torch.ones(1, 1), 40)
    for components in (None, other):
        with pytest.raises(RequestError):
            discover(BASIS, [], "pca", DiscoverySettings(prepared=components))


# ---------------------------------------------------------------------------------------------- requests, locality


@pytest.mark.parametrize("method", ["contrast", "jacobian", "projection", "jive_individual", "jive_joint"])
def test_a_region_is_needed(method: str) -> None:
    with pytest.raises(RequestError, match="region"):
        discover(BASIS, [], method)


def test_unknown_methods_and_settings() -> None:
    with pytest.raises(RequestError, match="contrast"):
        discover(BASIS, [EYES], "magic")
    for wrong in (
        {"count": 0},
        {"count": 10**9},
        {"rank": 2.5},
        {"joint_rank": True},
        {"individual_rank": -1},
        {"projection_rank": None},
        {"mu": float("nan")},
        {"mu": 0},
    ):
        with pytest.raises(RequestError):
            DiscoverySettings(**wrong)


def test_locality_by_products_and_strengths() -> None:
    model = small_model()
    jacobian = Jacobian(model, torch.randn(1, *model.x_shape), 589)
    delta = torch.nn.functional.normalize(torch.randn(1, 512), dim=1).view(1, 32, 4, 4)
    mask = np.zeros((32, 32), bool)
    mask[8:16, 8:24] = True
    drawn = Region("box", mask)
    plain = FoundDirection(GlobalDirection(delta, 40), 1.0, "pca", "")
    (one,) = locality.measure_locality(jacobian, [plain], drawn)
    change = jacobian.forward(delta)
    M = torch.from_numpy(mask)
    assert one.inside == pytest.approx((change * M).norm().item(), rel=1e-4)
    assert one.ratio == pytest.approx(((change * ~M).norm() / (change * M).norm()).item(), rel=1e-4)
    assert one.region == "box"

    a = locality.strength_for(one, drawn, 0.01)
    expected = locality.ACCUMULATION * a * one.inside / (3 * mask.sum()) ** 0.5
    assert expected == pytest.approx(0.01, rel=0.06)
    assert locality.strength_for(plain, drawn) == locality.PAPER_STRENGTH
    assert locality.strength_for(replace(one, inside=1e-9), drawn) == locality.MAX_STRENGTH


def test_roir_and_mean_squares() -> None:
    before, after = torch.zeros(2, 3, R, R), torch.zeros(2, 3, R, R)
    after[0, :, 3:6, 3:13] = 0.5
    after[1, 0, 0, 0], after[1, 0, 4, 4] = 3.0, 4.0
    ratios = locality.roir(before, after, EYES.mask)
    assert ratios[0] == 0
    assert ratios[1] == pytest.approx(0.75)
    inside, outside = locality.mean_squares(before, after, EYES.mask)
    assert inside[0] == pytest.approx(0.25)
    assert outside[1] == pytest.approx(9 / 3 / (R * R - 30))
