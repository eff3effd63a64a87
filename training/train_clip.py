"""Train the image-text model of the avatars: a small CLIP on rendered portraits, in open_clip's form.

    accelerate launch -m training.train_clip --minutes 20
    accelerate launch --num_processes 2 -m training.train_clip --steps 1500 --resume
    python -m training.evaluate_clip

Three losses, because contrast alone is slow to find small marks on a face. (1) CLIP's contrast, with the truth of every
caption about every portrait of the batch as target instead of the diagonal. (2) Regression of the known parameters from
the image embedding. (3) The directional cosine that editing is guided by (StyleGAN-NADA; Eq. 7 of Asyrp): for pairs of
the same person before and after one edit, the change of the image embedding should point where the change of the text
does, and not where another edit's does. Pictures are shifted, blurred and noised (see `augment.py`).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from open_clip.tokenizer import SimpleTokenizer, default_bpe, get_pairs
from torch import Tensor, nn

from core.clip import MERGES, load_embedded
from core.models.small_networks import write_weights
from training import dataset, variants
from training.augment import augment, resized
from training.evaluate_clip import CARD, OUT, measure, report
from training.phrases import (
    NOUNS,
    OPENINGS,
    agreement,
    caption_rules,
    compose,
    dressed,
    truth_table,
    vocabulary,
)
from training.run import Finished, arguments_of, card_fields, train_in_budget
from training.targets import BINARY, CONTINUOUS, STRUCTURE, values, visible
from training.variants import EDIT_NAMES, EDITS

WIDTH, CONTEXT, SIZE = 128, 32, 128
TARGETS = (*CONTINUOUS, *BINARY, *STRUCTURE)


def write_merges(path: Path, common: int = 2048) -> None:
    """The first `common` byte-pair merges of CLIP's tokenizer and all that the captions' words need: those words are
    split exactly as by CLIP, any other text into smaller pieces, down to bytes."""
    with gzip.open(default_bpe()) as file:
        header, *lines = file.read().decode("utf-8").split("\n")
    full = SimpleTokenizer()
    rank = full.bpe_ranks
    used: set[tuple[str, str]] = {tuple(line.split()) for line in lines[:common]}
    for text in vocabulary():
        for token in full.pat.findall(full.clean_fn(text)):
            encoded = "".join(full.byte_encoder[b] for b in token.encode("utf-8"))
            word = (*encoded[:-1], encoded[-1] + "</w>")
            while len(word) > 1:
                pair = min(get_pairs(word), key=lambda p: rank.get(p, math.inf))
                if pair not in rank:
                    break
                used.add(pair)
                merged, i = [], 0
                while i < len(word):
                    joined = word[i : i + 2] == pair
                    merged.append("".join(pair) if joined else word[i])
                    i += 2 if joined else 1
                word = tuple(merged)
    kept = [header, *(" ".join(pair) for pair in sorted(used, key=rank.__getitem__))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", mtime=0) as file:  # no date, so that the file is reproducible
        file.write("\n".join(kept).encode("utf-8"))


def config(vocabulary_size: int) -> dict:
    """The content of open_clip_config.json."""
    return {
        "model_cfg": {
            "embed_dim": WIDTH,
            "custom_text": True,
            "vision_cfg": {
                "layers": [1, 1, 1, 1],
                "width": 16,
                "head_width": 64,
                "image_size": SIZE,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": vocabulary_size,
                "width": 96,
                "heads": 4,
                "layers": 3,
            },
        },
        "preprocess_cfg": {
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


class Student(nn.Module):
    """The model and the head that reads the portraits' parameters off the image embedding while training."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        options = config(vocabulary_size)["model_cfg"]
        options.pop("custom_text")
        self.clip = open_clip.CustomTextCLIP(
            embed_dim=options["embed_dim"],
            vision_cfg=open_clip.CLIPVisionCfg(**options["vision_cfg"]),
            text_cfg=open_clip.CLIPTextCfg(**options["text_cfg"]),
        )
        self.read = nn.Linear(WIDTH, len(TARGETS))
        self.direction_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.register_buffer("causal", self.clip.text.attn_mask.clone(), persistent=False)

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Unit image vectors (B, D), unit text vectors (N, D), read parameters (B, K), the two logit scales."""
        length = tokens.shape[1]  # the causal mask of the longest text here: padding would only cost time
        self.clip.text.attn_mask = self.causal[:length, :length]
        images = self.clip.encode_image(pixels, normalize=True)
        texts = self.clip.encode_text(tokens, normalize=True)
        self.clip.text.attn_mask = self.causal
        scales = self.clip.logit_scale.exp().clamp(max=60), self.direction_scale.exp().clamp(max=40)
        return images, texts, self.read(images * math.sqrt(WIDTH)), *scales


def contrast(images: Tensor, texts: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy of CLIP with all true captions as targets; images (B, D), texts (M, D), true (B, M)."""
    logits, target = scale * images @ texts.T, true.float()
    by_image = F.cross_entropy(logits, target / target.sum(1, keepdim=True).clamp(min=1))
    by_text = F.cross_entropy(logits.T, (target / target.sum(0, keepdim=True).clamp(min=1)).T)
    return (by_image + by_text) / 2


