"""Shifts at any block and in eps, against hooks on the undivided network."""

import pytest
import torch
from diffusers import UNet2DModel
from small_models import small_model, small_unet
from small_text_models import small_text_model
from test_unet import ADM, AVATARS, CENTRED, GOOGLE_DDPM, NO_MIDDLE, SKIP
from torch import Tensor

from core.asyrp.train import Training, TrainingSettings
from core.directions import GlobalDirection
from core.editing import EditSettings, edit, sample_latent
from core.errors import RequestError
from core.layers import EPS, RESCALED_EPS, BlockUNet, at_layer, count, middle
from core.progress import finish
from core.prompted import with_prompt

ARCHITECTURES = {"avatars": AVATARS, "google": GOOGLE_DDPM, "adm": ADM, "centred": CENTRED, "no-middle": NO_MIDDLE}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def unet(request: pytest.FixtureRequest) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(**({"sample_size": 32} | ARCHITECTURES[request.param])).eval().requires_grad_(False)


def block_of(unet: UNet2DModel, layer: int) -> torch.nn.Module:
    return [*unet.down_blocks, unet.mid_block, *unet.up_blocks][layer - 1]


@torch.no_grad()
def test_every_block_can_be_shifted(unet: UNet2DModel) -> None:
    """The halves make the whole at each block, and a shift is what a hook on its output does."""
    assert count(unet) == 2 * len(unet.down_blocks) + 1
    for layer in range(1, count(unet) + 1):
        split = BlockUNet(unet, layer)
        x = torch.randn(2, *split.x_shape, generator=torch.Generator().manual_seed(layer))
        features = split.encode(x, [300, 300])
        plain = unet(x, 300).sample
        scale = plain.abs().max().item()
        assert torch.allclose(split.decode(features), plain, rtol=0, atol=1e-5 * scale), layer
        if block_of(unet, layer) is None:
            continue
        delta = features.h.std() * torch.randn(1, *features.h.shape[1:], generator=torch.Generator().manual_seed(99))

        def shift(_m: object, _i: object, output: Tensor | tuple, delta: Tensor = delta) -> Tensor | tuple:
            return output + delta if isinstance(output, Tensor) else (output[0] + delta, *output[1:])

        hook = block_of(unet, layer).register_forward_hook(shift)
        try:
            shifted = unet(x, 300).sample
        finally:
            hook.remove()
        assert (shifted - plain).abs().max() > 1e-3 * scale, layer
        assert torch.allclose(split.decode(features, delta), shifted, rtol=0, atol=1e-5 * scale), layer


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_eps_of_a_text_to_image_network_is_that_of_its_prompt(prediction: str, guidance: float) -> None:
    model = with_prompt(small_text_model(prediction), "a red cat", guidance)
    tapped = at_layer(model, EPS)
    x = torch.randn(2, *model.x_shape, generator=torch.Generator().manual_seed(0))
    features = tapped.features(x, 300)
    assert tuple(features.h.shape[1:]) == tapped.card.h_shape == model.x_shape
    plain = model.eps(model.features(x, 300), x, 300)
    assert torch.allclose(tapped.eps(features, x, 300), plain, atol=1e-5)
    delta = torch.randn(1, *model.x_shape, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(tapped.eps(features, x, 300, delta), plain + delta, atol=1e-5)
    with pytest.raises(RequestError, match="mid block or in eps only"):
        at_layer(tapped, 1)


def test_the_mid_block_is_the_usual_place() -> None:
    model = small_model()
    tapped = at_layer(model, middle(model.unet.unet))
    assert tapped.card.h_shape == model.card.h_shape
    delta = torch.randn(1, *model.card.h_shape, generator=torch.Generator().manual_seed(0))
    x_T, settings = sample_latent(model, 3), EditSettings(6)
    made = [finish(edit(one, x_T, [(GlobalDirection(delta, 6), 1.0)], settings)) for one in (model, tapped)]
    assert torch.allclose(*made, atol=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@torch.no_grad()
def test_a_shift_of_eps_is_one_whatever_the_network_predicts(prediction_type: str) -> None:
    plain = small_model(prediction_type)
    model = at_layer(plain, EPS)
    x = sample_latent(model, 1, 2).x_T
    delta = torch.randn(1, *model.x_shape, generator=torch.Generator().manual_seed(5))
    assert model.card.h_shape == model.x_shape
    for t in (20, 500, 960):
        features = model.features(x, t)
        change = model.eps(features, x, t, delta) - model.eps(features, x, t)
        assert torch.allclose(change, delta.expand_as(change), atol=2e-2 if t == 960 else 1e-4)
        assert torch.equal(model.eps(features, x, t), plain.eps(plain.features(x, t), x, t))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@torch.no_grad()
def test_a_rescaled_shift_of_eps_keeps_its_deviation(prediction_type: str) -> None:
    """Appendix D.2 written out, whatever the network predicts: (eps + z) / sqrt(1 + sigma^2), for each row its own."""
    plain = small_model(prediction_type)
    model = at_layer(plain, RESCALED_EPS)
    x = sample_latent(model, 1, 2).x_T
    z = (
        torch.randn(2, *model.x_shape, generator=torch.Generator().manual_seed(5))
        * torch.tensor([2.0, 0.5])[:, None, None, None]
    )
    assert model.card.h_shape == model.x_shape
    for t in (20, 500, 960):
        features, eps = model.features(x, t), plain.eps(plain.features(x, t), x, t)
        sigma2 = torch.stack([(row**2).mean() for row in z])[:, None, None, None]
        expected = (eps + z) / (1 + sigma2) ** 0.5
        assert torch.allclose(model.eps(features, x, t, z), expected, atol=2e-2 if t == 960 else 1e-4)
        assert torch.equal(model.eps(features, x, t), eps)
        assert torch.allclose(model.eps(features, x, t, 0 * z), eps, atol=1e-3)
    one = model.features(x[:1], 500).expand(2)
    eps, twice = model.eps(one, x[:1], 500), model.eps(one, x[:1], 500, z)
    assert torch.allclose(twice[1], model.eps(model.features(x[:1], 500), x[:1], 500, z[1:])[0], atol=1e-4)
    assert (twice - eps).abs().max() > 0.1


@torch.no_grad()
def test_an_asymmetric_shift_of_eps_moves_the_predicted_picture_alone() -> None:
    """Eq. 6 written out with eps + delta in P_t, and eps in D_t."""
    model = small_model()
    x = x_T = sample_latent(model, 2).x_T
    delta = 0.1 * torch.randn(1, *model.x_shape, generator=torch.Generator().manual_seed(7))
    timesteps = model.schedule.timesteps(5)[::-1]
    for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
        eps = model.eps(model.features(x, t), x, t)
        x = model.schedule.reverse_step(x, eps + delta, eps, t, t_prev)
    direction = GlobalDirection(delta, 5)
    made = finish(edit(at_layer(model, EPS), x_T, [(direction, 1.0)], EditSettings(5)))
    assert torch.allclose(made, model.codec.decode(x).clamp(-1, 1), atol=1e-4)


def test_places_that_are_not_there() -> None:
    for layer in (0, 8, -1):
        with pytest.raises(RequestError, match="blocks 1 to 7"):
            BlockUNet(small_unet(), layer)
    with pytest.raises(RequestError, match="no layer"):
        at_layer(small_model(), "mouth")
    with pytest.raises(RequestError, match="mid block only"):
        BlockUNet(UNet2DModel(**({"sample_size": 32} | SKIP)), 2)


def test_the_usual_path_stays_as_it_is() -> None:
    """A model that is seen at another layer shares its network with the one that is not."""
    model = small_model()
    before = model.card.h_shape
    tapped = at_layer(model, 1)
    assert tapped.unet.unet is model.unet.unet
    assert model.card.h_shape == before
    assert tapped.card.h_shape != before


def test_training_at_any_layer() -> None:
    """f_t and a global direction have the place's width, and go down its loss."""
    from test_asyrp import LinearImageText

    model = small_model()
    for layer in (1, 4, 7, EPS):
        there = at_layer(model, layer)
        settings = TrainingSettings("implicit", 6, 4, 6, 4, 0.8, 0.0, 500, augment=0.0, rate=3e-3)
        training = Training(there, LinearImageText(), "face", "smiling face", settings)
        finish(training.run())
        first, last = training.losses[: len(training.timesteps)], training.losses[-len(training.timesteps) :]
        assert sum(last) < sum(first), layer
