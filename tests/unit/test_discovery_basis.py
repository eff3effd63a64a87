"""Products, basis and refinement against a dense Jacobian in float64 and against scipy."""

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from diffusers import UNet2DModel
from small_models import small_card, small_model
from test_unet import ARCHITECTURES
from torch import Tensor

from core.discovery.basis import MAX_DISAGREEMENT, Basis, disagreement, krylov_basis, orthonormalise
from core.discovery.jacobian_operator import Jacobian, denoise_to, nearest_timestep, place
from core.discovery.refinement import refine
from core.editing import EditSettings, edit, invert, sample_latent
from core.errors import RequestError, ResourceError
from core.models.codec import CODECS
from core.models.loader import DiffusionModel
from core.progress import Running, finish
from core.schedule import Schedule
from core.unet import SplitUNet

T = 589
EYES = np.zeros((32, 32), bool)
EYES[10:17, 6:26] = True


def point(model: DiffusionModel, seed: int = 1) -> Tensor:
    return torch.randn(1, *model.x_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@cache
def exact() -> tuple[Jacobian, np.ndarray]:
    """The operator in float64, and the matrix (3072, 512) it stands for."""
    model = small_model(dtype=torch.float64)
    jacobian = Jacobian(model, point(model), T, dtype=torch.float64)
    features = model.features(jacobian.x_t, T)

    def image(delta: Tensor) -> Tensor:
        eps = model.eps(features, jacobian.x_t, T, delta)
        return model.codec.decode(model.schedule.predicted_x0(jacobian.x_t, eps, T))

    model.unet.use_plain_attention()
    J = torch.func.jacfwd(image)(torch.zeros_like(features.h)).reshape(3072, 512).numpy()
    model.unet.use_plain_attention(False)
    return jacobian, J


@cache
def analysed(size: int = 96) -> Basis:
    return finish(krylov_basis(exact()[0], size))


def angles(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Sines of the principal angles of the row spaces of A in B, whose rows are orthonormal."""
    Q = np.linalg.qr(A.T)[0]
    return np.linalg.norm(Q - B.T @ (B @ Q), axis=0)


def test_products_are_those_of_the_dense_jacobian() -> None:
    jacobian, J = exact()
    rng = torch.Generator().manual_seed(0)
    V = torch.randn(3, 32, 4, 4, generator=rng, dtype=torch.float64)
    Y = torch.randn(5, 3, 32, 32, generator=rng, dtype=torch.float64)
    np.testing.assert_allclose(jacobian.forward(V).flatten(1), V.flatten(1).numpy() @ J.T, atol=1e-6)
    np.testing.assert_allclose(jacobian.reverse(Y).flatten(1), Y.flatten(1).numpy() @ J, atol=1e-6)


def test_the_jacobian_of_eps_is_a_multiple() -> None:
    jacobian, J = exact()
    model = jacobian.model
    features = model.features(jacobian.x_t, T)
    v = torch.randn(1, 32, 4, 4, dtype=torch.float64)
    step = 1e-5
    difference = (model.eps(features, jacobian.x_t, T, step * v) - model.eps(features, jacobian.x_t, T, -step * v)) / (
        2 * step
    )
    a = model.schedule.alpha(T)
    scaled = -(((1 - a) / a) ** 0.5) * model.codec.decode(difference).flatten().numpy()
    np.testing.assert_allclose(scaled, J @ v.flatten().numpy(), atol=1e-7)


def test_the_model_is_left_as_it_is() -> None:
    model = small_model(dtype=torch.bfloat16)
    before = [(name, p.dtype, p.data_ptr()) for name, p in model.unet.unet.named_parameters()]
    kinds = [type(m.processor) for m in model.unet.unet.modules() if hasattr(m, "processor")]
    jacobian = Jacobian(model, point(model), T)
    jacobian.forward(torch.randn(1, 32, 4, 4))
    assert before == [(name, p.dtype, p.data_ptr()) for name, p in model.unet.unet.named_parameters()]
    assert kinds == [type(m.processor) for m in model.unet.unet.modules() if hasattr(m, "processor")]
    assert all("forward" not in vars(m) for m in model.unet.unet.modules())


def test_weights_are_shared_in_equal_precision() -> None:
    model = small_model()
    twin = Jacobian(model, point(model), T)._decoders[0][1]._split.unet
    own = {p.data_ptr() for p in model.unet.unet.parameters()}
    assert all(p.data_ptr() in own for p in twin.parameters())
    assert sum(1 for _ in twin.up_blocks.parameters()) > 20


def network(name: str, size: int) -> DiffusionModel:
    """An architecture of the registry with fewer channels and a small picture, in channels-last memory as loaded."""
    config = {"sample_size": size} | ARCHITECTURES[name]
    narrow = {"google-ddpm": (32, 32, 32, 32, 64, 64)}
    config["block_out_channels"] = narrow.get(name, config["block_out_channels"])
    torch.manual_seed(0)
    unet = UNet2DModel(**config).to(memory_format=torch.channels_last)
    schedule = Schedule.from_scheduler({"num_train_timesteps": 1000, "prediction_type": "epsilon"})
    codec = CODECS["haar" if name == "avatars" else "identity"]()
    return DiffusionModel(
        small_card(), SplitUNet(unet), schedule, codec, torch.device("cpu"), torch.float32, fingerprint="0" * 16
    )


@pytest.mark.parametrize("name", ["google-ddpm", "adm", "avatars", "skip", "no-middle"])
def test_forward_and_reverse_are_adjoint_on_every_architecture(name: str) -> None:
    model = network(name, 64 if name == "google-ddpm" else 32)
    jacobian = Jacobian(model, point(model), T)
    rng = torch.Generator().manual_seed(2)
    V = torch.randn(2, *jacobian.h_shape, generator=rng)
    Y = torch.randn(2, *jacobian.image_shape, generator=rng)
    JV, JY = jacobian.forward(V), jacobian.reverse(Y)
    assert JV.shape == Y.shape
    assert JY.shape == V.shape
    one, other = (JV.flatten(1).double() * Y.flatten(1)).sum(1), (V.flatten(1).double() * JY.flatten(1)).sum(1)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * (JV.norm() * Y.norm()).item())
    images = [in_float64(jacobian, s * 1e-4 * V[:1]) for s in (1, -1)]
    difference = (images[0] - images[1]) / 2e-4
    assert (difference - JV[:1]).norm() < 1e-4 * difference.norm()


def in_float64(jacobian: Jacobian, delta_h: Tensor) -> Tensor:
    """The predicted image at h + delta_h by the network's own decoder. delta_h: (1, C, H, W)."""
    model, x = jacobian.model, jacobian.x_t.double()
    near = model.features(jacobian.x_t, T)
    features = replace(near, h=near.h.double(), skips=tuple(s.double() for s in near.skips), emb=near.emb.double())
    network = SplitUNet(copy.deepcopy(model.unet.unet).to(torch.float64))
    output = network.decode(features, delta_h.double())[:, : x.shape[1]]
    return model.codec.decode(model.schedule.predicted_x0(x, model.schedule.eps_from_output(output, x, T), T))


def test_chunks_make_no_difference() -> None:
    model = small_model()
    V, Y = torch.randn(5, 32, 4, 4), torch.randn(5, 3, 32, 32)
    whole, parts = (Jacobian(model, point(model), T, chunk=chunk) for chunk in (5, 2))
    torch.testing.assert_close(whole.forward(V), parts.forward(V), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.reverse(Y), parts.reverse(Y), rtol=1e-4, atol=1e-5)
    assert (parts.forwards, parts.reverses) == (5, 5)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_half_precision_neither_underflows_nor_overflows(scale: float) -> None:
    model = small_model()
    exactly, half = (Jacobian(model, point(model), T, dtype=dtype) for dtype in (torch.float32, torch.float16))
    V, Y = scale * torch.randn(2, 32, 4, 4), scale * torch.randn(2, 3, 32, 32)
    for product in ("forward", "reverse"):
        rows = V if product == "forward" else Y
        true, near = (getattr(jacobian, product)(rows) for jacobian in (exactly, half))
        assert near.dtype == torch.float32
        assert (near - true).norm() < 0.03 * true.norm()


def test_overflow_is_said_in_words() -> None:
    model = small_model()
    torch.nn.init.constant_(model.unet.unet.conv_out.weight, 60000.0)
    with pytest.raises(ResourceError, match="overflowed in float16. Use another picture"):
        Jacobian(model, point(model), T, dtype=torch.float16).forward(torch.randn(1, 32, 4, 4))


def test_one_image_at_a_time() -> None:
    model = small_model()
    with pytest.raises(ValueError, match="one image"):
        Jacobian(model, torch.randn(2, *model.x_shape), T)


def test_the_basis_is_orthonormal_and_its_responses_are_products() -> None:
    basis, (_, J) = analysed(), exact()
    Q = basis.vectors.flatten(1).double().numpy()
    np.testing.assert_allclose(Q @ Q.T, np.eye(96), atol=2e-6)
    np.testing.assert_allclose(basis.responses.flatten(1), Q @ J.T, atol=1e-5 * basis.values[0].item())


def test_leading_singular_vectors_of_the_whole_image() -> None:
    basis, (_, J) = analysed(), exact()
    _, s, Vh = np.linalg.svd(J, full_matrices=False)
    np.testing.assert_allclose(basis.values[:10], s[:10], rtol=1e-3)
    assert (angles(Vh[:5], basis.vectors.flatten(1).double().numpy()) < 0.02).all()
    operator = scipy.sparse.linalg.aslinearoperator(J)
    np.testing.assert_allclose(
        basis.values[:5], scipy.sparse.linalg.svds(operator, k=5, return_singular_vectors=False)[::-1], rtol=1e-3
    )


def test_svds_on_the_products_agrees() -> None:
    """scipy's own iteration on our products: an oracle that shares neither the dense matrix nor the basis."""
    jacobian, _ = exact()

    def forward(v: np.ndarray) -> np.ndarray:
        return jacobian.forward(torch.from_numpy(v).reshape(1, 32, 4, 4)).flatten().numpy()

    def reverse(y: np.ndarray) -> np.ndarray:
        return jacobian.reverse(torch.from_numpy(y).reshape(1, 3, 32, 32)).flatten().numpy()

    operator = scipy.sparse.linalg.LinearOperator((3072, 512), forward, reverse, dtype=np.float64)
    _, s, Vh = scipy.sparse.linalg.svds(operator, k=3, tol=1e-6)
    np.testing.assert_allclose(np.sort(s)[::-1], analysed().values[:3], rtol=1e-3)
    assert (angles(Vh, analysed().vectors.flatten(1).double().numpy()) < 0.02).all()


def test_gram_matrices_of_regions() -> None:
    basis, (_, J) = analysed(), exact()
    JQ = (J @ basis.vectors.flatten(1).double().numpy().T).reshape(3, 32, 32, 96)
    for mask in (EYES, ~EYES, np.ones((32, 32), bool)):
        rows = JQ[:, mask].reshape(-1, 96)
        np.testing.assert_allclose(basis.gram(mask), rows.T @ rows, atol=2e-5 * basis.values[0].item() ** 2)
    np.testing.assert_allclose(basis.brightness(EYES), JQ[:, EYES].sum((0, 1)), atol=1e-3)
    with pytest.raises(ValueError, match="mask"):
        basis.gram(np.ones((16, 16), bool))


def test_a_small_matrix_is_exhausted() -> None:
    """More vectors than the rank: the basis ends at the rank instead of taking in noise."""
    model = small_model()
    torch.nn.init.zeros_(model.unet.unet.conv_out.weight)
    with torch.no_grad():
        model.unet.unet.conv_out.weight[0, 0] = 1.0
    jacobian = Jacobian(model, point(model), T)
    basis = finish(krylov_basis(jacobian, 512, 64))
    beyond = basis.values[256:]  # one channel of 16x16
    assert len(basis) < 512
    assert (beyond < 1e-4 * basis.values[0]).all()
    assert basis.vectors.isfinite().all()


def test_responses_are_kept_in_half_beyond_the_memory() -> None:
    jacobian = exact()[0]
    basis = finish(krylov_basis(jacobian, 32, memory=1))
    assert basis.responses.dtype == torch.bfloat16
    full = finish(krylov_basis(jacobian, 32))
    assert full.responses.dtype == torch.float32
    assert basis.nbytes < full.nbytes
    error = basis.gram(EYES) - full.gram(EYES)
    # Vectors may differ in sign between runs of a decomposition only if values coincide; Gram entries up to sign.
    assert (basis.gram(EYES).abs() - full.gram(EYES).abs()).abs().max() < 5e-3 * full.gram(EYES).max(), error


def projector(basis: Basis) -> np.ndarray:
    """Onto the span of the basis: the same whatever the signs and rotations of its vectors."""
    Q = basis.vectors.flatten(1).double().numpy()
    return Q.T @ Q


@pytest.mark.parametrize("mask", [None, EYES], ids=["whole", "region"])
def test_a_basis_that_goes_on_is_the_one_that_was_built_at_once(mask: np.ndarray | None) -> None:
    """Interrupted between two blocks, twice."""
    jacobian, _ = exact()
    first = finish(krylov_basis(jacobian, 8, 4, mask=mask))
    # With a mask the first block alone is aimed at it.
    whole = finish(krylov_basis(jacobian, 24, 4, start=first if mask is not None else None))
    parts = finish(krylov_basis(jacobian, 16, start=first))
    parts = finish(krylov_basis(jacobian, 24, start=parts))
    assert len(parts) == len(whole) == 24
    assert (parts.forwards, parts.reverses) == (24, 24)
    np.testing.assert_allclose(projector(parts), projector(whole), atol=1e-5)
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-5)
    np.testing.assert_allclose(parts.gram(EYES).trace(), whole.gram(EYES).trace(), rtol=1e-5)
    assert np.abs(projector(finish(krylov_basis(jacobian, 24, 4, seed=1))) - projector(whole)).max() > 1e-2


def test_a_basis_that_is_large_enough_is_not_extended() -> None:
    jacobian, _ = exact()
    start = finish(krylov_basis(jacobian, 16))
    before = jacobian.forwards, jacobian.reverses
    again = finish(krylov_basis(jacobian, 16, start=start))
    assert (jacobian.forwards, jacobian.reverses) == before
    np.testing.assert_allclose(projector(again), projector(start), atol=1e-6)


def test_few_vectors_hold_most_of_a_region() -> None:
    """In the dense matrix of the region: ten vectors that were aimed at it, against as many that were not."""
    jacobian, J = exact()
    J_m = J.reshape(3, 32, 32, 512)[:, EYES].reshape(-1, 512)
    best = np.linalg.svd(J_m, compute_uv=False)[:5]

    def share(basis: Basis) -> float:
        held = np.linalg.svd(J_m @ basis.vectors.flatten(1).double().numpy().T, compute_uv=False)[:5]
        return float((held**2).sum() / (best**2).sum())

    aimed = finish(krylov_basis(jacobian, 10, 2, mask=EYES))
    assert share(aimed) > 0.85
    assert share(aimed) > share(finish(krylov_basis(jacobian, 10, 2))) + 0.05
    further = finish(krylov_basis(jacobian, 48, start=aimed))
    assert share(further) >= share(aimed) - 1e-6
    both = finish(krylov_basis(jacobian, 20, 2, start=aimed, mask=~EYES))
    assert len(both) == 20
    assert share(both) >= share(aimed) - 1e-6


def test_responses_in_half_precision_are_computed_anew_in_single() -> None:
    model = small_model()
    half, single = (Jacobian(model, point(model), T, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    rough = finish(krylov_basis(half, 8, 2, mask=EYES))
    assert rough.dtype == torch.bfloat16
    assert (rough.responses - single.forward(rough.vectors)).norm() > 1e-3 * rough.responses.norm()
    basis = finish(krylov_basis(single, 16, start=rough))
    assert basis.dtype == torch.float32
    torch.testing.assert_close(basis.responses, single.forward(basis.vectors), rtol=1e-4, atol=1e-4)
    assert len(finish(krylov_basis(single, 8, start=rough))) == 8


def test_products_that_do_not_belong_together_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    jacobian = Jacobian(small_model(), point(small_model()), T)
    rng = torch.Generator().manual_seed(4)
    Y = torch.randn(2, *jacobian.image_shape, generator=rng)
    W = jacobian.reverse(Y)
    V = orthonormalise(W, W[:0])
    JV = jacobian.forward(V)
    assert disagreement(V, JV, Y, W) < 1e-4
    noise = torch.randn(JV.shape, generator=rng) * JV.square().mean().sqrt()
    assert disagreement(V, JV + noise, Y, W) > MAX_DISAGREEMENT
    exactly = Jacobian.forward
    monkeypatch.setattr(Jacobian, "forward", lambda self, V: exactly(self, V).roll(5, dims=-1))
    with pytest.raises(ResourceError, match="float32"):
        finish(krylov_basis(jacobian, 8, 2))


def test_every_call_of_the_network_can_be_the_last() -> None:
    jacobian = Jacobian(small_model(), point(small_model()), T, chunk=2)
    job = krylov_basis(jacobian, 8, 8)
    made = []
    for event in job:
        made.append(jacobian.forwards + jacobian.reverses)
        assert event.step == made[-1]
    assert made == [2, 4, 6, 8, 10, 12, 14, 16]
    start = finish(krylov_basis(jacobian, 8))
    made = [jacobian.forwards + jacobian.reverses]
    for _ in refine(jacobian, start, EYES, count=4, rounds=2):
        made.append(jacobian.forwards + jacobian.reverses)
    assert max(np.diff(made)) <= 4


def test_the_analysis_can_be_cancelled_and_reports() -> None:
    jacobian = Jacobian(small_model(), point(small_model()), T)
    job = krylov_basis(jacobian, 24, 8)
    events = [next(job), next(job)]
    job.close()
    assert (jacobian.forwards, jacobian.reverses) == (8, 8)
    assert [event.step for event in events] == [8, 16]
    assert events[0].total == 48
    running = Running(krylov_basis(jacobian, 24, 8))
    assert [event.step for event in running] == [8, 16, 24, 32, 40, 48]
    assert len(running.result) == 24


@pytest.mark.parametrize(("size", "block"), [(0, 1), (8, 16), (10_000, 8), (8, 0)])
def test_sizes_out_of_range(size: int, block: int) -> None:
    with pytest.raises(RequestError):
        finish(krylov_basis(exact()[0], size, block))


def test_orthonormalise_drops_what_is_not_new() -> None:
    Q = torch.eye(4, 6).reshape(4, 6, 1, 1)
    new = torch.zeros(3, 6, 1, 1)
    new[0, 0], new[1, 4], new[2, 4] = 1, 1, 2
    made = orthonormalise(new, Q)
    assert made.shape == (1, 6, 1, 1)
    assert abs(made[0, 4].item()) == pytest.approx(1)


def test_refinement_converges_on_a_region() -> None:
    jacobian, J = exact()
    start = finish(krylov_basis(jacobian, 24))
    J_m = J.reshape(3, 32, 32, 512)[:, EYES].reshape(-1, 512)
    _, s, Vh = np.linalg.svd(J_m, full_matrices=False)
    running = Running(refine(jacobian, start, EYES, count=4, tolerance=0.01, rounds=20))
    events = list(running)
    refined = running.result
    assert events[-1].loss < 0.01 < events[0].loss
    found = torch.linalg.eigvalsh(refined.gram(EYES)).flip(0)[:4].sqrt()
    np.testing.assert_allclose(found, s[:4], rtol=1e-3)
    assert (angles(Vh[:3], refined.vectors.flatten(1).double().numpy()) < 0.05).all()
    before = torch.linalg.eigvalsh(start.gram(EYES)).flip(0)[:4]
    assert before.sum() < found.square().sum()


def test_refinement_of_contrast() -> None:
    jacobian, J = exact()
    blocks = J.reshape(3, 32, 32, 512)
    J_m, J_u = (blocks[:, mask].reshape(-1, 512) for mask in (EYES, ~EYES))
    A, mu = J_m.T @ J_m, 0.05
    B = J_u.T @ J_u + mu * np.linalg.eigvalsh(A)[-1] * np.eye(512)
    true = scipy.linalg.eigh(A, B, eigvals_only=True, subset_by_index=(510, 511))[::-1]
    running = Running(refine(jacobian, analysed(), EYES, count=2, mu=mu, tolerance=0.02, rounds=20))
    events = list(running)
    refined = running.result
    inside = refined.gram(EYES).numpy()
    ridge = mu * np.linalg.eigvalsh(inside)[-1]
    pencil = scipy.linalg.eigh(inside, refined.whole.numpy() - inside + ridge * np.eye(len(refined)))[0][::-1]
    np.testing.assert_allclose(pencil[:2], true, rtol=0.01)
    assert events[-1].loss < 0.02


def test_refinement_of_a_region_where_nothing_changes() -> None:
    model = small_model()
    torch.nn.init.zeros_(model.unet.unet.conv_out.weight)
    jacobian, alive = Jacobian(model, point(model), T), analysed(24)
    dead = Basis(alive.vectors, alive.responses * torch.from_numpy(~EYES), alive.whole, T, 40)
    with pytest.raises(RequestError, match="Nothing"):
        finish(refine(jacobian, dead, EYES))


def test_denoising_stops_on_the_way() -> None:
    model = small_model()
    latent = sample_latent(model, 0)
    t = nearest_timestep(model, 10)
    assert t == 555
    x_t = finish(denoise_to(model, latent.x_T, t, 10))
    assert x_t.shape == latent.x_T.shape
    assert torch.equal(finish(denoise_to(model, latent.x_T, 999, 10)), latent.x_T)
    x = x_t
    timesteps = model.schedule.timesteps(10)[::-1]
    rest_of_way = timesteps[timesteps.index(t) :]
    for s, s_prev in zip(rest_of_way, [*rest_of_way[1:], -1], strict=True):
        with torch.no_grad():
            eps = model.eps(model.features(x, s), x, s)
        x = model.schedule.reverse_step(x, eps, eps, s, s_prev)
    whole = finish(edit(model, latent, settings=EditSettings(10)))
    torch.testing.assert_close(model.codec.decode(x).clamp(-1, 1), whole, rtol=1e-4, atol=1e-4)


def test_the_place_of_a_picture_is_near_that_of_a_long_inversion() -> None:
    """A path that begins at t = 0 with few steps, against the whole way up and down again."""
    model = small_model()
    pixels = finish(edit(model, sample_latent(model, 3), settings=EditSettings(10)))
    t = nearest_timestep(model, 40)
    far = finish(denoise_to(model, finish(invert(model, pixels, 40)).x_T, t, 40))
    events = list(running := Running(place(model, pixels, t)))
    assert [event.step for event in events] == [1, 2, 3, 4, 5, 6]
    near, finer = running.result, finish(place(model, pixels, t, 30))
    distance = [((x - far).norm() / far.norm()).item() for x in (near, finer)]
    assert distance[1] < distance[0] < 0.5
    assert finish(place(model, pixels, 0)).shape == near.shape
    for steps, at in ((1, t), (6, 1000), (6, -1)):
        with pytest.raises(RequestError, match="timestep"):
            finish(place(model, pixels, at, steps))


def test_timesteps_out_of_range() -> None:
    model = small_model()
    latent = finish(invert(model, torch.zeros(1, 3, 32, 32), 4))
    with pytest.raises(RequestError, match="not on the way"):
        finish(denoise_to(model, latent.x_T, 17, 4))
    with pytest.raises(RequestError, match="between 0 and 1"):
        nearest_timestep(model, 40, 1.5)