def directional(before: Tensor, after: Tensor, directions: Tensor, edits: Tensor, scale: Tensor) -> Tensor:
    """1 - cos of each pair's change (P, D) and its edit's text direction (E, D), and the choice among all edits."""
    cosine = F.normalize(after - before, dim=-1) @ F.normalize(directions, dim=-1).T
    own = cosine.gather(1, edits[:, None]).mean()
    return (1 - own) + F.cross_entropy(scale * cosine, edits)


def edit_texts(rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """One way to say each edit: the source texts and the target texts, in the order of `EDIT_NAMES`."""
    sources, targets = [], []
    for name in EDIT_NAMES:
        noun, opening = str(rng.choice(NOUNS)), str(rng.choice(OPENINGS))
        phrase = str(rng.choice(EDITS[name].texts))
        state = rng.bit_generator.state  # source and target get the same template and filler
        sources.append(dressed(opening + noun, rng))
        rng.bit_generator.state = state
        targets.append(dressed(opening + phrase.format(noun), rng))
    return sources, targets


def main() -> None:
    arguments = arguments_of(__doc__, "clip", OUT).parse_args()
    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    world = accelerator.num_processes
    if accelerator.is_main_process:
        write_merges(arguments.run / MERGES)
        variants.load("edited", arguments.pairs)
        dataset.load(arguments.images)
    accelerator.wait_for_everyone()
    tokenizer = SimpleTokenizer(bpe_path=str(arguments.run / MERGES), context_length=CONTEXT)
    images, parameters = (array[: arguments.pairs].copy() for array in dataset.load(arguments.images))
    edited, edited_parameters, edits = variants.load("edited", arguments.pairs)
    both = np.concatenate([parameters, edited_parameters])
    truth, seen = truth_table(both), torch.from_numpy(visible(both, TARGETS))
    wanted = torch.from_numpy(values(both, TARGETS))
    wanted = (wanted - wanted.mean(0)) / wanted.std(0)

    torch.manual_seed(0)
    student = Student(tokenizer.vocab_size).to(memory_format=torch.channels_last)
    decayed = [p for p in student.parameters() if p.ndim > 1]
    plain = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=arguments.rate, betas=(0.9, 0.98))
    pairs = max(2, arguments.batch // (2 * world))
    device = accelerator.device

    def losses(
        model: nn.Module, fraction: float, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Tensor]:
        rows = rng.permutation(len(images))[:pairs]
        rows_of_both = np.concatenate([rows, rows + len(images)])
        pixels = dataset.to_pixels(np.concatenate([images[rows], edited[rows]])).to(device)
        pixels = augment(resized(pixels, SIZE), noise, 0.5 * min(1.0, 0.2 + 1.6 * fraction), copies=2).contiguous(
            memory_format=torch.channels_last
        )
        captions = [caption_rules(truth[i], rng) for i in rows_of_both]
        sources, targets = edit_texts(rng)
        tokens = tokenizer([*(dressed(compose(c, rng), rng) for c in captions), *sources, *targets])
        tokens = tokens[:, : int((tokens != 0).sum(1).max())].to(device)

        image, text, read, scale, direction_scale = model(pixels, tokens)
        caption, source, target = text.float().split([len(captions), len(EDIT_NAMES), len(EDIT_NAMES)])
        true = torch.from_numpy(agreement(truth[rows_of_both], captions)).to(device)
        image = image.float()
        return {
            "contrast": contrast(image, caption, true, scale),
            "read": ((read.float() - wanted[rows_of_both].to(device)) ** 2)[seen[rows_of_both].to(device)].mean(),
            "direction": directional(
                *image.chunk(2), target - source, torch.from_numpy(edits[rows]).to(device), direction_scale
            ),
        }

    weights = {"contrast": 1.0, "read": 2.0, "direction": 0.5}
    finished = train_in_budget(accelerator, arguments, student, optimiser, losses, weights)
    if accelerator.is_main_process:
        release(finished.network, arguments.run / MERGES, arguments.out)
        figures = measure(load_embedded(arguments.out), arguments.held_out)
        write_card(arguments, figures, finished, world)
        print(report(figures))
    accelerator.wait_for_everyone()
    accelerator.end_training()


def release(student: Student, merges: Path, folder: Path) -> None:
    """Write the model as open_clip expects it, in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MERGES).write_bytes(merges.read_bytes())
    size = student.clip.vocab_size
    (folder / "open_clip_config.json").write_text(json.dumps(config(size), indent=2) + "\n")
    write_weights(student.clip, folder, "open_clip_model.safetensors")


def write_card(arguments: argparse.Namespace, figures: dict, finished: Finished, world: int) -> None:
    """The model card, from the figures just measured."""
    model = load_embedded(arguments.out).model
    text = CARD.format(
        width=WIDTH,
        vocabulary=model.vocab_size,
        edits=len(EDIT_NAMES),
        **card_fields(arguments, finished, world, model, report(figures)),
    )
    (arguments.out / "README.md").write_text(text)


if __name__ == "__main__":
    main()
