"""Measure the embedded text-to-image model and write its card.

    python -m training.evaluate_t2i --autoencoder      # the autoencoder alone, no card; a minute
    python -m training.evaluate_t2i                    # everything; about half an hour on two cores
    python -m training.evaluate_t2i --write            # the table of captions also into docs/benchmarks.md

Autoencoder: PSNR of held-out portraits, the bound of every inversion. Text: pictures are sampled from captions of
held-out portraits at several guidance scales, the probe reads their attributes, and the captions' statements are
checked against the readings. The same check of the portraits themselves says how well the probe can tell, that of other
people's portraits what chance gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor

from benchmarks.report import HELP, write_section
from core import instruments
from core.instruments import Instruments
from core.metrics import psnr
from core.models.cards import PRESETS
from core.models.pipelines import load, read_autoencoder
from core.models.placing import best_dtype
from core.models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from training.dataset import HELD_OUT, held_out, to_pixels
from training.evaluate_clip import ZERO_SHOT
from training.loop import Run, runs_of
from training.phrases import RULES, caption_rules, compose, truth_table
from training.portraits import NAMES, Portrait, from_vector, sample, to_vector
from training.train_t2i import OUT

GUIDANCE = (1.0, 3.0, 7.5)
STYLES = ("short_hair", "long_hair", "curly_hair", "bald")  # in the order of `portraits.HAIR_STYLES`
UNREADABLE = ("gaze_y",)  # about one pixel; the probe's R^2 is 0.2
# Often exactly 0 in `portraits.sample`, and then captions say that it is absent; about half the least other value.
ABSENT = {"mouth_open": 0.1, "brow_raise": 0.1, "beard": 0.17, "gray": 0.1, "age": 0.1, "blush": 0.1}

Holds = Callable[[Portrait], bool]


@torch.no_grad()
def reconstruction(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """PSNR (N,) in dB of pictures (N, 3, H, W) through the autoencoder, in float32."""
    vae = vae.float()
    made = [vae.decode(vae.encode(part).latent_dist.mean).sample.clamp(-1, 1) for part in pixels.split(16)]
    return psnr(torch.cat(made), pixels)


@torch.no_grad()
def read_portraits(probe: Instruments, pixels: Tensor) -> list[Portrait]:
    """What the probe sees in pictures (N, 3, H, W), as portraits; what it cannot read has the default value."""
    parts = [probe.attributes(part) for part in pixels.split(50)]
    seen = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in probe.known}
    style = np.stack([seen.pop(name) for name in STYLES]).argmax(0)
    for name, least in ABSENT.items():
        seen[name] = np.where(seen[name] < least, 0.0, seen[name])
    rows = zip(*seen.values(), style, strict=True)
    return [Portrait(**{n: float(v) for n, v in zip(seen, row, strict=False)}, hair_style=int(row[-1])) for row in rows]


def judged_rules(probe: Instruments, parameters: np.ndarray) -> np.ndarray:
    """Boolean (len(RULES),): the rules that depend on nothing but what the probe reads, judged by portraits
    (N, len(NAMES)) in which all else is exchanged."""
    read = {*probe.known, "hair_style"} - set(UNREADABLE)
    kept = np.array([name in read for name in NAMES])
    exchanged = np.where(kept, parameters, np.roll(parameters, 1, 0))
    return (truth_table(parameters) == truth_table(exchanged)).all(0)


def captions_of(parameters: np.ndarray, judged: np.ndarray) -> tuple[list[str], list[list[Holds]]]:
    """A caption for each of the portraits (N, len(NAMES)), of one to four judged statements, and the statements."""
    rng = np.random.default_rng(0)
    texts, statements = [], []
    for true in truth_table(parameters) & judged:
        rules: list[int] = []
        while not rules:
            rules = caption_rules(true, rng)
        texts.append(compose(rules, rng))
        statements.append([RULES[i].holds for i in rules])
    return texts, statements


def agreement(portraits: Sequence[Portrait], statements: Sequence[Sequence[Holds]]) -> tuple[float, float]:
    """Share of the statements that hold of their portrait, and share of the portraits of which all hold."""
    held = [[holds(p) for holds in own] for p, own in zip(portraits, statements, strict=True)]
    return float(np.mean(sum(held, []))), float(np.mean([all(row) for row in held]))


def sampled(
    pipeline: StableDiffusionPipeline, texts: Sequence[str], guidance: float, steps: int, batch: int = 10
) -> Tensor:
    """Pixels (N, 3, H, W) in [-1, 1], one picture per text, each from the noise of its own seed. The networks of a
    pipeline in float32 run in half precision where the machine is faster with it; the sampler does not."""
    pipeline.set_progress_bar_config(disable=True)
    half = best_dtype(pipeline.device)
    made = []
    for first in range(0, len(texts), batch):
        part = list(texts[first : first + batch])
        seeds = [torch.Generator().manual_seed(first + i) for i in range(len(part))]
        with torch.autocast(pipeline.device.type, half, enabled=half != torch.float32):
            pictures = pipeline(
                part, guidance_scale=guidance, num_inference_steps=steps, generator=seeds, output_type="pt"
            ).images
        made.append(pictures)
    return torch.cat(made).float().cpu() * 2 - 1


def measure(
    card: TextToImageCard, probe: Instruments, count: int = 100, each: int = 8, steps: int = 50
) -> dict[str, dict]:
    """All figures: on `count` held-out portraits and their captions, and on `each` samples of every single attribute.

    {"psnr": {"mean", "worst"}, "captions": {row: (statements, whole captions)}, "attributes": {text: (share of samples
    that have it, share of portraits with it that the probe finds, share of all portraits)}}.
    """
    images, parameters = held_out(count)
    pixels = to_pixels(images)
    bound = reconstruction(read_autoencoder(card.source.folder), pixels)
    pipeline = load(card, dtype=torch.float32).pipeline  # diffusers samples in the networks' precision
    population = np.stack([to_vector(sample(seed)) for seed in range(500)])
    texts, statements = captions_of(parameters, judged_rules(probe, population))
    real = read_portraits(probe, pixels)
    captions = {
        "other people's portraits": agreement([*real[1:], real[0]], statements),
        **{
            f"samples, guidance {guidance:g}": agreement(
                read_portraits(probe, sampled(pipeline, texts, guidance, steps)), statements
            )
            for guidance in GUIDANCE
        },
        "the portraits themselves": agreement(real, statements),
    }
    attributes = {}
    for text, (_, holds) in ZERO_SHOT.items():
        seen = read_portraits(probe, sampled(pipeline, [text] * each, card.guidance, steps))
        found = [holds(p) for p in real]
        true = [holds(from_vector(row)) for row in parameters]
        sure = [f for f, t in zip(found, true, strict=True) if t]
        attributes[text] = tuple(float(np.mean(rows)) for rows in ([holds(p) for p in seen], sure or [False], found))
    return {
        "psnr": {"mean": float(bound.mean()), "worst": float(bound.min())},
        "captions": captions,
        "attributes": attributes,
    }


def report(figures: dict[str, dict]) -> str:
    """The figures of the text as two Markdown tables."""
    lines = [
        captions_table(figures),
        "",
        "| text | samples that have it | found where true | all portraits |",
        "|---|---|---|---|",
    ]
    for text, shares in figures["attributes"].items():
        lines.append(f"| {text} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")
    return "\n".join(lines)


def captions_table(figures: dict[str, dict]) -> str:
    """How much of what captions state holds in pictures, as a Markdown table."""
    lines = ["| pictures | statements that hold | captions that hold whole |", "|---|---|---|"]
    lines += [f"| {name} | {100 * a:.0f} % | {100 * b:.0f} % |" for name, (a, b) in figures["captions"].items()]
    return "\n".join(lines)


CARD = """---
license: mit
library_name: diffusers
pipeline_tag: text-to-image
tags: [diffusion, stable-diffusion, text-to-image, procedural]
---
# avatars-t2i: a small Stable Diffusion of drawn portraits

