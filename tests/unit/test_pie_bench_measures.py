"""PIE-Bench's measures against plain arithmetic in float64, on made pictures and masks and networks of random weights
that stand in for DINO, LPIPS and CLIP."""

import math
from pathlib import Path

import lpips
import numpy as np
import plain_networks
import pytest
import torch
from PIL import Image
from small_text_models import small_tokenizer
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    ViTConfig,
    ViTModel,
)

from core.errors import ModelUnavailable
from core.pie_bench import networks
from core.pie_bench.data import framed, mask_from_runs
from core.pie_bench.measures import AS_PUBLISHED, MENDED, Networks, as_published, mended

SIDE = 40
PATCH, HEADS, LAYERS = 8, 2, 2


def made_pictures(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A picture and an edit of it, uint8 (R, R, 3): smooth colours, noise and a patch of another colour."""
    drawn = np.random.default_rng(seed)
    slope = np.add.outer(np.linspace(20, 160, SIDE), np.linspace(0, 60, SIDE))[..., None] * [1.0, 0.8, 0.5]
    source = np.clip(slope + drawn.normal(0, 12, slope.shape), 0, 255).astype(np.uint8)
    result = np.clip(source + drawn.normal(0, 9, slope.shape), 0, 255).astype(np.uint8)
    result[8:22, 10:30] = (200, 40, 90)
    return source, result


def middle() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:22, 10:30] = True
    return framed(mask)


MASKS = {
    "an edit": middle(),
    "nothing but the frame": framed(np.zeros((SIDE, SIDE), bool)),
    "all but one pixel": ~np.eye(SIDE * SIDE, dtype=bool)[SIDE * 20 + 20].reshape(SIDE, SIDE),
    "not even the frame": np.zeros((SIDE, SIDE), bool),
}


# ----------------------------------------------------------------------------------------------------------- references


def plain_mse(a: np.ndarray, b: np.ndarray, mask: np.ndarray, only_background: bool) -> float:
    """Pixel by pixel, of pictures in 0 to 255."""
    total, count = 0.0, 0
    for i in range(SIDE):
        for j in range(SIDE):
            for c in range(3):
                if not mask[i, j]:
                    total += (float(a[i, j, c]) / 255 - float(b[i, j, c]) / 255) ** 2
                count += not (only_background and mask[i, j])
    return total / count


def plain_ssim(a: np.ndarray, b: np.ndarray, mask: np.ndarray, only_background: bool) -> float:
    """Wang et al. 2004, Eq. 13, window by window: of the pictures with a black edited part, or of those windows in
    which nothing was edited."""
    weights = np.array([math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 4.5) for i in range(11) for j in range(11)])
    weights /= weights.sum()
    keep = np.ones_like(mask) if only_background else ~mask
    x, y = (picture / 255.0 * keep[..., None] for picture in (a, b))
    found = []
    for i in range(SIDE - 10):
        for j in range(SIDE - 10):
            if only_background and mask[i : i + 11, j : j + 11].any():
                continue
            for c in range(3):
                p, q = (z[i : i + 11, j : j + 11, c].ravel() for z in (x, y))
                m, n = weights @ p, weights @ q
                v, w, cov = weights @ (p - m) ** 2, weights @ (q - n) ** 2, weights @ ((p - m) * (q - n))
                found.append((2 * m * n + 1e-4) * (2 * cov + 9e-4) / ((m * m + n * n + 1e-4) * (v + w + 9e-4)))
    return float(np.mean(found)) if found else math.nan


def plain_psnr(mse: float) -> float:
    return 10 * math.log10(1 / mse)


# --------------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("name", MASKS)
def test_pixels_against_plain_loops(name: str) -> None:
    source, result = made_pictures()
    mask = MASKS[name]
    found = as_published(Networks(), source, result, mask, "a", "b") | mended(Networks(), source, result, mask)
    for prefix, suffix, alone in (("", "_unedit_part", False), ("", "_background", True)):
        mse = plain_mse(source, result, mask, alone)
        assert found[f"{prefix}mse{suffix}"] == pytest.approx(mse, abs=1e-7)
        assert found[f"{prefix}psnr{suffix}"] == pytest.approx(plain_psnr(mse), abs=1e-4)
        ssim = plain_ssim(source, result, mask, alone)
        assert found[f"{prefix}ssim{suffix}"] == pytest.approx(ssim, abs=1e-4, nan_ok=True)


def test_the_published_psnr_is_that_of_the_background_less_its_share() -> None:
    source, result = made_pictures()
    values = as_published(Networks(), source, result, middle(), "a", "b") | mended(Networks(), source, result, middle())
    share = 10 * math.log10(1 / (~middle()).mean())
    assert values["psnr_unedit_part"] - values["psnr_background"] == pytest.approx(share, abs=1e-5)


def test_a_mask_over_everything_has_no_background() -> None:
    source, result = made_pictures()
    for mask in (np.ones((SIDE, SIDE), bool), None):
        values = as_published(with_clip(), source, result, mask, "a", "b") | mended(Networks(), source, result, mask)
        background = [name for name in values if "unedit" in name or "background" in name]
        assert len(background) == 8
        assert all(math.isnan(values[name]) for name in background)
        edited = values["clip_similarity_target_image_edit_part"]
        assert math.isnan(edited) if mask is None else edited == values["clip_similarity_target_image"]


def test_equal_pictures_are_infinitely_close() -> None:
    source, _ = made_pictures()
    values = as_published(Networks(), source, source, middle(), "a", "b") | mended(Networks(), source, source, middle())
    assert values["psnr_unedit_part"] == values["psnr_background"] == math.inf
    assert values["ssim_unedit_part"] == pytest.approx(1)
    assert values["mse_background"] == 0


def test_without_networks_their_measures_are_none() -> None:
    source, result = made_pictures()
    values = as_published(Networks(), source, result, middle(), "a", "b") | mended(Networks(), source, result, middle())
    assert list(values) == [*AS_PUBLISHED, *MENDED]
    assert {name for name, value in values.items() if value is None} == {
        name for name in values if name.startswith(("structure", "lpips", "clip"))
    }


# ---------------------------------------------------------------------------------------------------------------- LPIPS


def random_lpips() -> networks.Lpips:
    torch.manual_seed(0)
    network = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
    return networks.Lpips(network.eval().requires_grad_(False))


@pytest.mark.parametrize("name", ["an edit", "nothing but the frame"])
def test_lpips_against_plain_arithmetic(name: str) -> None:
    source, result = made_pictures()
    mask, judge = MASKS[name], random_lpips()
    names = {}
    for part, value in judge.network.net.state_dict().items():
        names[part.split(".", 1)[1]] = value.double().numpy()  # slice1.0.weight: of features
    heads = [head.model[-1].weight[0, :, 0, 0].double().numpy() for head in judge.network.lins]

    black = [(picture / 255.0 * ~mask[..., None] * 2 - 1).transpose(2, 0, 1) for picture in (result, source)]
    expected = sum(layer.mean() for layer in plain_networks.lpips_maps(*black, names, heads))
    found = as_published(Networks(lpips=judge), source, result, mask, "a", "b")["lpips_unedit_part"]
    assert found == pytest.approx(expected, abs=1e-4)
    assert expected > 1e-3

    # The map of pictures that are both the source in the edited part, over the background.
    mixed = np.where(mask[..., None], source, result)
    pair = [(picture / 127.5 - 1).transpose(2, 0, 1) for picture in (mixed, source)]
    layers = plain_networks.lpips_maps(*pair, names, heads)
    total = sum(plain_networks.bilinear(layer[None], SIDE)[0] for layer in layers)
    spatial = networks.Lpips(judge.network, spatial=True)
    found = mended(Networks(lpips_map=spatial), source, result, mask)["lpips_background"]
    assert found == pytest.approx(total[~mask].mean(), abs=1e-4)


# ----------------------------------------------------------------------------------------------------------------- DINO


def random_vit(folder: Path) -> dict[str, np.ndarray]:
    """A small ViT as a folder, with the names of the one on the Hub and its epsilon. Returns its weights."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=24,
        image_size=32,
        patch_size=PATCH,
        layer_norm_eps=1e-2,
    )
    vit = ViTModel(config)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    vit.save_pretrained(folder)
    from safetensors.numpy import load_file

    return {name: value.astype(float) for name, value in load_file(folder / "model.safetensors").items()}


