"""Asyrp's published process against its Algorithm 1 written out on the whole network, and the released timesteps."""

from math import sqrt

import numpy as np
import pytest
import torch
from small_models import small_model, trained_block
from torch import Tensor

from core.algorithm_1 import as_published, invert_as_published
from core.directions import ImplicitDirection
from core.editing import EditSettings, edit, invert
from core.intervals import Intervals
from core.latents import LatentCache
from core.metrics import psnr
from core.models.loader import DiffusionModel, models
from core.process import edit_pictures
from core.progress import finish
from core.studio import library

S, T_EDIT, T_BOOST = 9, 400, 200


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return small_model("epsilon")


def picture() -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1


@torch.no_grad()
def algorithm_1(model: DiffusionModel, x0: Tensor, f_t: torch.nn.Module, c: float) -> tuple[Tensor, Tensor]:
    """Lines 1 to 32 with one attribute and the released code's last step: (x_T, the edited x_0). The shift is added by
    a hook on the mid block of the undivided network."""
    unet, a = model.unet.unet, model.schedule.alphas_cumprod.tolist()
    tau = [int(s) for s in np.linspace(0, 1, S) * 999]

    def eps_theta(x: Tensor, t: int, c: float = 0.0) -> Tensor:
        emb = unet.time_embedding(unet.time_proj(torch.full((len(x),), t)).to(x.dtype))
        hook = unet.mid_block.register_forward_hook(lambda m, i, h: h + c * f_t(h, emb) if c else h)
        try:
            return unet(x, t).sample
        finally:
            hook.remove()

    # step 1: semantic encoding
    x = x0
    for s in range(S - 1):
        eps = eps_theta(x, tau[s])
        P = (x - sqrt(1 - a[tau[s]]) * eps) / sqrt(a[tau[s]])
        x = sqrt(a[tau[s + 1]]) * P + sqrt(1 - a[tau[s + 1]]) * eps
    x_T = x

    # step 2: manipulation
    z_of = torch.Generator().manual_seed(0)
    for s in range(S - 1, -1, -1):
        a_s, a_prev = a[tau[s]], a[tau[s - 1]] if s else 1.0
        eps = eps_theta(x, tau[s])
        shifted = eps_theta(x, tau[s], c * 40 / S) if tau[s] >= T_EDIT else eps
        sigma = sqrt((1 - a_prev) / (1 - a_s)) * sqrt(1 - a_s / a_prev) if tau[s] < T_BOOST else 0.0
        z = torch.randn((1, *x.shape[1:]), generator=z_of) if tau[s] < T_BOOST else 0.0
        P = (x - sqrt(1 - a_s) * shifted) / sqrt(a_s)
        x = sqrt(a_prev) * P + sqrt(max(0.0, 1 - a_prev - sigma**2)) * eps + sigma * z
    return x_T, x


def test_algorithm_1_laid_beside(model: DiffusionModel) -> None:
    f_t, pixels = trained_block(model.unet.unet.time_embedding.linear_2.out_features), picture()
    x_T, x = algorithm_1(model, model.codec.encode(pixels), f_t, 0.7)
    latent = finish(invert_as_published(model, pixels, S))
    assert torch.allclose(latent.x_T, x_T, atol=1e-4 * x_T.abs().max().item())

    weighted = [(ImplicitDirection(f_t, 40), 0.7)]
    settings = EditSettings(S, Intervals(T_EDIT, T_BOOST))
    edited = finish(edit_pictures(model, pixels, 1, weighted, settings, "published"))
    expected = model.codec.decode(x).clamp(-1, 1)
    plain = finish(edit(as_published(model), latent, (), settings))
    assert (plain - expected).abs().max() > 0.05
    assert torch.allclose(edited, expected, atol=1e-3)


def test_the_other_processes_are_others(model: DiffusionModel) -> None:
    """Its latent is neither that of our inversion nor that of eps taken where a step arrives."""
    pixels = picture()
    published = finish(invert_as_published(model, pixels, S)).x_T
    for iterations in (0, 1):
        ours = finish(invert(model, pixels, S, iterations=iterations)).x_T
        assert (ours - published).abs().max() > 1e-2


def test_timesteps_are_cut_as_in_the_released_code(model: DiffusionModel) -> None:
    ours, theirs = model.schedule.timesteps(40), as_published(model).schedule.timesteps(40)
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) == 18
    assert {a - b for a, b in zip(ours, theirs, strict=True)} == {0, 1}
    assert theirs[:5] == [0, 25, 51, 76, 102]
    assert as_published(model).schedule.timesteps(1000)[-1] == 999


def test_its_latents_are_kept_apart(model: DiffusionModel) -> None:
    cache, pixels = LatentCache(), picture()
    published = finish(invert_as_published(model, pixels, S, cache=cache))
    assert finish(invert_as_published(model, pixels, S, cache=cache)) is published
    assert finish(invert(model, pixels, S, cache=cache)) is not published


def test_ours_reconstructs_better_on_a_trained_network() -> None:
    """What the documents say of the two inversions, of one portrait in half as many steps."""
    avatars = models.get("avatars")
    pixels = library.open_example(library.examples("avatars")[0], "avatars").pixels
    ours = finish(edit(avatars, finish(invert(avatars, pixels, 20)), (), EditSettings(20)))
    theirs = finish(edit_pictures(avatars, pixels, 1, (), EditSettings(20), "published"))
    assert psnr(ours, pixels).item() > psnr(theirs, pixels).item() + 5