A `StableDiffusionPipeline` at 128 x 128 in half precision, {size:.0f} MB: `AutoencoderKL` ({vae:.1f} M parameters, 4 x
32 x 32 latents of unit variance), `CLIPTextModel` ({text:.1f} M, the text half of the avatars' image-text model;
32 tokens, {words:,} pieces of words) and `UNet2DConditionModel` ({unet:.1f} M); v-prediction, linear betas 1e-4..0.02,
1,000 timesteps. It knows nothing but the portraits of `training/portraits.py` and the words of
`training/phrases.py`; no photograph of a person was used. There is no safety checker.

    StableDiffusionPipeline.from_pretrained("presets/models/avatars-t2i")("a smiling face with glasses").images[0]

- **Data**: renders of the seeds from 0 on and captions, one in ten empty; seeds from {held_out:,} on are held out.
- **Commands**: `accelerate launch -m training.train_autoencoder --out presets/models/avatars-t2i`, then
  `accelerate launch -m training.train_t2i --out presets/models/avatars-t2i`, with the steps and decay below
- **Training**: autoencoder {vae_runs}; text to image {runs}.

## What it measures
`python -m training.evaluate_t2i --portraits {count} --each {each} --steps {sample_steps}`: held-out portraits, DDIM.
The autoencoder brings a
portrait back with {psnr:.1f} dB on average, {worst:.1f} dB at worst.

