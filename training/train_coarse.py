"""Train the network that knows what a predicted picture looks like from afar (`core/coarse.py`), from the renderer.

    accelerate launch -m training.train_coarse --steps 6000 --decay 4500 --out presets/models/avatars/coarse

Of the diffusion model it needs only how much its predictions err, which is measured first. The errors that it learns to
take away are Gaussian with a spectrum of 1/f, up to `MOST` times as large as measured, because on the way of a sample
they add up.
"""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from core.coarse import LAST, SIDE, WIDTHS, Coarse, CoarseNet, from_afar, left_over, noise_from_afar
from core.coarse import load as load_coarse
from core.editing import predict
from core.models.cards import MODELS
from core.models.loader import DiffusionModel, load
from core.models.small_networks import write
from training import dataset
from training.loop import Losses, options, train

TIMES = (19, *range(99, 1000, 100))  # at which errors are measured
MOST = 6.0
LOWEST = 0.4  # cycles across the picture that the mean counts as: its error is 2.5 times that of one cycle


def afar(images: np.ndarray, side: int = SIDE) -> Tensor:
    """Images uint8 (N, H, W, 3) averaged to (N, 3, side, side), half precision."""
    parts = np.array_split(images, -(-len(images) // 256))
    return torch.cat([from_afar(dataset.to_pixels(part), side).half() for part in parts])


def drawn_errors(count: int, side: int, noise: torch.Generator) -> Tensor:
    """Gaussian fields (count, 3, side, side) of mean square 1 with a spectrum of 1/f."""
    f = torch.fft.fftfreq(side) * side
    gain = 1 / (f[:, None] ** 2 + f**2).sqrt().clamp(min=LOWEST)
    white = torch.randn(count, 3, side, side, generator=noise)
    return torch.fft.ifft2(torch.fft.fft2(white) * gain / gain.square().mean().sqrt()).real


@torch.no_grad()
def both_views(model: DiffusionModel, images: np.ndarray, t: int, side: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Of pictures noised to t: x_t / sqrt(a_t) and the predicted x_0, averaged to (N, 3, side, side)."""
    noise, seen = torch.Generator().manual_seed(seed), []
    for part in np.array_split(images, -(-len(images) // 32)):
        x0 = model.codec.encode(dataset.to_pixels(part))
        x = model.schedule.noised(x0, torch.randn(x0.shape, generator=noise), t).to(model.device)
        views = x / model.schedule.alpha(t) ** 0.5, model.schedule.predicted_x0(x, predict(model, x, t), t)
        seen.append([from_afar(pixels, side).cpu() for pixels in map(model.codec.decode, views)])
    noised, predicted = (torch.cat(column) for column in zip(*seen, strict=True))
    return noised, predicted


def errors_of(model: DiffusionModel, images: np.ndarray, side: int = SIDE) -> dict[int, Tensor]:
    """t -> error (N, 3, side, side) of the predicted x_0, averaged to `side` pixels."""
    true = afar(images, side).float()
    return {t: both_views(model, images, t, side)[1] - true for t in TIMES}


def by_frequency(errors: Tensor) -> list[float]:
    """Root mean square Fourier amplitude of fields (N, 3, side, side) at 0, 1, 2, ... cycles across, rounded."""
    side = errors.shape[-1]
    f = torch.fft.fftfreq(side) * side
    ring = (f[:, None] ** 2 + f**2).sqrt().round()
    power = torch.fft.fft2(errors, norm="forward").abs().square().mean((0, 1))
    return [power[ring == k].mean().sqrt().item() for k in range(side // 2)]


def losses_of(pictures: Tensor, coarse: Coarse, alphas: np.ndarray, block: int, batch: int) -> Losses:
    """Mean square of what is still wrong, in units of `left_over`, with errors drawn for `batch` pictures."""

    def losses(net: nn.Module, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        y = pictures[rng.integers(len(pictures), size=batch)].float()
        t = rng.integers(TIMES[0], len(alphas), size=batch)
        factor = np.exp(rng.uniform(0, log(MOST), size=batch))
        r, sigma = noise_from_afar(alphas[t], block), coarse.sigma(t) * factor
        r, sigma = (torch.from_numpy(deviation).float() for deviation in (r, sigma))
        seen = y + r.view(-1, 1, 1, 1) * torch.randn(y.shape, generator=noise)
        predicted = y + sigma.view(-1, 1, 1, 1) * drawn_errors(batch, y.shape[-1], noise)
        device = next(net.parameters()).device
        made = net(*(tensor.to(device) for tensor in (seen, predicted, r, sigma)))
        return {"loss": ((made - y.to(device)) / left_over(r, sigma).to(device).view(-1, 1, 1, 1)).square().mean()}

    return losses


def release(net: CoarseNet, side: int, errors: list[tuple[int, float]], folder: Path) -> None:
    widths = [block.first.out_channels for block in net.down]
    write(net, {"side": side, "last": LAST, "widths": widths, "errors": errors}, folder)


def measure(coarse: Coarse, model: DiffusionModel, t: int, count: int = 100) -> dict[str, tuple[float, float]]:
    """Root mean square errors (of all places, of the mean colour) on held-out portraits noised to t: of the noised
    picture, of what is predicted, and of what the network makes of both."""
    images, _ = dataset.held_out(count)
    true = afar(images, coarse.side).float()
    noised, predicted = both_views(model, images, t, coarse.side)
    r = noise_from_afar(model.schedule.alpha(t), images.shape[1] // coarse.side)
    estimates = {"noised": noised, "predicted": predicted}
    estimates["corrected"] = coarse.estimate(noised, predicted, float(r), float(coarse.sigma(t)))
    errors = {name: estimate - true for name, estimate in estimates.items()}
    return {
        name: (error.square().mean().sqrt().item(), error.mean((2, 3)).square().mean().sqrt().item())
        for name, error in errors.items()
    }


def main() -> None:
    parser = options(__doc__, "coarse", steps=6000, batch=64, rate=1.5e-3)
    parser.add_argument("--out", type=Path, default=None, help="where to release it")
    arguments = parser.parse_args()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    model = load(MODELS["avatars"], accelerator.device)
    with accelerator.main_process_first():
        images, _ = dataset.load(arguments.images)
    found = errors_of(model, images[:64])
    errors = [(t, round(error.square().mean().sqrt().item(), 5)) for t, error in found.items()]
    for t in (199, 399, 599):
        amplitudes = " ".join(f"{amplitude:.5f}" for amplitude in by_frequency(found[t]))
        accelerator.print(f"t = {t}: predictions err at 0, 1, 2, ... cycles by {amplitudes}", flush=True)
    pictures, block = afar(images), images.shape[1] // SIDE
    del images
    torch.manual_seed(0)
    net = CoarseNet(WIDTHS).to(memory_format=torch.channels_last)
    alphas = model.schedule.alphas_cumprod.double().cpu().numpy()
    batch = arguments.batch // accelerator.num_processes
    trained = train(
        accelerator, arguments, net, losses_of(pictures, Coarse(net, SIDE, tuple(errors)), alphas, block, batch)
    )
    if arguments.out is not None and accelerator.is_main_process:
        release(trained.average, SIDE, errors, arguments.out)
        for t in (199, 399, 599, 799):
            found = measure(load_coarse(arguments.out), model, t)
            words = "; ".join(
                f"{name} {every:.4f}, mean colour {colour:.4f}" for name, (every, colour) in found.items()
            )
            print(f"t = {t}: errors {words}", flush=True)
    accelerator.end_training()


if __name__ == "__main__":
    main()
