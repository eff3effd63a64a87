"""Train the network that tells whether the two halves of a face agree (`core/agreement.py`), from the renderer alone.

    accelerate launch -m training.train_agreement --steps 2400 --decay 1800 --out presets/models/avatars/agreement
    accelerate launch -m training.train_agreement --steps 2400 --decay 1800 --first 12000 \\
        --run ~/.cache/avatars/judge-run --out ~/.cache/avatars/judge

It learns to read one half of a face off what the diffusion model of `avatars` predicts of a noised portrait, at
timesteps from 0 to `LAST`. The second command makes another one from other portraits, which has no part in sampling
and so can judge samples (`evaluate_ddpm --judge`). The loop and its options: `training/loop.py`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from core.agreement import Agreement, HalfReader, halves, signs
from core.agreement import load as load_agreement
from core.editing import predict
from core.imaging import to_pil
from core.models.cards import MODELS
from core.models.loader import DiffusionModel, load
from core.models.small_networks import write
from training import dataset, portraits
from training.loop import Losses, options, train
from training.run import auc
from training.targets import values, visible

NAMES = (
    "gaze",
    "eye_open",
    "brow_angle",
    "brow_raise",
    "brow_thick",
    "smile",
    "mouth_open",
    "lip_red",
    "blush",
    "age",
    "beard",
    "skin",
    "glasses",
)
TURNED = ("gaze",)
LAST = 760  # above, a prediction says nothing of eyes
WIDTH = 24
SHIFT = 3  # pixels


@torch.no_grad()
def predictions(model: DiffusionModel, images: np.ndarray, timesteps: np.ndarray, seed: int) -> np.ndarray:
    """Predictions of x_0 of pictures uint8 (N, H, W, 3) noised to their timesteps (N,), as such pictures."""
    noise, made = torch.Generator().manual_seed(seed), np.empty_like(images)
    for t in np.unique(timesteps).tolist():
        same = np.flatnonzero(timesteps == t)
        for rows in np.split(same, range(32, len(same), 32)):
            x0 = model.codec.encode(dataset.to_pixels(images[rows]))
            x = model.schedule.noised(x0, torch.randn(x0.shape, generator=noise), t).to(model.device)
            x0 = model.schedule.predicted_x0(x, predict(model, x, t), t)
            made[rows] = np.stack([np.asarray(picture) for picture in to_pil(model.codec.decode(x0))])
    return made


def blurred(model: DiffusionModel, count: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions uint8 (count, H, W, 3) of the portraits of the seeds from `first` on, at timesteps drawn evenly from
    0 to `LAST`, and the portraits' parameters. Made once, kept in the cache folder."""
    images, parameters = dataset.load(count, first)
    source = Path(portraits.__file__).read_bytes() + model.fingerprint.encode()
    path = dataset.cache_folder() / f"blurred-{hashlib.sha256(source).hexdigest()[:10]}-{first}-{count}.npy"

    def make(unfinished: Path) -> None:
        timesteps = 20 * np.random.default_rng(first).integers(LAST // 20 + 1, size=count)
        np.save(unfinished, predictions(model, images, timesteps, first))

    return np.load(dataset.kept(path, make)), parameters


def standardised(parameters: np.ndarray) -> Tensor:
    """Parameters (N, P) -> what is to be read (N, K), in standard deviations; what a mirror turns round about 0."""
    wanted, population = values(parameters, NAMES), values(dataset.load(12_000)[1], NAMES)
    middle = np.where([name in TURNED for name in NAMES], 0.0, population.mean(0))
    return torch.from_numpy((wanted - middle) / population.std(0)).float()


def losses_of(pictures: np.ndarray, wanted: Tensor, batch: int) -> Losses:
    """Negative log likelihood of the readings of both halves of `batch` faces, moved by a few pixels."""

    def losses(net: nn.Module, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        rows = rng.integers(len(pictures), size=batch)
        down, right = rng.integers(-SHIFT, SHIFT + 1, size=2).tolist()
        pixels = dataset.to_pixels(pictures[rows]).roll((down, right), (2, 3))
        left, mirrored = halves(pixels)
        device = next(net.parameters()).device
        mean, log_variance = net(torch.cat([left, mirrored]).to(device, memory_format=torch.channels_last))
        target = torch.cat([wanted[rows], wanted[rows] * signs(NAMES, TURNED)]).to(device)
        return {"loss": ((mean - target).square() * (-log_variance).exp() + log_variance).mean()}

    return losses


def release(net: HalfReader, folder: Path) -> None:
    write(net, {"names": NAMES, "turned": TURNED, "width": WIDTH, "last": LAST}, folder)


@torch.no_grad()
def measure(agreement: Agreement, model: DiffusionModel, t: int, count: int = 300) -> tuple[dict[str, float], float]:
    """On predictions at t of held-out portraits: R^2 of the readings, where there is something to see, and how well
    faces are told from faces whose right half is another's (AUC of log p)."""
    images, parameters = dataset.held_out(count)
    pixels = dataset.to_pixels(predictions(model, images, np.full(count, t), 1))
    wanted = standardised(parameters)
    read = torch.cat([agreement.net(halves(part)[0])[0] for part in pixels.split(50)])
    r_squared, seen = {}, torch.from_numpy(visible(parameters, NAMES))
    for name, there, r, w in zip(NAMES, seen.T, read.T, wanted.T, strict=True):
        r_squared[name] = (1 - (r - w)[there].square().mean() / w[there].var(correction=0)).item()
    mixed = pixels.clone()
    mixed[..., pixels.shape[-1] // 2 :] = pixels.roll(1, 0)[..., pixels.shape[-1] // 2 :]
    own, other = (torch.cat([agreement.log_density(part) for part in p.split(50)]) for p in (pixels, mixed))
    return r_squared, auc(torch.cat([own, other]).numpy(), np.arange(2 * count) < count)


def main() -> None:
    parser = options(__doc__, "agreement", steps=2400, batch=48, rate=1e-3)
    parser.add_argument("--first", type=int, default=0, help="seed of the first of the training portraits")
    parser.add_argument("--out", type=Path, default=None, help="where to release it")
    parser.set_defaults(images=12_000)
    arguments = parser.parse_args()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    model = load(MODELS["avatars"], accelerator.device)
    with accelerator.main_process_first():
        pictures, parameters = blurred(model, arguments.images, arguments.first)
    torch.manual_seed(arguments.first)
    net = HalfReader(len(NAMES), WIDTH).to(memory_format=torch.channels_last)
    batch = arguments.batch // accelerator.num_processes
    trained = train(accelerator, arguments, net, losses_of(pictures, standardised(parameters), batch))
    if arguments.out is not None and accelerator.is_main_process:
        release(trained.average, arguments.out)
        for t in (0, 200, 400, 600):
            r_squared, told = measure(load_agreement(arguments.out), model, t)
            words = ", ".join(f"{name} {value:.2f}" for name, value in r_squared.items())
            print(f"t = {t}: R^2 {words}; halves of different portraits told by log p with AUC {told:.3f}", flush=True)
    accelerator.end_training()


if __name__ == "__main__":
    main()