Captions of one to four statements about held-out portraits, and what the attribute probe says of the pictures:

{table}

In the second table {each} samples of each text at guidance {guidance:g}; how often the probe finds the attribute in
portraits that have it; and in all portraits.

## Limits
Words outside its vocabulary are passed over, and so is what comes after 32 tokens. Licence: that of the repository.
"""


def in_words(runs: Sequence[Run]) -> str:
    """Runs of a training, see `runs_of`; what is not on record is left out."""
    forms = {
        "steps": "{:,} steps",
        "batch": "of {} portraits",
        "images": "out of {:,}",
        "decay": "with a decay over the last {:,}",
        "hours": "in {:.2f} hours",
        "on": "on {}",
    }
    said = [" ".join(form.format(run[name]) for name, form in forms.items() if name in run) for run in runs]
    return ", then ".join(said)


def write_card(card: TextToImageCard, figures: dict[str, dict], arguments: argparse.Namespace) -> None:
    """The model card, from the figures just measured and what the two trainings left beside the weights."""
    pipeline = load(card).pipeline
    millions = {
        name: sum(p.numel() for p in network.parameters()) / 1e6
        for name, network in (("vae", pipeline.vae), ("text", pipeline.text_encoder), ("unet", pipeline.unet))
    }
    text = CARD.format(
        size=2 * sum(millions.values()),
        **millions,
        words=len(pipeline.tokenizer),
        held_out=HELD_OUT,
        vae_runs=in_words(runs_of(card.source.folder / "vae")),
        runs=in_words(runs_of(card.source.folder / "unet")),
        count=arguments.portraits,
        sample_steps=arguments.steps,
        psnr=figures["psnr"]["mean"],
        worst=figures["psnr"]["worst"],
        each=arguments.each,
        guidance=card.guidance,
        table=report(figures),
    )
    (card.source.folder / "README.md").write_text(text)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=int, default=100)
    parser.add_argument("--each", type=int, default=8, help="samples of every single attribute")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--autoencoder", type=Path, nargs="?", const=OUT, help="only the vae/ of this folder")
    parser.add_argument("--no-card", action="store_true")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args(argv)
    if arguments.autoencoder:
        bound = reconstruction(read_autoencoder(arguments.autoencoder), to_pixels(held_out(arguments.portraits)[0]))
        print(f"PSNR {bound.mean():.2f} dB (median {bound.median():.2f}, worst {bound.min():.2f})")
        return
    card = TEXT_TO_IMAGE["avatars-t2i"]
    probe = instruments.load(PRESETS / card.instruments)
    figures = measure(card, probe, arguments.portraits, arguments.each, arguments.steps)
    print(f"PSNR {figures['psnr']['mean']:.2f} dB (worst {figures['psnr']['worst']:.2f})\n{report(figures)}")
    if arguments.write:
        write_section("training.evaluate_t2i", captions_table(figures))
    if not arguments.no_card:
        write_card(card, figures, arguments)


if __name__ == "__main__":
    main()
