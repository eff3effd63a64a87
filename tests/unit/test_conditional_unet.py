"""The two halves of a text-to-image network against its own forward, guidance bound to it, and its derivatives."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.linalg
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from small_text_models import WIDTH, small_text_model
from torch import Tensor, nn

from core.attention_control import StepControl, control_attention
from core.conditional_unet import ConditionalFeatures, Prompt, PromptedUNet, ShiftedBranch, SplitConditionalUNet
from core.discovery.basis import krylov_basis
from core.discovery.interface import DiscoverySettings
from core.discovery.jacobian_operator import Jacobian
from core.discovery.locality import measure_locality
from core.discovery.methods import discover
from core.models.loader import DiffusionModel
from core.progress import finish
from core.prompted import h_space_card, with_prompt
from core.regions import Region
from core.text_to_image import Autoencoder

# As in the repositories' config.json, with fewer channels and a small picture.
NARROW = {"sample_size": 16, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 2, "norm_num_groups": 32}
SD_BLOCKS = {
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
}
ARCHITECTURES = {
    "stable-diffusion-1-5": {**NARROW, **SD_BLOCKS, "attention_head_dim": 8, "cross_attention_dim": 48},
    "stable-diffusion-2-1": {
        **NARROW,
        **SD_BLOCKS,
        "attention_head_dim": (2, 2, 4, 4),
        "cross_attention_dim": 64,
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    "avatars-t2i": {
        "sample_size": 16,
        "block_out_channels": (16, 32, 48),
        "layers_per_block": 1,
        "norm_num_groups": 16,
        "attention_head_dim": 4,
        "cross_attention_dim": 24,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    },
}


def network(name: str, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**ARCHITECTURES[name]).eval().requires_grad_(False)
    return nn.Module.to(unet, dtype)


def inputs(
    unet: UNet2DConditionModel, rows: int = 3, side: int = 16, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, side, side, generator=generator, dtype=dtype)
    return x, torch.randn(rows, 7, unet.config.cross_attention_dim, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_the_halves_make_the_whole(name: str, dtype: torch.dtype) -> None:
    unet = network(name, dtype)
    split, (x, text) = SplitConditionalUNet(unet), inputs(unet, dtype=dtype)
    times = [3, 421, 988]
    whole = unet(x, torch.tensor(times), text).sample
    features = split.encode(x, times, text)
    exact = 20 * torch.finfo(dtype).eps * whole.abs().max()
    assert (split.decode(features) - whole).abs().max() <= exact
    others = unet(x, torch.tensor([421] * 3), text).sample
    assert (split.decode(split.encode(x, 421, text)) - others).abs().max() <= exact
    assert (others - whole).abs().max() > 1e3 * exact, "or timesteps would not matter"
    assert (split.decode(replace(features, text=text.flip(0))) - whole).abs().max() > 1e2 * exact
    assert split.encode(x, 421, text[:1]).text.shape == text.shape


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_delta_h_is_added_to_the_output_of_the_mid_block(name: str) -> None:
    unet = network(name)
    split, (x, text) = SplitConditionalUNet(unet), inputs(unet)
    features = split.encode(x, 300, text)
    delta_h = torch.randn(1, *features.h.shape[1:])
    hook = unet.mid_block.register_forward_hook(lambda module, given, output: output + delta_h)
    try:
        shifted = unet(x, 300, text).sample
    finally:
        hook.remove()
    assert torch.allclose(split.decode(features, delta_h), shifted, rtol=0, atol=1e-6 * shifted.abs().max().item())
    assert (shifted - split.decode(features)).abs().max() > 1e-3 * shifted.abs().max()


@torch.no_grad()
def test_sides_that_cannot_be_halved_evenly() -> None:
    unet = network("stable-diffusion-1-5")
    split, (x, text) = SplitConditionalUNet(unet), inputs(unet, side=18)
    whole = unet(x, 300, text).sample
    assert torch.allclose(split.decode(split.encode(x, 300, text)), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_control_of_attention_reaches_both_halves() -> None:
    unet = network("avatars-t2i")
    control_attention(unet)
    split, (x, text) = SplitConditionalUNet(unet), inputs(unet)
    control = StepControl(2, torch.eye(7).expand(2, -1, -1), torch.ones(2, 7), torch.ones(2, 7), 64)
    whole = unet(x, 300, text, cross_attention_kwargs={"control": control}).sample
    made = split.decode(split.encode(x, 300, text, control), control=control)
    assert torch.allclose(made, whole, rtol=0, atol=1e-6)
    assert (split.decode(split.encode(x, 300, text, control)) - whole).abs().max() > 1e-4


@torch.no_grad()
def test_rows_are_selected_with_both_prompts() -> None:
    unet = network("avatars-t2i")
    x, text = inputs(unet)
    prompted = PromptedUNet(unet, Prompt(text[:1], text[1:2], 3.0))
    features = prompted.encode(x, [5, 300, 900])
    chosen = features.select(torch.tensor([2, 0, 2]))
    assert torch.equal(chosen.empty.h, features.empty.h[[2, 0, 2]])
    assert chosen.timesteps.tolist() == [900, 5, 900]
    whole = prompted.decode(features)
    torch.testing.assert_close(prompted.decode(chosen), whole[[2, 0, 2]], rtol=0, atol=1e-5)
    torch.testing.assert_close(prompted.decode(features.repeat(2)), whole.repeat_interleave(2, 0), rtol=0, atol=1e-5)
    row = features.select(slice(1, 2)).expand(2)
    assert isinstance(row, ConditionalFeatures)
    torch.testing.assert_close(prompted.decode(row), whole[[1, 1]], rtol=0, atol=1e-5)


def test_networks_that_take_more_than_a_prompt_are_refused() -> None:
    unet = network("avatars-t2i")
    unet.register_to_config(addition_embed_type="text_time")
    with pytest.raises(ValueError, match="more than a prompt"):
        SplitConditionalUNet(unet)


# ------------------------------------------------------------------------------------------------- prompt and guidance


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@torch.no_grad()
def test_guidance_is_that_of_the_text_to_image_model(prediction: str, guidance: float) -> None:
    model = small_text_model(prediction, torch.float64)
    bound = with_prompt(model, "a cat", guidance)
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    times = [10, 500, 900]
    text, empty = model.embed(["a cat", ""]).double().split(1)
    expected = model.guided(x, times, text, empty, guidance)
    features = bound.unet.encode(x, times)
    made = bound.schedule.eps_from_output(bound.unet.decode(features), x, times)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-10)
    without = model.eps(x, times, text)
    assert ((expected - without).abs().max() > 1e-5) == (guidance != 1)


@pytest.mark.parametrize("shifted", ["both", "conditional"])
@torch.no_grad()
def test_the_branch_that_is_shifted(shifted: ShiftedBranch) -> None:
    model = small_text_model(dtype=torch.float64)
    bound = with_prompt(model, "a cat", 4.0, shifted)
    x, delta_h = torch.randn(2, 4, 8, 8, dtype=torch.float64), torch.randn(1, 16, 8, 8, dtype=torch.float64)
    text, empty = model.embed(["a cat", ""]).double().split(1)
    towards = model.eps(x, 400, text, delta_h=delta_h)
    away = model.eps(x, 400, empty, delta_h=delta_h if shifted == "both" else None)
    made = bound.unet.decode(bound.unet.encode(x, 400), delta_h)
    torch.testing.assert_close(made, away + 4 * (towards - away), rtol=0, atol=1e-10)


@torch.no_grad()
def test_a_prediction_with_a_shift_of_h() -> None:
    model = small_text_model()
    x, text = torch.randn(20, 4, 8, 8), model.embed(["a red dog"])
    plain = model.eps(x, 400, text)
    torch.testing.assert_close(model.eps(x, 400, text, delta_h=torch.zeros(1, 16, 8, 8)), plain, rtol=0, atol=1e-5)
    shifts = torch.randn(20, 16, 8, 8)
    made = model.eps(x, list(range(20)), text, delta_h=shifts)
    one = SplitConditionalUNet(model.unet)
    alone = one.decode(one.encode(x[13:14], 13, text), shifts[13:14])
    torch.testing.assert_close(made[13:14], alone, rtol=0, atol=1e-5)


def test_what_a_model_is_bound_to_tells_what_is_kept_apart() -> None:
    model = small_text_model()
    bound = [with_prompt(model, "a cat"), with_prompt(model, "a dog"), with_prompt(model, "a cat", 2.0)]
    bound += [with_prompt(model, "a cat", 2.0, "conditional"), with_prompt(model, "a cat", 2.0, empty="a dog")]
    assert len({one.key for one in bound}) == len(bound)
    assert {one.fingerprint for one in bound} == {model.fingerprint}
    assert {one.card.id for one in bound} == {"small"}


@torch.no_grad()
def test_the_card_says_the_shape_of_h() -> None:
    model = small_text_model()
    bound = with_prompt(model, "a cat")
    assert tuple(bound.features(torch.zeros(1, *bound.x_shape), 5).h.shape[1:]) == bound.card.h_shape
    for name in ARCHITECTURES:
        unet = network(name)
        other = replace(model, unet=unet)
        x, text = inputs(unet, 1)
        h = SplitConditionalUNet(unet).encode(x, 5, text).h
        assert tuple(h.shape[1:]) == h_space_card(other).h_shape


# ---------------------------------------------------------------------------------------------------------- derivatives

T = 589
MOUTH = Region("mouth", np.zeros((16, 16), bool))
MOUTH.mask[9:14, 4:12] = True


def attentive_autoencoder() -> AutoencoderKL:
    """With attention in the middle, as that of Stable Diffusion."""
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
        scaling_factor=0.3,
    ).eval()


def bound_model(guidance: float = 1.0, shifted: ShiftedBranch = "both") -> DiffusionModel:
    """A small one in float64 whose random network does something with h and its prompt."""
    vae = nn.Module.to(attentive_autoencoder().requires_grad_(False), torch.float64)
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 16),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    unet = nn.Module.to(unet.eval().requires_grad_(False), torch.float64)
    model = small_text_model("v_prediction", torch.float64)
    model = replace(model, unet=unet, codec=Autoencoder(vae))
    return with_prompt(model, "a smiling cat", guidance, shifted)


def point(model: DiffusionModel) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, *model.x_shape, generator=generator, dtype=torch.float64)


@cache
def exact(guidance: float, shifted: ShiftedBranch) -> tuple[Jacobian, np.ndarray]:
    """The operator in float64 and the matrix (768, 256) it stands for, by forward mode through plain attention."""
    model = bound_model(guidance, shifted)
    jacobian = Jacobian(model, point(model), T, dtype=torch.float64)
    features = model.features(jacobian.x_t, T)
    for module in model.codec.vae.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())

    def image(delta: Tensor) -> Tensor:
        eps = model.eps(features, jacobian.x_t, T, delta)
        return model.codec.decode(model.schedule.predicted_x0(jacobian.x_t, eps, T))

    model.unet.use_plain_attention()
    J = torch.func.jacfwd(image)(torch.zeros_like(features.h))
    return jacobian, J.reshape(3 * 16 * 16, -1).numpy()


@pytest.mark.parametrize(("guidance", "shifted"), [(1.0, "both"), (3.0, "both"), (3.0, "conditional")])
def test_products_are_those_of_the_dense_jacobian(guidance: float, shifted: ShiftedBranch) -> None:
    jacobian, J = exact(guidance, shifted)
    rng = torch.Generator().manual_seed(0)
    V = torch.randn(3, *jacobian.h_shape, generator=rng, dtype=torch.float64)
    Y = torch.randn(5, 3, 16, 16, generator=rng, dtype=torch.float64)
    scale = np.abs(J).sum(1).max()  # diffusers' plain attention has its softmax in float32
    np.testing.assert_allclose(jacobian.forward(V).flatten(1), V.flatten(1).numpy() @ J.T, atol=1e-7 * scale)
    np.testing.assert_allclose(jacobian.reverse(Y).flatten(1), Y.flatten(1).numpy() @ J, atol=1e-7 * scale)


def test_the_jacobian_is_that_of_finite_differences() -> None:
    """Independent of forward mode: central differences of the guided picture, by the text-to-image model itself."""
    model = bound_model(3.0)
    jacobian = Jacobian(model, point(model), T, dtype=torch.float64)
    split, prompt, v = model.unet.split, model.unet.prompt, torch.randn(1, *jacobian.h_shape, dtype=torch.float64)

    @torch.no_grad()
    def picture(delta: Tensor) -> Tensor:
        towards, away = (
            split.decode(split.encode(jacobian.x_t, T, text.double()), delta) for text in (prompt.text, prompt.empty)
        )
        eps = model.schedule.eps_from_output(away + 3 * (towards - away), jacobian.x_t, T)
        return model.codec.decode(model.schedule.predicted_x0(jacobian.x_t, eps, T))

    difference = (picture(1e-5 * v) - picture(-1e-5 * v)) / 2e-5
    torch.testing.assert_close(jacobian.forward(v), difference, rtol=0, atol=1e-6 * difference.abs().max().item())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_forward_and_reverse_are_adjoint_on_every_architecture(name: str) -> None:
    unet = network(name)
    model = replace(small_text_model(), unet=unet, codec=Autoencoder(attentive_autoencoder().requires_grad_(False)))
    _, text = inputs(unet, 2)
    bound = DiffusionModel(
        with_prompt(small_text_model(), "a cat").card,
        PromptedUNet(unet, Prompt(text[:1], text[1:], 2.0)),
        model.schedule,
        model.codec,
        torch.device("cpu"),
        torch.float32,
        "0" * 16,
    )
    jacobian = Jacobian(bound, point(bound).float(), T)
    rng = torch.Generator().manual_seed(2)
    V, Y = torch.randn(2, *jacobian.h_shape, generator=rng), torch.randn(2, *jacobian.image_shape, generator=rng)
    JV, JY = jacobian.forward(V), jacobian.reverse(Y)
    one, other = ((a.flatten(1).double() * b.flatten(1)).sum(1) for a, b in ((JV, Y), (V, JY)))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * (JV.norm() * Y.norm()).item())

    @torch.no_grad()
    def picture(delta: Tensor) -> Tensor:
        wide = DiffusionModel(
            bound.card,
            PromptedUNet(nn.Module.to(network(name), torch.float64), bound.unet.prompt),
            bound.schedule,
            Autoencoder(nn.Module.to(attentive_autoencoder(), torch.float64)),
            bound.device,
            torch.float64,
            "0" * 16,
        )
        eps = wide.eps(wide.features(jacobian.x_t.double(), T), jacobian.x_t.double(), T, delta.double())
        return wide.codec.decode(wide.schedule.predicted_x0(jacobian.x_t.double(), eps, T))

    difference = (picture(1e-4 * V[:1]) - picture(-1e-4 * V[:1])) / 2e-4
    assert (difference - JV[:1]).norm() < 1e-3 * difference.norm()


def test_contrast_and_jacobian_are_those_of_the_dense_matrix() -> None:
    jacobian, J = exact(3.0, "both")
    basis = finish(krylov_basis(jacobian, 256))
    inside = np.repeat(MOUTH.mask.ravel()[None], 3, axis=0).ravel()
    A, C = J[inside].T @ J[inside], J[~inside].T @ J[~inside]
    [first] = discover(basis, [MOUTH], "jacobian", DiscoverySettings(count=1))
    value, vector = (part[..., -1] for part in np.linalg.eigh(A))
    assert first.inside == pytest.approx(value**0.5, rel=1e-3)
    assert abs(first.direction.delta.flatten().double().numpy() @ vector) == pytest.approx(1, abs=1e-3)

    [best] = discover(basis, [MOUTH], "contrast", DiscoverySettings(count=1))
    ridge = 0.05 * value * np.eye(len(A))
    ratio, vectors = scipy.linalg.eigh(A, C + ridge)
    assert best.value == pytest.approx(ratio[-1] ** 0.5, rel=1e-2)
    expected = vectors[:, -1] / np.linalg.norm(vectors[:, -1])
    assert abs(best.direction.delta.flatten().double().numpy() @ expected) > 0.99


def test_another_unit_of_h() -> None:
    """The same directions, responses and edits; strengths are that much smaller."""
    jacobian, _ = exact(3.0, "both")
    model = replace(jacobian.model, card=replace(jacobian.model.card, unit=4.0))
    other = Jacobian(model, jacobian.x_t, T, dtype=torch.float64)
    V, Y = torch.randn(2, *jacobian.h_shape).double(), torch.randn(2, 3, 16, 16).double()
    torch.testing.assert_close(other.forward(V), 4 * jacobian.forward(V), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other.reverse(Y), 4 * jacobian.reverse(Y), rtol=1e-5, atol=1e-6)
    settings = DiscoverySettings(count=2)
    found = [discover(finish(krylov_basis(j, 64)), [MOUTH], "jacobian", settings) for j in (jacobian, other)]
    for one, same in zip(*found, strict=True):
        torch.testing.assert_close(same.direction.delta.abs(), 4 * one.direction.delta.abs(), rtol=1e-2, atol=1e-4)
        assert same.inside == pytest.approx(4 * one.inside, rel=1e-3)
        assert same.ratio == pytest.approx(one.ratio, rel=1e-3)
        [measured] = measure_locality(other, [same], MOUTH)
        assert measured.inside == pytest.approx(same.inside, rel=1e-3)


def test_the_network_is_left_as_it_is() -> None:
    model = with_prompt(small_text_model(), "a cat", 2.0)
    before = [type(m.processor) for m in model.unet.unet.modules() if hasattr(m, "processor")]
    biases = [p.data_ptr() for p in model.unet.unet.parameters()], [p.data_ptr() for p in model.codec.vae.parameters()]
    Jacobian(model, point(model), T).forward(torch.randn(1, *model.card.h_shape))
    assert before == [type(m.processor) for m in model.unet.unet.modules() if hasattr(m, "processor")]
    assert all("forward" not in vars(m) for m in (*model.unet.unet.modules(), *model.codec.vae.modules()))
    after = [p.data_ptr() for p in model.unet.unet.parameters()], [p.data_ptr() for p in model.codec.vae.parameters()]
    assert biases == after


def test_half_precision_on_the_way_through() -> None:
    """Shapes and dtypes of a network in bfloat16: pictures and products are float32."""
    unet = network("stable-diffusion-1-5", torch.bfloat16)
    _, text = inputs(unet, 2)
    small = small_text_model()
    nn.Module.to(small.codec.vae, torch.bfloat16)
    model = DiffusionModel(
        with_prompt(small, "a cat").card,
        PromptedUNet(unet, Prompt(text[:1], text[1:], 7.5)),
        small.schedule,
        small.codec,
        torch.device("cpu"),
        torch.bfloat16,
        "0" * 16,
    )
    features = model.features(torch.randn(2, *model.x_shape), 300)
    assert (features.h.dtype, features.h.shape[1:]) == (torch.bfloat16, (64, 2, 2))
    with torch.no_grad():
        assert model.eps(features, torch.randn(2, *model.x_shape), 300).dtype == torch.float32
    assert model.unet.in_float32().dtype == torch.float32
    assert model.unet.in_float32().prompt is model.unet.prompt
    jacobian = Jacobian(model, torch.randn(1, *model.x_shape), 300)
    assert jacobian.forward(torch.randn(1, *jacobian.h_shape)).dtype == torch.float32