def plain_structure(a: np.ndarray, b: np.ndarray, weights: dict[str, np.ndarray]) -> float:
    """Of pictures (R, R, 3), with the scale that the network is to see."""
    similarities = []
    for picture in (a, b):
        x = plain_networks.bilinear(picture.transpose(2, 0, 1).astype(float), 32)
        x = (x - np.array(networks.IMAGENET[0])[:, None, None]) / np.array(networks.IMAGENET[1])[:, None, None]
        keys = plain_networks.vit_keys(x, weights, PATCH, HEADS, LAYERS)
        unit = keys / np.sqrt((keys**2).sum(1, keepdims=True))
        similarities.append(unit @ unit.T)
    return float(((similarities[0] - similarities[1]) ** 2).mean())


def test_structure_distance_against_a_plain_vit(tmp_path: Path) -> None:
    weights = random_vit(tmp_path)
    judge = Networks(self_similarity=networks.DinoKeys(networks.read_dino(tmp_path)))
    source, result = made_pictures()
    expected = plain_structure(source, result, weights)
    found = as_published(judge, source, result, None, "a", "b")["structure_distance"]
    assert found == pytest.approx(expected, rel=1e-3)
    small = plain_structure(source / 255.0, result / 255.0, weights)
    assert mended(judge, source, result, None)["structure_distance_0_to_1"] == pytest.approx(small, rel=1e-3)
    assert small > 10 * expected  # 0 to 255 is another picture to the network


