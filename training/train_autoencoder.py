"""Train the autoencoder of the text-to-image model: a diffusers `AutoencoderKL` on rendered portraits.

    accelerate launch -m training.train_autoencoder --minutes 30
    accelerate launch -m training.train_autoencoder --steps 12000 --decay 3000 --out presets/models/avatars-t2i
    python -m training.evaluate_t2i --autoencoder

128 x 128 pixels become 4 x 32 x 32 latents. Every inversion is bounded by how well the autoencoder brings a picture
back, so the factor is 4 and not Stable Diffusion's 8: 4,096 numbers for a picture, and a mouth spans six latents. Loss:
mean absolute error, the instruments' perceptual distance, and a weak Kullback-Leibler term (Kingma and Welling 2014,
Appendix B) that leaves just enough noise in the latents to keep the decoder smooth. The released latents have mean 0
and standard deviation 1 per channel. The loop and its options: `training/loop.py`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor, nn

from core.instruments import Instruments
from core.instruments import load as load_instruments
from training import dataset
from training.evaluate_instruments import OUT as INSTRUMENTS
from training.loop import Losses, keep_run, options, train

NAME = "autoencoder"
WEIGHTS = {"pixels": 1.0, "perceptual": 0.1, "divergence": 1e-4}


def build_autoencoder(channels: tuple[int, ...] = (32, 64, 128)) -> AutoencoderKL:
    """2.6 M parameters; pixels (B, 3, H, W) <-> latents (B, 4, H/4, W/4). Convolutions only: attention at 32 x 32
    would cost a fifth of the time for drawings that are local."""
    depth = len(channels)
    return AutoencoderKL(
        sample_size=128,
        latent_channels=4,
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=16,
        mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        scaling_factor=1.0,
    )


class Autoencoder(nn.Module):
    """The network with a forward pass that shows the posterior too."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (B, 3, H, W) of a sample of the posterior, and the posterior's mean and log variance."""
        posterior = self.vae.encode(pixels).latent_dist
        z = posterior.mean + posterior.std * noise
        return self.vae.decode(z).sample, posterior.mean, posterior.logvar


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, var) || N(0, 1)), averaged over all latents."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def losses_of(images: np.ndarray, instruments: Instruments, batch: int) -> Losses:
    """The losses of one step on `batch` of the images (N, H, W, 3)."""

    def losses(model: nn.Module, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        rows = rng.integers(len(images), size=batch)
        pixels = dataset.to_pixels(images[rows]).to(instruments.device)
        z = torch.randn(batch, 4, pixels.shape[2] // 4, pixels.shape[3] // 4, generator=noise).to(pixels)
        made, mean, logvar = model(pixels.contiguous(memory_format=torch.channels_last), z)
        parts = {
            "pixels": (made.float() - pixels).abs().mean(),
            "perceptual": instruments.distance(made, pixels).mean(),
            "divergence": divergence(mean.float(), logvar.float()),
        }
        return {name: WEIGHTS[name] * part for name, part in parts.items()}

    return losses


@torch.no_grad()
def standardised(vae: AutoencoderKL, pixels: Tensor) -> AutoencoderKL:
    """The same autoencoder with latents of mean 0 and standard deviation 1 per channel over `pixels` (N, 3, H, W).

    The change of variables is folded into the two 1x1 convolutions next to the latents: no reconstruction changes.
    """
    vae = copy.deepcopy(vae).float()
    z = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(16)])
    m, s = z.mean((0, 2, 3)), z.std((0, 2, 3))
    moments, back = vae.quant_conv, vae.post_quant_conv
    moments.weight[: len(m)] /= s.view(-1, 1, 1, 1)
    moments.bias[: len(m)] = (moments.bias[: len(m)] - m) / s
    moments.bias[len(m) :] -= 2 * s.log()
    back.bias += back.weight[:, :, 0, 0] @ m
    back.weight *= s.view(1, -1, 1, 1)
    return vae


def release(vae: AutoencoderKL, images: np.ndarray, folder: Path) -> None:
    """Write the autoencoder as diffusers does, in half precision, its latents standardised over `images`."""
    released = standardised(vae, dataset.to_pixels(images))
    nn.Module.to(released, torch.float16).save_pretrained(folder / "vae")
    for file in (folder / "vae").iterdir():
        file.chmod(0o644)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, NAME, steps=12_000, batch=8, rate=8e-4)
    parser.add_argument("--channels", default="32,64,128")
    parser.add_argument("--out", type=Path, default=None, help="where to release, e.g. presets/models/avatars-t2i")
    arguments = parser.parse_args(argv)
    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    if accelerator.is_main_process:  # render once, then let the other processes read
        dataset.load(arguments.images)
    accelerator.wait_for_everyone()
    images, _ = dataset.load(arguments.images)
    torch.manual_seed(0)
    model = Autoencoder(build_autoencoder(tuple(int(c) for c in arguments.channels.split(","))))
    model.to(memory_format=torch.channels_last)
    instruments = load_instruments(INSTRUMENTS, accelerator.device)
    losses = losses_of(images, instruments, arguments.batch // accelerator.num_processes)
    trained = train(accelerator, arguments, model, losses)
    if arguments.out is not None and accelerator.is_main_process:
        release(trained.average.vae.cpu(), images[:500], arguments.out)
        keep_run(arguments.out / "vae", trained, arguments, [], accelerator.num_processes)
    accelerator.end_training()


if __name__ == "__main__":
    main()
