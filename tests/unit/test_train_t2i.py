"""The trainings of the text-to-image model: targets, exact resuming, release, and the text tower's conversion."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file

from core import instruments
from core.clip import MERGES, load_embedded
from core.models.cards import Embedded
from core.models.pipelines import read_autoencoder
from core.models.t2i_cards import TEXT_TO_IMAGE
from training import dataset, evaluate_t2i, phrases, train_autoencoder, train_t2i
from training.evaluate_clip import OUT as CLIP
from training.evaluate_instruments import OUT as INSTRUMENTS
from training.evaluate_t2i import agreement, captions_of, judged_rules, read_portraits
from training.loop import runs_of
from training.portraits import HELD_OUT, render, sample, to_vector
from training.text_tower import convert_text_model, convert_tokenizer
from training.train_autoencoder import build_autoencoder, divergence, standardised
from training.train_t2i import CONTEXT, TextToImage, build_scheduler, build_unet, captioned, losses_of, tokenise

SMALL = ["--images", "12", "--batch", "2", "--channels", "16,16,16"]


@pytest.fixture(scope="module")
def tokenizer():
    return convert_tokenizer(CLIP / MERGES, CONTEXT)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return phrases.truth_table(np.stack([to_vector(sample(i)) for i in range(30)]))


def captions(truth: np.ndarray, count: int) -> list[str]:
    return [train_t2i.captions(truth[i % len(truth)], i)[0] for i in range(count)]


# The text tower


def test_the_tokenizer_splits_as_open_clips_does(tokenizer, truth: np.ndarray) -> None:
    source = SimpleTokenizer(bpe_path=str(CLIP / MERGES), context_length=CONTEXT)
    texts = [*captions(truth, 60), *phrases.vocabulary(), "Ein Gesicht, naïve & 42%!", "  two   spaces "]
    for text in texts:
        assert tokenizer(text, add_special_tokens=False).input_ids == source.encode(text)
    assert len(tokenizer) == source.vocab_size
    assert tokenise(tokenizer, [""])[0].tolist() == [len(tokenizer) - 2] + [len(tokenizer) - 1] * (CONTEXT - 1)
    assert tokenise(tokenizer, ["smiling " * 50]).shape == (1, CONTEXT)


def test_the_text_model_computes_the_same_in_transformers_form(tokenizer, truth: np.ndarray) -> None:
    clip = load_embedded(CLIP)
    texts = [text for text in captions(truth, 40) if text]
    model = convert_text_model(clip.model).eval()
    with torch.no_grad():
        pooled = model(tokenise(tokenizer, texts)).pooler_output @ clip.model.text.text_projection
    embedded = torch.nn.functional.normalize(pooled, dim=-1)
    torch.testing.assert_close(embedded, clip.embed_texts(texts), atol=2e-5, rtol=0)


# Targets


def test_the_divergence_is_that_of_torch() -> None:
    mean, logvar = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean()
    assert divergence(mean, logvar).item() == pytest.approx(expected.item(), rel=1e-5)


def test_standardised_latents_decode_to_the_same_pictures() -> None:
    torch.manual_seed(0)
    vae = build_autoencoder((16, 16, 16)).eval()
    pixels = torch.rand(6, 3, 32, 32) * 2 - 1
    released = standardised(vae, pixels)
    with torch.no_grad():
        before, after = vae.encode(pixels).latent_dist, released.encode(pixels).latent_dist
        torch.testing.assert_close(after.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
        torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(4))
        torch.testing.assert_close(after.std, before.std / before.mean.std((0, 2, 3)).view(1, 4, 1, 1))
        torch.testing.assert_close(released.decode(after.mean).sample, vae.decode(before.mean).sample)


@pytest.mark.slow
def test_the_text_to_image_target_is_v_of_the_captioned_latents(tokenizer, truth: np.ndarray) -> None:
    """A model that knows the latents has no loss, wrong in one place that place's; what it is given to read are true
    captions, one in ten empty. What it tells of the portraits is judged by what is true of them."""
    latents, scheduler, error = torch.randn(30, 4, 4, 4).half(), build_scheduler(), torch.zeros(4, 4)
    surely = 1.0
    places = torch.arange(16.0).view(1, 1, 4, 4)
    read: list[torch.Tensor] = []

    def knows(x_t: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        read.append(tokens)
        a = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
        rows = np.random.default_rng(5).integers(30, size=len(t))
        x0 = latents[rows].float()
        told = 20 * (2 * torch.from_numpy(truth[rows]).float() - 1)
        return scheduler.get_velocity(x0, (x_t - a.sqrt() * x0) / (1 - a).sqrt(), t) + error, surely * told

    tokens, empty = captioned(truth, tokenizer), tokenise(tokenizer, [""])[0].int()
    losses = losses_of(latents, torch.from_numpy(truth), tokens, empty, scheduler.alphas_cumprod, 200, places)
    loss = losses(knows, np.random.default_rng(5), torch.Generator().manual_seed(0))
    assert max(loss.values()) < 1e-4
    error[1, 3] = 2.0  # the place of weight 7
    surely = 0.0  # even odds for every statement
    loss = losses(knows, np.random.default_rng(5), torch.Generator().manual_seed(0))
    assert loss["v"].item() == pytest.approx(4 * 7 / 16, rel=1e-3)
    assert loss["told"].item() == pytest.approx(train_t2i.TOLD * np.log(2), rel=1e-3)
    silent = (read[0] == empty).all(1)
    assert 0.04 < silent.float().mean() < 0.25
    rows = np.random.default_rng(5).integers(30, size=200)
    own = [tokenise(tokenizer, train_t2i.captions(truth[row], int(row))) for row in range(30)]
    assert all((own[row] == said).all(1).any() for row, said, no in zip(rows, read[0], silent, strict=True) if not no)


def test_the_u_net_learns_from_the_text_and_the_text_encoder_does_not(tokenizer) -> None:
    model = TextToImage(build_unet((16, 16, 16)), convert_text_model(load_embedded(CLIP).model))
    v, told = model(torch.randn(2, 4, 32, 32), torch.tensor([3, 700]), tokenise(tokenizer, ["a face", ""]))
    attended = [p for name, p in model.unet.named_parameters() if "attn2.to_v" in name]
    for made in (v, told):
        gradients = torch.autograd.grad(made.square().mean(), attended, retain_graph=True, allow_unused=True)
        reached = [g is not None and bool(g.abs().max() > 0) for g in gradients]
        assert all(reached[: len(reached) if made is v else 1])  # what is told comes from before the decoder
    (v.square().mean() + told.square().mean()).backward()
    assert all(p.grad is None for p in model.text.parameters())


def test_the_schedule_is_that_of_avatars_with_the_timesteps_of_stable_diffusion() -> None:
    ours, pixels = build_scheduler(), train_t2i.build_pixel_scheduler()
    torch.testing.assert_close(ours.alphas_cumprod, pixels.alphas_cumprod)
    assert ours.config.prediction_type == "v_prediction"
    ours.set_timesteps(50)
    assert ours.timesteps[[0, -1]].tolist() == [981, 1]


# Whole runs


class InThisProcess:
    """For twelve captions no process is worth its start; the test of the targets above has real ones."""

    def __init__(self, **_: object) -> None:
        self.map = map

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both trainings: one run of four steps, and one of two that goes on to four; released by the second."""
    folder = tmp_path_factory.mktemp("t2i")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_t2i, "ProcessPoolExecutor", InThisProcess)
        patch.setenv("AVATARS_CACHE", str(folder / "cache"))
        for name, script in (("vae", train_autoencoder), ("t2i", train_t2i)):
            extra = ["--autoencoder", str(folder / "out")] if name == "t2i" else []
            for run, steps in (("whole", 4), ("parts", 2), ("parts", 4)):
                options = ["--run", str(folder / name / run), "--steps", str(steps), "--decay", "0", *extra]
                script.main([*SMALL, *options, "--out", str(folder / "out")])
    return folder