def test_other_weights_are_refused(tmp_path: Path) -> None:
    random_vit(tmp_path)
    with pytest.raises(ModelUnavailable, match="does not hold this network"):
        networks.obtain(str(tmp_path), networks.read_clip)


# ----------------------------------------------------------------------------------------------------------------- CLIP


def random_clip(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(**shape, **ends, vocab_size=len(tokenizer), max_position_embeddings=8)
    vision = CLIPVisionConfig(**shape, image_size=32, patch_size=8)
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)


def with_clip() -> Networks:
    """A score that tells pictures and prompts apart."""
    return Networks(clip_score=lambda picture, prompt: float(picture.mean()) + 1000 * len(prompt))


def test_clip_score(tmp_path: Path) -> None:
    random_clip(tmp_path)
    score = networks.obtain(str(tmp_path), networks.read_clip)
    network, tokenizer = score.network.double(), score.tokenizer
    source, _ = made_pictures()
    small = np.array(Image.fromarray(source).resize((32, 32), Image.Resampling.BICUBIC))
    mean, deviation = (np.array(values) for values in networks.OF_CLIP)
    x = torch.from_numpy((small / 255.0 - mean) / deviation).permute(2, 0, 1)[None]
    prompts = ["a cat", "a red dog sitting", "photo of a smiling cat and a dog and another dog"]
    for prompt in prompts:
        ids = tokenizer(prompt).input_ids
        ids = ids if len(ids) <= 8 else [*ids[:7], ids[-1]]
        image = network.visual_projection(network.vision_model(x).pooler_output)[0]
        text = network.text_projection(network.text_model(torch.tensor([ids])).pooler_output)[0]
        cosine = (image @ text / image.norm() / text.norm()).item()
        network.float()
        assert score(source, prompt) == pytest.approx(max(100 * cosine, 0), abs=1e-4)
        network.double()


def test_clip_sees_pictures_as_its_own_processor_prepares_them() -> None:
    source, _ = made_pictures()
    theirs = CLIPImageProcessorPil()(Image.fromarray(source), return_tensors="pt").pixel_values
    ours = networks.seen_by_clip(source)
    assert theirs.shape == ours.shape == (1, 3, 224, 224)
    assert (theirs - ours).abs().max() < 1e-6


def test_clip_is_asked_of_the_pictures_and_prompts_that_are_meant() -> None:
    source, result = made_pictures()
    mask = middle()
    values = as_published(with_clip(), source, result, mask, "abc", "abcde")
    assert values["clip_similarity_source_image"] == source.mean() + 3000
    assert values["clip_similarity_target_image"] == result.mean() + 5000
    black = result.copy()
    black[~mask] = 0
    assert values["clip_similarity_target_image_edit_part"] == black.mean() + 5000


# ---------------------------------------------------------------------------------------------------------------- masks


def test_runs_are_read_as_published() -> None:
    """Against its loop; what reaches beyond the end is cut off, and the frame is set."""
    runs = [5, 3, 512 * 7 + 100, 700, 512 * 512 - 4, 50]
    expected = np.zeros(512 * 512)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        for n in range(min(length, 512 * 512 - start)):
            expected[start + n] = 1
    expected = expected.reshape(512, 512)
    assert np.array_equal(mask_from_runs(runs), expected == 1)
    expected[0, :] = expected[-1, :] = expected[:, 0] = expected[:, -1] = 1
    assert np.array_equal(framed(mask_from_runs(runs)), expected == 1)
    assert not mask_from_runs([]).any()
    assert mask_from_runs([0, 512 * 512]).all()
