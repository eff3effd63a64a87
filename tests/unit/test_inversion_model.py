"""The text-to-image wrapper: prompts, precision, memory, counting, gradients; Stable Diffusion's own configuration."""

import resource
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from small_text_models import LENGTH, NoCodec, scheduler, small_pipeline, small_text_model
from torch import Tensor

from core.attention_control import StepControl, control_attention
from core.conditional_unet import Prompt, PromptedUNet
from core.directions import GlobalDirection
from core.discovery.basis import krylov_basis
from core.discovery.jacobian_operator import Jacobian
from core.editing import EditSettings
from core.errors import ResourceError
from core.inversion.latent_top import _first_loss
from core.inversion.optimise import trajectory_objective
from core.inversion.solution import InversionSettings, Task
from core.inversion.trajectory import ddim_trajectory
from core.models.codec import Identity
from core.models.loader import DiffusionModel
from core.process import edit_pictures
from core.progress import Running, finish
from core.prompted import h_space_card
from core.schedule import Schedule
from core.text_to_image import TextToImage


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return small_text_model()


def latents(rows: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)


# ------------------------------------------------------------------------------------------------ prompts and pictures


def test_prompts(model: TextToImage) -> None:
    embedded = model.embed(["a red cat", ""])
    assert embedded.shape == (2, *model.text_shape)
    assert torch.allclose(embedded[1:], model.embed([""]), atol=1e-6)
    assert model.token_counts(["a", "red,", "zoo"]) == [1, 2, 3]
    assert model.words_cut("a red cat") == ""
    assert model.words_cut("a " * 14) == ""
    assert model.words_cut("a " * 12 + "zoo cat") == "zoo cat"  # 12 + 3 tokens, and 14 fit


def test_embeddings_are_those_of_the_pipeline(model: TextToImage) -> None:
    theirs, empty = small_pipeline().encode_prompt("a red cat", "cpu", 1, True)
    ours = model.embed(["a red cat", ""])
    assert torch.allclose(ours, torch.cat((theirs, empty)), atol=1e-6)


def test_latents_are_those_of_the_pipeline(model: TextToImage) -> None:
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    vae = small_pipeline().vae
    with torch.no_grad():
        expected = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
        pictures = vae.decode(expected / vae.config.scaling_factor).sample.clamp(-1, 1)
    x = model.encode(pixels)
    assert x.shape[1:] == model.latent_shape
    assert torch.allclose(x, expected, atol=1e-6)
    assert torch.allclose(model.decode(x), pictures, atol=1e-5)
    assert model.resolution == 16


# ------------------------------------------------------------------------------------------------------------ network


