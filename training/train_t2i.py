"""Train the embedded text-to-image model `avatars-t2i` on rendered portraits and their captions.

    accelerate launch -m training.train_t2i --minutes 60     # once presets/models/avatars-t2i/vae is there
    accelerate launch -m training.train_t2i --steps 5600 --decay 2800 --out presets/models/avatars-t2i
    accelerate launch -m training.train_t2i --begin presets/models/avatars-t2i --images 48000 --batch 256 \\
        --rate 8e-4 --within 3.4 --out presets/models/avatars-t2i      # then on a GPU; --compile adds a minute at first
    python -m training.evaluate_t2i                          # writes the card

A Stable Diffusion in small: the U-Net attends to the tokens of CLIP's text encoder, that of `avatars` (see
`text_tower.py`), which stays as it is. The latents of the training portraits are encoded once, and `CAPTIONS` captions
of each are written, which say up to `MAX_STATEMENTS` true things about it; in one step of ten it has none, so that
guidance has its unconditional half (Ho and Salimans 2022). v-prediction on the noise schedule of `avatars`; eyes, brows
and mouth weigh more (`noising.py`). The loop and its options: `training/loop.py`; the optimiser: `training/muon.py`.

While it is trained the middle block also tells which statements are true of the portrait (as in Yu et al. 2024,
"Representation alignment for generation", where it tells another network's features): where there is much noise only
the caption says so, and most of what captions say shows in too few latents to be learned from them soon.

The text encoder must not learn along: in a first run it did, at a fifth of the rate, and forgot what shows little.
"Sad" and "angry" came to mean nearly the same, and captions had no effect on mouths and brows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from core.clip import MERGES, load_embedded
from core.models.pipelines import read_autoencoder
from training import dataset
from training.evaluate_clip import OUT as CLIP
from training.loop import Losses, keep_run, options, runs_of, train
from training.noising import focus, v_target
from training.phrases import RULES, caption_rules, compose, dressed, truth_table
from training.text_tower import convert_text_model, convert_tokenizer
from training.train_ddpm import build_scheduler as build_pixel_scheduler

NAME = "t2i"
OUT = Path(__file__).parents[1] / "presets" / "models" / "avatars-t2i"
POOLED = 4  # side of the map of the middle block that tells of the portrait
CONTEXT = 32  # tokens of a prompt; captions of six statements have 36 at most
MAX_STATEMENTS = 5  # statements of a caption
CAPTIONS = 16  # of each portrait
EMPTY = 0.1  # share of empty captions
TOLD = 0.1  # weight of what the middle block tells
OUTER = ("unet.conv_in", "unet.conv_out", "unet.time_embedding", "told")  # no maps between hidden states, see `muon.py`
POWER = 1.3  # timesteps are drawn as T u^1.3: what a caption says is decided where there is much noise


def build_unet(channels: tuple[int, ...] = (64, 128, 192), width: int = 96) -> UNet2DConditionModel:
    """10.8 M parameters, 1.6 billion multiplications a picture; latents (B, 4, 32, 32), tokens (B, L, width).

    Attention from 16 x 16 downwards: at 32 x 32 it would cost as much as all the rest.
    """
    depth = len(channels)
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=channels,
        norm_num_groups=16,
        cross_attention_dim=width,
        attention_head_dim=4,  # heads, in spite of its name
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (depth - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (depth - 1) + ("UpBlock2D",),
    )


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of `avatars`, with the offset of one step that Stable Diffusion's timesteps have."""
    return DDIMScheduler.from_config(build_pixel_scheduler().config, steps_offset=1)


