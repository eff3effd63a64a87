"""Small text-to-image models: random weights for loops and shapes, closed forms for algebra."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from core.errors import ModelUnavailable
from core.inversion.solution import InversionSettings, Task
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.schedule import Schedule
from core.studio import known_models, measuring
from core.studio.compose import with_words
from core.text_to_image import Autoencoder, TextToImage

WORDS = ("a", "cat", "dog", "red", "photo", "of", "sitting", "smiling")
LENGTH, WIDTH = 16, 32
START, END = "<|startoftext|>", "<|endoftext|>"


def small_tokenizer() -> CLIPTokenizer:
    """CLIP's byte pairs for `WORDS`, one token each; other words are spelled, a token per letter."""
    letters = "abcdefghijklmnopqrstuvwxyz,."
    vocabulary = [START, END, *letters, *(letter + "</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
            vocabulary.append(parts[0])
    ids = {token: n for n, token in enumerate(dict.fromkeys(vocabulary))}
    return CLIPTokenizer(ids, list(dict.fromkeys(merges)), model_max_length=LENGTH)


def scheduler(prediction_type: str = "epsilon") -> DDIMScheduler:
    """With the noise levels of Stable Diffusion."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        steps_offset=1,
    )


def small_pipeline(prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    """Random weights: pictures of 16x16, latents 4x8x8, prompts of 16 tokens of 32 numbers."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16,),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
    )
    with torch.no_grad():
        unet.conv_out.weight *= 0.1  # random weights spread rounding errors; a gentle network keeps them small
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    )
    tokenizer = small_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def small_text_model(prediction_type: str = "epsilon", dtype: torch.dtype = torch.float32) -> TextToImage:
    """Random weights, as above; in float64 the network and everything around it."""
    pipeline = small_pipeline(prediction_type)
    for module in (pipeline.unet, pipeline.text_encoder):
        nn.Module.to(module, dtype)
    return TextToImage.from_pipeline(pipeline, "small", "0" * 16)


class ClosedForm(nn.Module):
    """eps(x, t, text) = slope x + mean of text: linear in both, and independent of t. text: (B, L, 1)."""

    config = SimpleNamespace(sample_size=4, in_channels=3, cross_attention_dim=1)

    def __init__(self, slope: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.slope, self.dtype, self.device = slope, dtype, torch.device("cpu")

    def forward(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.slope * x + encoder_hidden_states.mean((1, 2))[:, None, None, None])


class Toy(nn.Module):
    """A smooth network that depends on text: eps = tanh(conv(x) (1 + scale) + shift) / 2, scale and shift from text."""

    config = SimpleNamespace(sample_size=16, in_channels=3, cross_attention_dim=WIDTH)
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.text = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(WIDTH, 6)

    def forward(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> SimpleNamespace:
        scale, shift = self.text(encoder_hidden_states.mean(1))[..., None, None].chunk(2, dim=1)
        return SimpleNamespace(sample=torch.tanh(self.conv(x) * (1 + scale) + shift) / 2)


class NoCodec(Autoencoder):
    """Pixels are the latents."""

    def __init__(self) -> None:
        object.__setattr__(self, "vae", SimpleNamespace(config=SimpleNamespace(block_out_channels=(1,))))

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels

    def decode(self, x: Tensor) -> Tensor:
        return x.float()


def list_small_model(monkeypatch: pytest.MonkeyPatch, model: TextToImage) -> str:
    """For a test: the model is among those of the app, without instruments. Returns its id."""
    card = TEXT_TO_IMAGE["stable-diffusion-1-5"]
    small = replace(card, id=model.id, title="Small", resolution=model.resolution, steps=6, working_guidance=3.0)
    monkeypatch.setitem(TEXT_TO_IMAGE, model.id, small)

    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    for name in ("_lpips", "_image_text"):
        monkeypatch.setattr(measuring, name, missing)
    for module in (known_models, with_words):
        monkeypatch.setattr(module, "load_text_to_image", lambda card: model)
    return model.id


def toy_text_model() -> TextToImage:
    """Fast, for whole jobs: pictures of 16x16 are their own latents. No attention."""
    pipeline = small_pipeline()
    toy, schedule = Toy().requires_grad_(False), Schedule.from_scheduler(pipeline.scheduler)
    return TextToImage("toy", toy, NoCodec(), pipeline.text_encoder, pipeline.tokenizer, schedule, "0" * 16)


def closed_form_model(slope: float, rows: int = 8) -> TextToImage:
    return TextToImage(
        "closed form",
        ClosedForm(slope),
        NoCodec(),
        None,
        None,
        Schedule.from_scheduler(scheduler()),
        "0" * 16,
        rows,
    )


def closed_form_task(slope: float, source: float = 0.3, empty: float = -0.2, rows: int = 8, **settings: object) -> Task:
    """A picture (1, 3, 4, 4) in the closed form; the source's embedding is `source`, that of "" `empty`."""
    x0 = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values: Sequence[Tensor] = [torch.full((1, 2, 1), value, dtype=torch.float64) for value in (source, empty)]
    return Task(closed_form_model(slope, rows), x0, *values, settings=InversionSettings(**{"steps": 10, **settings}))