def test_guidance_is_that_of_the_pipeline(model: TextToImage) -> None:
    """A whole sampling by diffusers, and the same steps with ours (steps = T: the same timesteps)."""
    pipeline = small_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    text, empty = model.embed(["a cat"]), model.embed([""])
    x = latents(1)
    ddim = scheduler()
    ddim.set_timesteps(4)
    with torch.no_grad():
        theirs = pipeline("a cat", latents=x, num_inference_steps=4, guidance_scale=3.0, output_type="latent").images
        for t in ddim.timesteps.tolist():
            eps = model.guided(x, t, text, empty, 3.0)
            x = model.schedule.reverse_step(x, eps, eps, t, t - 250)
    # Their last step goes to t = -249, for which a = 1, as ours.
    assert torch.allclose(x, theirs, atol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_rows_may_have_their_own_timesteps(prediction_type: str) -> None:
    model, x = small_text_model(prediction_type), latents(3)
    text = model.embed(["a cat", "a dog", "red"])
    together = model.eps(x, [10, 500, 900], text)
    for n, t in enumerate((10, 500, 900)):
        assert torch.allclose(together[n : n + 1], model.eps(x[n : n + 1], t, text[n : n + 1]), atol=1e-5)


def test_one_evaluation_is_enough_without_guidance(model: TextToImage) -> None:
    text, empty = model.embed(["a cat"]), model.embed([""])
    for guidance, unconditional, evaluations in ((1.0, empty, 2), (7.5, text, 2), (7.5, empty, 4)):
        counting = model.counting()
        eps = counting.guided(latents(2), 500, text, unconditional, guidance)
        assert counting.evaluations.forward == evaluations
        if evaluations == 2:
            assert torch.allclose(eps, model.eps(latents(2), 500, text), atol=1e-6)


def test_each_row_may_have_its_own_guidance(model: TextToImage) -> None:
    text, empty = model.embed(["a cat"]), model.embed([""])
    both = model.guided(latents(1).repeat(2, 1, 1, 1), 500, text, empty, torch.tensor([1.0, 4.0]).view(2, 1, 1, 1))
    for row, guidance in zip(both, (1.0, 4.0), strict=True):
        assert torch.allclose(row[None], model.guided(latents(1), 500, text, empty, guidance), atol=1e-5)


@pytest.mark.parametrize(("null", "guidance"), [("", 4.0), ("a cat", 4.0), ("", 1.0)])
def test_a_row_goes_some_of_the_way_from_the_first_rows_text_to_its_own(
    model: TextToImage, null: str, guidance: float
) -> None:
    """In predictions, which need one more evaluation of each row between the two; none where the unconditional text is
    the first row's."""
    text, unconditional = model.embed(["a cat", "a red dog", "a dog", "red", "a cat sitting"]), model.embed([null])
    strength = torch.tensor([0.0, 0.25, 1.0, 1.5, -0.5]).view(5, 1, 1, 1)
    x = latents(5)
    counting = model.counting()
    found = counting.guided(x, 500, text, unconditional, guidance, strength=strength)
    eps_null, start, own = (model.eps(x, 500, value) for value in (unconditional, text[:1], text))
    start[0] = own[0]
    eps = torch.lerp(start, own, torch.where(strength == 0, torch.ones(()), strength))
    assert torch.allclose(found, eps_null + guidance * (eps - eps_null), atol=1e-5)
    assert counting.evaluations.forward == {("", 4.0): 13, ("a cat", 4.0): 10, ("", 1.0): 8}[null, guidance]


def test_evaluations_and_gradients_are_counted(model: TextToImage) -> None:
    counting, text = model.counting(), model.embed(["a cat"]).requires_grad_(True)
    counting.eps(latents(3), 500, text).sum().backward()
    counting.eps(latents(2), 500, text.detach())
    assert (counting.evaluations.forward, counting.evaluations.backward) == (5, 3)
    assert model.evaluations is not counting.evaluations


def test_half_precision_network_float32_around_it() -> None:
    """The sampler's numbers and what is optimised stay in float32; gradients arrive there."""
    model = small_text_model(dtype=torch.bfloat16)
    text = model.embed(["a cat"])
    assert text.dtype == torch.float32
    null = model.embed([""]).requires_grad_(True)
    eps = model.guided(latents(1), 500, text, null, 7.5)
    assert eps.dtype == torch.float32
    eps.square().mean().backward()
    assert null.grad.dtype == torch.float32
    assert null.grad.abs().sum() > 0
    exact = small_text_model().guided(latents(1), 500, text, null, 7.5)
    assert (eps - exact).norm() < 0.1 * exact.norm()


def test_too_large_a_batch_is_halved_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers, in smaller calls; and words when not even one row fits."""
    model = small_text_model()
    x, text, forward = latents(7), model.embed(["a cat"]), model.unet.forward
    expected = model.eps(x, 500, text)
    sizes = []

    def limited(most: int) -> Callable[..., Any]:
        def call(sample: Tensor, *arguments: Any, **options: Any) -> Any:
            if len(sample) > most:
                raise torch.OutOfMemoryError
            sizes.append(len(sample))
            return forward(sample, *arguments, **options)

        return call

    monkeypatch.setattr(model.unet, "forward", limited(2))
    assert torch.allclose(model.eps(x, 500, text), expected, atol=1e-5)
    assert max(sizes) == 2
    assert sum(sizes) == 7
    monkeypatch.setattr(model.unet, "forward", limited(0))
    with pytest.raises(ResourceError, match="ran out of memory"):
        model.eps(x, 500, text)
    with pytest.raises(ResourceError, match="ran out of memory"):
        model.eps(x, 500, text, StepControl(6))


# ---------------------------------------------------------------------------------------------------------- attention


def test_fused_attention_is_untouched_without_a_control(model: TextToImage) -> None:
    x, text = latents(2), model.embed(["a cat"])
    ours = model.eps(x, 500, text)
    plain = small_pipeline().unet
    plain.set_attn_processor(AttnProcessor2_0())
    with torch.no_grad():
        theirs = plain(x, 500, text.expand(2, -1, -1)).sample
    assert torch.equal(ours, theirs)


def test_a_control_that_changes_nothing_changes_nothing(model: TextToImage) -> None:
    """The written-out attention is the fused one."""
    x, text = latents(3), model.embed(["a cat", "a dog", "red"])
    nothing = StepControl(2, torch.eye(LENGTH).expand(2, -1, -1), torch.zeros(2, LENGTH), torch.ones(2, LENGTH))
    assert torch.allclose(model.eps(x, 500, text, nothing), model.eps(x, 500, text), atol=1e-5)


def test_maps_are_given_from_the_source_to_the_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2 * 3, 2, 5, 4, generator=generator)  # two rows of targets, unconditional and conditional
    mapping = torch.eye(4).repeat(2, 1, 1)
    mapping[1] = mapping[1][:, [0, 2, 1, 3]]
    share, scale = torch.tensor([[1.0, 1, 0, 1], [1, 1, 1, 1]]), torch.tensor([[1.0, 1, 1, 1], [1, 2, 1, 1]])
    changed = StepControl(2, mapping, share, scale).apply(maps, cross=True)
    assert torch.equal(changed[:4], maps[:4])  # the unconditional rows and the source
    assert torch.equal(changed[4][..., [0, 1, 3]], maps[3][..., [0, 1, 3]])
    assert torch.equal(changed[4][..., 2], maps[4][..., 2])
    assert torch.allclose(changed[5], maps[3][..., [0, 2, 1, 3]] * torch.tensor([1.0, 2, 1, 1]))

    control = StepControl(2, self_tokens=16)
    assert [control.acts_on(False, 16), control.acts_on(False, 17), control.acts_on(True, 16)] == [True, False, False]
    changed = control.apply(maps, cross=False)
    assert torch.equal(changed[:4], maps[:4])
    assert torch.equal(changed[4:], maps[3:4].expand(2, -1, -1, -1))


def test_controls_act_inside_the_network(model: TextToImage) -> None:
    """With the source's maps everywhere and the source's picture, only the values differ between prompts."""
    x, text = latents(1).repeat(2, 1, 1, 1), model.embed(["a cat", "a dog"])
    full = StepControl(1, torch.eye(LENGTH)[None], torch.ones(1, LENGTH), torch.ones(1, LENGTH), self_tokens=64)
    free, held = model.eps(x, 500, text), model.eps(x, 500, text, full)
    assert torch.allclose(held[0], free[0], atol=1e-6)
    assert (held[1] - free[1]).abs().max() > 1e-6
    assert torch.allclose(model.eps(x, 500, text[:1], full), model.eps(x, 500, text[:1]), atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- gradients


def float64_task() -> Task:
    model = small_text_model(dtype=torch.float64)
    text, empty = model.embed(["a red cat"]).double(), model.embed([""]).double()
    return Task(model, latents(1, dtype=torch.float64), text, empty, InversionSettings(steps=5, guidance=3.0))


def finite_difference(f: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor, step: float = 1e-5) -> float:
    return ((f(at + step * direction) - f(at - step * direction)) / (2 * step)).item()


def test_gradient_of_the_trajectory_loss() -> None:
    """With respect to the empty embedding, through the network, for several steps at once."""
    task, generator = float64_task(), torch.Generator().manual_seed(1)
    x, goal = latents(2, 1, torch.float64), latents(2, 2, torch.float64)
    objective = trajectory_objective(task, x, goal, [3, 1])
    null = task.empty.repeat(2, 1, 1).requires_grad_(True)
    objective(null)[0].sum().backward()
    for _ in range(3):
        direction = torch.randn(null.shape, generator=generator, dtype=torch.float64)
        numeric = finite_difference(lambda value: objective(value)[0].sum(), null.detach(), direction)
        assert (null.grad * direction).sum().item() == pytest.approx(numeric, rel=1e-6)


def test_gradient_of_the_first_loss() -> None:
    """With respect to both biases: z_T acts on both predictions."""
    task, generator = float64_task(), torch.Generator().manual_seed(1)
    prior = latents(6, 3, torch.float64)
    z_T = torch.zeros_like(task.x0).requires_grad_(True)
    null = task.empty.clone().requires_grad_(True)
    _first_loss(task, prior, null, z_T)[0].backward()
    for value, f in (
        (z_T, lambda z: _first_loss(task, prior, null.detach(), z)[0]),
        (null, lambda n: _first_loss(task, prior, n, z_T.detach())[0]),
    ):
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        numeric = finite_difference(f, value.detach(), direction)
        assert (value.grad * direction).sum().item() == pytest.approx(numeric, rel=1e-6)


# --------------------------------------------------------------------------------------------------- Stable Diffusion

SD_1_5 = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}


def sd_model(dtype: torch.dtype, **changes: Any) -> TextToImage:
    """Stable Diffusion 1.5's network with random weights, without its other parts."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**(SD_1_5 | changes))
    unet = torch.nn.Module.to(unet, dtype).to_empty(device="cpu").eval().requires_grad_(False)
    numbers = torch.empty(100_003).uniform_(-0.02, 0.02, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.ndim == 1:
                parameter.fill_(0.5)
                continue
            flat = parameter.view(-1)
            flat.copy_(numbers.repeat(-(-len(flat) // len(numbers)))[: len(flat)])
    control_attention(unet)
    tokenizer = SimpleNamespace(model_max_length=77)
    return TextToImage("sd", unet, NoCodec(), None, tokenizer, Schedule.from_scheduler(scheduler()), "0" * 16)


def check_inversion(model: TextToImage) -> None:
    """Two steps up, one gradient of the text bias, one controlled call, on 8x8 latents."""
    generator = torch.Generator().manual_seed(0)
    text, empty = (torch.randn(1, 77, 768, generator=generator) for _ in range(2))
    x0 = torch.randn(1, 4, 8, 8, generator=generator)
    task = Task(model, x0, text, empty, InversionSettings(steps=2))
    inverting = Running(ddim_trajectory(task))
    assert len(list(inverting)) == 2
    prior = inverting.result
    assert (prior.shape, prior.dtype) == ((3, 4, 8, 8), torch.float32)
    assert bool(prior.isfinite().all())

    null = empty.clone().requires_grad_(True)
    losses, x_prev = trajectory_objective(task, prior[1:2], prior[:1], [0])(null)
    losses.sum().backward()
    assert (x_prev.dtype, null.grad.dtype, null.grad.shape) == (torch.float32, torch.float32, (1, 77, 768))
    assert 0 < null.grad.abs().max() < float("inf")
    control = StepControl(1, torch.eye(77)[None], torch.ones(1, 77), torch.ones(1, 77), self_tokens=256)
    eps = model.eps(x0.repeat(2, 1, 1, 1), 500, torch.cat((text, text)), control)
    assert torch.allclose(eps[0], eps[1], atol=1e-2)
    assert (model.evaluations.forward, model.evaluations.backward) == (2 + 2 + 2, 1)
    assert (model.latent_shape, model.text_shape) == ((4, 64, 64), (77, 768))


def check_h_space(model: TextToImage) -> None:
    """The two halves, products with the decoder's Jacobian, a basis and an edit, on 8x8 latents in half precision."""
    model.unet.register_to_config(sample_size=8)
    generator = torch.Generator().manual_seed(0)
    text, empty = (torch.randn(1, 77, 768, generator=generator) for _ in range(2))
    prompted = PromptedUNet(model.unet, Prompt(text, empty, 1.0, "both", "a cat", ""))
    card = replace(h_space_card(model), h_shape=(model.unet.config.block_out_channels[-1], 1, 1))
    bound = DiffusionModel(card, prompted, model.schedule, Identity(), model.device, model.dtype, model.fingerprint)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    features = bound.features(x, 500)
    assert tuple(features.h.shape) == (2, *card.h_shape)
    halves, whole = bound.eps(features, x, 500), model.eps(x, 500, text.expand(2, -1, -1))
    assert halves.dtype == torch.float32
    assert torch.allclose(halves, whole, atol=1e-2 * float(whole.abs().max()))

    jacobian = Jacobian(bound, x[:1], 500, torch.bfloat16)
    v, y = (torch.randn(1, *shape, generator=generator) for shape in (card.h_shape, jacobian.image_shape))
    Jv, JTy = jacobian.forward(v), jacobian.reverse(y)
    sides = (Jv * y).sum().item(), (JTy * v).sum().item()
    assert abs(sides[0] - sides[1]) < 0.02 * float(Jv.norm() * y.norm())
    basis = finish(krylov_basis(jacobian, 4, block=2))
    vectors = basis.vectors.flatten(1).float()
    assert torch.allclose(vectors @ vectors.T, torch.eye(len(basis)), atol=1e-2)

    direction = GlobalDirection(100 * v, 2)
    pixels, settings = x[:1].clamp(-1, 1), EditSettings(2, injection="symmetric")
    plain, shifted = finish(edit_pictures(bound, pixels, 2, [(direction, [0.0, 1.0])], settings))
    assert torch.equal(plain, pixels[0])
    assert bool(shifted.isfinite().all())
    assert (shifted - plain).abs().max() > 1e-3


def test_stable_diffusion_narrowed() -> None:
    """Its blocks and heads with an eighth of the channels."""
    model = sd_model(torch.bfloat16, block_out_channels=(32, 64, 128, 128), norm_num_groups=8)
    check_inversion(model)
    check_h_space(model)


@pytest.mark.slow
def test_stable_diffusion_1_5() -> None:
    """860 M parameters in bfloat16, 1.7 GB."""
    model = sd_model(torch.bfloat16)
    assert sum(p.numel() for p in model.unet.parameters()) == 859_520_964
    check_inversion(model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_h_space(model)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1.5 * 2**20, "kB: nothing copies the weights into single precision"