class TextToImage(nn.Module):
    """U-Net and text encoder, of which the U-Net learns; and what the middle block tells of a portrait."""

    def __init__(self, unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text = unet.requires_grad_(True), text.eval().requires_grad_(False)
        pooled = unet.config.block_out_channels[-1] * POOLED**2
        self.told = nn.Sequential(nn.AdaptiveAvgPool2d(POOLED), nn.Flatten(), nn.Linear(pooled, len(RULES)))

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """v (B, 4, 32, 32) at x_t, t (B,) and tokens (B, CONTEXT), and logits (B, len(RULES)) of the statements."""
        middle: list[Tensor] = []
        handle = self.unet.mid_block.register_forward_hook(lambda block, given, made: middle.append(made))
        try:
            v = self.unet(x_t, t, encoder_hidden_states=self.text(tokens).last_hidden_state).sample
        finally:
            handle.remove()
        return v, self.told(middle[0])


def tokenise(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Tokens (B, CONTEXT), cut or padded as `StableDiffusionPipeline` does."""
    length = tokenizer.model_max_length
    read = tokenizer(list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return read.input_ids


def captions(true: np.ndarray, seed: int) -> list[str]:
    """`CAPTIONS` captions of a portrait (its row of `truth_table`)."""
    rng = np.random.default_rng([11, seed])
    return [dressed(compose(caption_rules(true, rng, MAX_STATEMENTS), rng), rng) for _ in range(CAPTIONS)]


def captioned(truth: np.ndarray, tokenizer: CLIPTokenizer) -> Tensor:
    """Tokens (N, CAPTIONS, CONTEXT) of the captions of portraits, their rows of `truth_table` (N, R)."""
    numbered = list(enumerate(truth))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # a fork would take torch's threads for alive
        parts = pool.map(partial(_captioned, tokenizer), [numbered[k : k + 500] for k in range(0, len(truth), 500)])
        return torch.from_numpy(np.concatenate(list(parts)))


def _captioned(tokenizer: CLIPTokenizer, numbered: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    texts = [text for seed, true in numbered for text in captions(true, seed)]
    return tokenise(tokenizer, texts).view(len(numbered), CAPTIONS, -1).int().numpy()


def losses_of(
    latents: Tensor, truth: Tensor, tokens: Tensor, empty: Tensor, alphas: Tensor, batch: int, places: Tensor
) -> Losses:
    """The losses of one step on `batch` of the latents (N, 4, h, w), all on the device of the training.

    truth: which statements are true (N, R); tokens: of captions (N, CAPTIONS, L); empty: of no caption (L,); places:
    weights (1, 1, h, w), see `focus`.
    """

    def losses(model: nn.Module, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        drawn = rng.integers(len(latents), size=batch), rng.integers(tokens.shape[1], size=batch)
        rows, which = (torch.from_numpy(i).to(latents.device) for i in drawn)
        silent = torch.from_numpy(rng.random((batch, 1)) < EMPTY).to(latents.device)
        said = torch.where(silent, empty, tokens[rows, which])
        x_t, t, v = v_target(latents[rows].float(), alphas, noise, POWER)
        made, told = model(x_t.contiguous(memory_format=torch.channels_last), t, said)
        return {
            "v": ((made.float() - v).square() * places).mean(),
            "told": TOLD * F.binary_cross_entropy_with_logits(told.float(), truth[rows].float()),
        }

    return losses


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray) -> Tensor:
    """Latents (N, 4, H/4, W/4), half precision, of images (N, H, W, 3): the posterior's mean, as inversion uses it."""
    parts = np.array_split(images, -(-len(images) // 128))
    pixels = (dataset.to_pixels(part).to(vae.device) for part in parts)
    return torch.cat([vae.encode(part).latent_dist.mean.half().cpu() for part in pixels]).contiguous()


def latents_of(folder: Path, images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """The latents of the training portraits by the autoencoder in `folder`, from the cache or encoded now."""
    weights = (folder / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    key = hashlib.sha256(weights + images[:: max(1, len(images) // 100)].tobytes()).hexdigest()[:10]
    path = dataset.cache_folder() / f"latents-{key}-{len(images)}.safetensors"

    def make(unfinished: Path) -> None:
        vae = nn.Module.to(read_autoencoder(folder), device, torch.float32, memory_format=torch.channels_last)
        save_file({"latents": encode(vae, images)}, unfinished)

    return load_file(dataset.kept(path, make))["latents"]


def release(model: TextToImage, tokenizer: CLIPTokenizer, autoencoder: Path, folder: Path) -> None:
    """Write the whole pipeline as diffusers does, in half precision."""
    pipeline = StableDiffusionPipeline(
        vae=read_autoencoder(autoencoder),
        text_encoder=model.text,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        nn.Module.to(part, device="cpu", dtype=torch.float16)  # diffusers' own `to` warns about the cast
    pipeline.save_pretrained(folder)
    config = folder / "text_encoder" / "config.json"  # else `from_pretrained` leaves this part alone in half precision
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, NAME, steps=30_000, batch=16, rate=6e-4)
    parser.add_argument("--channels", default="64,128,192")
    parser.add_argument("--autoencoder", type=Path, default=OUT, help="folder with its vae/")
    parser.add_argument("--begin", type=Path, default=None, help="released model whose U-Net a new run goes on from")
    parser.add_argument("--out", type=Path, default=None, help="where to release, e.g. presets/models/avatars-t2i")
    arguments = parser.parse_args(argv)
    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    if accelerator.is_main_process:  # render and encode once, then let the other processes read
        latents_of(arguments.autoencoder, dataset.load(arguments.images)[0], accelerator.device)
    accelerator.wait_for_everyone()
    images, parameters = dataset.load(arguments.images)
    latents, truth = latents_of(arguments.autoencoder, images), truth_table(parameters)
    del images
    tokenizer = convert_tokenizer(CLIP / MERGES, CONTEXT)
    tokens, empty = captioned(truth, tokenizer), tokenise(tokenizer, [""])[0].int()
    torch.manual_seed(0)
    earlier = runs_of(arguments.begin / "unet") if arguments.begin else []
    if arguments.begin:
        unet = UNet2DConditionModel.from_pretrained(arguments.begin / "unet", local_files_only=True).float()
    else:
        unet = build_unet(tuple(int(c) for c in arguments.channels.split(",")))
    model = TextToImage(unet, convert_text_model(load_embedded(CLIP).model)).to(memory_format=torch.channels_last)
    alphas = build_scheduler().alphas_cumprod.to(accelerator.device)
    places = focus(parameters, unet.config.sample_size).to(accelerator.device)
    batch = arguments.batch // accelerator.num_processes
    shown = (part.to(accelerator.device) for part in (latents, torch.from_numpy(truth), tokens, empty))
    trained = train(accelerator, arguments, model, losses_of(*shown, alphas, batch, places), OUTER)
    if arguments.out is not None and accelerator.is_main_process:
        release(trained.average, tokenizer, arguments.autoencoder, arguments.out)
        keep_run(arguments.out / "unet", trained, arguments, earlier, accelerator.num_processes)
    accelerator.end_training()


if __name__ == "__main__":
    main()