@pytest.mark.parametrize("name", ["vae", "t2i"])
def test_a_resumed_run_is_the_run(runs: Path, name: str) -> None:
    whole, parts = (torch.load(runs / name / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 4
    for kind in ("model", "average"):
        for key, value in whole[kind].items():
            torch.testing.assert_close(parts[kind][key], value, rtol=0, atol=0)
    assert any(not torch.equal(whole["model"][key], value) for key, value in whole["average"].items())


def test_diffusers_opens_the_released_pipeline(runs: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(runs / "out", local_files_only=True)
    assert pipeline.safety_checker is None
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    saved = torch.load(runs / "t2i" / "parts" / "checkpoint.pt", weights_only=True)["average"]
    for part, network in (("unet", pipeline.unet), ("text", pipeline.text_encoder)):
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, saved[f"{part}.{key}"], atol=1e-3, rtol=1e-3)
    made = pipeline("a smiling face", num_inference_steps=2, output_type="pt").images
    assert made.shape == (1, 3, 128, 128)
    for file in (runs / "out").rglob("*.json"):
        assert str(runs) not in file.read_text()
    assert json.loads((runs / "out" / "vae" / "config.json").read_text())["scaling_factor"] == 1.0


def test_a_run_goes_on_from_released_weights(runs: Path) -> None:
    """Without a step it releases what it began with; how the weights were made is told run by run."""
    out, begin = runs / "again", runs / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_t2i, "ProcessPoolExecutor", InThisProcess)
        patch.setenv("AVATARS_CACHE", str(runs / "cache"))
        begun = ["--run", str(runs / "begun"), "--steps", "0", "--begin", str(begin), "--autoencoder", str(begin)]
        train_t2i.main([*SMALL, *begun, "--out", str(out)])
    before, after = (load_file(f / "unet" / "diffusion_pytorch_model.safetensors") for f in (begin, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert [run["steps"] for run in runs_of(out / "unet")] == [4, 0]
    assert [run["steps"] for run in runs_of(begin / "vae")] == [4]


def test_the_cached_latents_are_those_of_the_released_autoencoder(runs: Path) -> None:
    assert len(list((runs / "cache").glob("latents-*-12.safetensors"))) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVATARS_CACHE", str(runs / "cache"))
        images, _ = dataset.load(12)
        latents = train_t2i.latents_of(runs / "out", images)
    assert latents.shape == (12, 4, 32, 32)
    vae = read_autoencoder(runs / "out").float()
    with torch.no_grad():
        mean = vae.encode(dataset.to_pixels(images)).latent_dist.mean
    torch.testing.assert_close(latents.float(), mean, atol=5e-3, rtol=5e-3)


# Measuring


@pytest.fixture(scope="module")
def probe() -> instruments.Instruments:
    return instruments.load(INSTRUMENTS)


def test_only_statements_that_the_probe_can_check_are_judged(probe: instruments.Instruments) -> None:
    parameters = np.stack([to_vector(sample(HELD_OUT + i)) for i in range(300)])
    judged = judged_rules(probe, parameters)
    named = {
        words for rule, kept in zip(phrases.RULES, judged, strict=True) if kept for words in rule.before + rule.after
    }
    assert {"smiling", "glasses", "bald", "old", "pale", "long hair"} <= named
    assert not {"blue eyes", "a big nose", "a pink background", "a red shirt", "eyes looking up"} & named


def test_the_probe_finds_most_of_what_captions_say_of_renders(probe: instruments.Instruments) -> None:
    """Portraits agree with their own captions, as far as the probe can tell, and not with other people's."""
    portraits = [sample(HELD_OUT + i) for i in range(80)]
    parameters = np.stack([to_vector(p) for p in portraits])
    read = read_portraits(probe, dataset.to_pixels(np.stack([np.asarray(render(p)) for p in portraits])))
    texts, statements = captions_of(parameters, judged_rules(probe, parameters))
    assert len(texts) == len(statements) == 80
    assert agreement(portraits, statements) == (1, 1)
    assert agreement(read, statements)[0] > 0.8
    assert agreement(read[1:] + read[:1], statements)[0] < 0.5


def test_a_card_with_what_was_measured(
    runs: Path, probe: instruments.Instruments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two portraits, one sample of each text, two steps: the numbers mean nothing, the tables are complete."""
    monkeypatch.setenv("AVATARS_CACHE", str(runs / "cache"))
    monkeypatch.setattr(evaluate_t2i, "ZERO_SHOT", {"bald person": evaluate_t2i.ZERO_SHOT["bald person"]})
    card = replace(TEXT_TO_IMAGE["avatars-t2i"], source=Embedded(str(runs / "out")))
    monkeypatch.setattr(evaluate_t2i, "TEXT_TO_IMAGE", {"avatars-t2i": card})
    evaluate_t2i.main(["--portraits", "2", "--each", "1", "--steps", "2"])
    text = (runs / "out" / "README.md").read_text()
    assert all(f"| samples, guidance {guidance} |" in text for guidance in ("1", "3", "7.5"))
    assert "| bald person |" in text
    made = (
        r"text to image 4 steps of 2 portraits out of 12 with a decay over the last 0 in 0\.0\d hours on 1 CPU process"
    )
    assert re.search(made, text)
    pixels = dataset.to_pixels(dataset.held_out(2)[0])
    bound = evaluate_t2i.reconstruction(read_autoencoder(runs / "out"), pixels)
    assert f"brings a\nportrait back with {bound.mean():.1f} dB on average" in text
