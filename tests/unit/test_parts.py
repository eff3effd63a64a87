"""The parts of a face: the renderer's own map against its pictures, and the network against that map."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from core.errors import ModelUnavailable
from core.masks import from_url
from core.models.cards import MODELS, PRESETS
from core.parts import load
from core.studio.regions import parts_of
from core.studio.visit.session import Session
from tabs.regions import found_at, found_parts, ready_made_regions
from training.dataset import HELD_OUT, to_pixels
from training.evaluate_parts import WAYS, consistency_errors, overlaps
from training.part_maps import NAMES, part_map
from training.portraits import render, sample, varied
from training.train_parts import soft_overlap


@pytest.mark.parametrize(
    ("part", "change"),
    [("Mouth", {"lip_red": 1.0}), ("Eyes", {"iris": 2.5}), ("Hair", {"hair_colour": 4.0, "brow_thick": 0.0})],
)
def test_a_part_is_where_its_attributes_change_the_picture(part: str, change: dict[str, float]) -> None:
    portrait = varied(
        sample(HELD_OUT + 3), lip_red=0.0, eye_open=1.0, iris=0.0, hair_style=0, hair_colour=0.0, gray=0.0
    )
    other = varied(portrait, **change)
    changed = np.abs(np.asarray(render(portrait), int) - np.asarray(render(other), int)).max(-1) > 40
    allowed = np.isin(part_map(portrait), [NAMES.index(name) for name in (part, "Brows", "Beard")])
    assert changed.any()
    assert not (changed & ~ndimage.binary_dilation(allowed, iterations=2)).any()


def test_the_network_finds_the_renderers_parts() -> None:
    """On portraits that it has not seen. (The model card has the figures of 500.)"""
    parts = load(PRESETS / MODELS["avatars"].parts)
    assert parts.names == NAMES
    both, either = np.zeros(len(NAMES)), np.zeros(len(NAMES))
    for seed in range(HELD_OUT, HELD_OUT + 12):
        wanted = part_map(sample(seed))
        found = parts.label_map(to_pixels(np.asarray(render(sample(seed)))[None]))
        for k in range(len(NAMES)):
            both[k] += ((found == k) & (wanted == k)).sum()
            either[k] += ((found == k) | (wanted == k)).sum()
    overlap = dict(zip(NAMES, both / np.maximum(either, 1), strict=True))
    assert np.mean(list(overlap.values())) > 0.88, overlap
    assert min(overlap[name] for name in ("Background", "Skin", "Hair", "Clothes", "Eyes", "Mouth")) > 0.87, overlap


def test_the_loss_is_the_soft_overlap() -> None:
    """Written out with one map per part; 0 where the right part has all the probability."""
    rng = torch.Generator().manual_seed(0)
    logp = (3 * torch.randn(2, 4, 5, 6, generator=rng)).log_softmax(1)
    wanted = torch.randint(0, 3, (2, 5, 6), generator=rng)  # the last part is not there
    p, shares = logp.exp(), []
    for k in range(3):
        y = (wanted == k).float()
        shares.append((p[:, k] * y).sum() / (p[:, k] + y - p[:, k] * y).sum())
    torch.testing.assert_close(soft_overlap(logp, wanted), 1 - torch.stack(shares).mean())
    sure = torch.full((2, 4, 5, 6), -60.0).scatter(1, wanted[:, None], 0.0)
    assert soft_overlap(sure, wanted) < 1e-6


def test_overlaps_and_the_consistency_of_changed_portraits() -> None:
    """Of a network that is always right, and of one that always says the same."""

    class Exact:
        names = NAMES

        def label_maps(self, pixels: torch.Tensor) -> np.ndarray:
            return np.stack([known[picture.numpy().tobytes()] for picture in pixels])

    class Blind(Exact):
        def label_maps(self, pixels: torch.Tensor) -> np.ndarray:
            return np.zeros((len(pixels), 128, 128), int)

    portraits = [sample(HELD_OUT), *(varied(sample(HELD_OUT), **way) for way in WAYS)]
    images = np.stack([np.asarray(render(portrait)) for portrait in portraits])
    maps = np.stack([part_map(portrait) for portrait in portraits])
    known = {pixels.numpy().tobytes(): labels for pixels, labels in zip(to_pixels(images), maps, strict=True)}
    shown = {NAMES[k] for k in np.unique(maps)}
    exact = overlaps(Exact(), images, maps)  # type: ignore[arg-type]
    assert {name for name, value in exact.items() if value == 1} == shown
    blind = overlaps(Blind(), images, maps)  # type: ignore[arg-type]
    assert blind["Background"] == pytest.approx((maps == 0).mean())
    assert blind["Mouth"] == 0
    mean, error = consistency_errors(Exact(), 1)  # type: ignore[arg-type]
    assert error == 0
    assert 0.5 < mean < 1
    assert consistency_errors(Blind(), 1)[1] == pytest.approx(1 - mean)  # type: ignore[arg-type]


def test_parts_are_masks_at_the_pictures_size_and_models_may_have_none() -> None:
    pixels = to_pixels(np.asarray(render(sample(HELD_OUT), 256))[None])
    found = parts_of("avatars", pixels)
    assert {"Eyes", "Left eye", "Right eye", "Mouth", "Skin"} <= found.keys()
    assert all(mask.shape == (256, 256) and mask.dtype == bool for mask in found.values())
    whole = [mask.astype(int) for name, mask in found.items() if name in NAMES]
    assert sum(whole).max() == 1, "each pixel is of one part"
    areas = [mask.sum() for mask in found.values()]
    assert areas == sorted(areas)
    assert parts_of("ddpm-ema-church-256", pixels) == {}
    known = {
        name: ready_made_regions(name)["knows"] for name in ("avatars", "ddpm-ema-celebahq-256", "ddpm-ema-cat-256")
    }
    assert known == {"avatars": "own", "ddpm-ema-celebahq-256": "faces", "ddpm-ema-cat-256": "none"}


def test_what_the_board_is_told() -> None:
    """Names in the order of a list, and what is at a place; in words where there is nothing."""
    visit, pixels = Session("avatars"), to_pixels(np.asarray(render(sample(HELD_OUT)))[None])
    told = found_parts(visit, (pixels, None))
    labels = [part["label"] for part in told["found"]]
    assert labels.index("Eyes") + 1 == labels.index("Left eye") == labels.index("Right eye") - 1
    mouth = next(part for part in told["found"] if part["label"] == "Mouth")
    mask = from_url(mouth["mask"])
    assert mouth["area"] == mask.sum()
    y, x = np.argwhere(mask).mean(0) / 128
    at = found_at(visit, [x, y], (pixels, None))
    assert (at["label"], at["mask"], at["place"]) == ("Mouth", mouth["mask"], True)
    assert at["id"] > told["id"]
    for place, drawn, words in (([x], (pixels, None), "a point"), ([x, y], None, "no picture yet")):
        assert words in found_at(visit, place, drawn)["words"]  # type: ignore[arg-type]


def test_a_broken_folder_says_so(tmp_path: object) -> None:
    with pytest.raises(ModelUnavailable, match="install the app again"):
        load(str(tmp_path))
