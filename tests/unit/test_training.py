"""The trainings of the image-text model and the instruments: the losses, and runs of two processes that resume."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer

from core import clip, instruments
from tests.two_processes import run_in_two
from training import phrases, train_clip, train_instruments, variants
from training.augment import augment
from training.portraits import NAMES, sample, to_vector
from training.run import auc, one_cycle
from training.targets import CONTINUOUS, values, visible
from training.train_clip import contrast, directional, write_merges
from training.train_instruments import identity_loss

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("script", [train_clip, train_instruments], ids=["clip", "instruments"])
def test_two_processes_train_and_resume(script: ModuleType, tmp_path: Path) -> None:
    small = ["--images", "24", "--pairs", "24", "--held-out", "20", "--batch", "16", "--every", "2"]
    options = [*small, "--run", tmp_path / "run", "--out", tmp_path / "out"]
    run_in_two(script.main, tmp_path, *options, "--steps", "2")
    first = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert first["step"] == 2
    printed = run_in_two(script.main, tmp_path, *options, "--steps", "4", "--resume")
    assert "resumed at step 2" in printed
    second = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert second["step"] == 4
    assert any(not torch.equal(first["model"][k], second["model"][k]) for k in first["model"])
    assert "held-out portraits" in (tmp_path / "out" / "README.md").read_text()
    pixels = torch.zeros(2, 3, 128, 128)
    if script is train_clip:
        assert clip.load_embedded(tmp_path / "out").embed_images(pixels).isfinite().all()
    else:
        loaded = instruments.load(tmp_path / "out")
        assert set(loaded.attributes(pixels)) == set(loaded.known)


def test_contrast_accepts_every_true_caption() -> None:
    images = F.normalize(torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]]), dim=1)
    texts = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), dim=1)
    true = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    scale = torch.tensor(50.0)
    assert contrast(images, texts, true, scale) == pytest.approx(2 / 3 * np.log(2), abs=1e-2)
    apart = F.normalize(torch.tensor([[1.0, 0.3], [1.0, -0.3], [-1.0, 0.0]]), dim=1)  # what CLIP's diagonal would want
    diagonal = torch.eye(3, dtype=torch.bool)
    assert contrast(images, apart, diagonal, scale) < contrast(images, texts, diagonal, scale)
    assert contrast(images, apart, true, scale) > contrast(images, texts, true, scale)


def test_directional_loss_is_least_along_the_own_direction() -> None:
    directions, edits = torch.eye(4), torch.tensor([0, 2])
    before = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    right = directional(before, before + 0.3 * directions[edits], directions, edits, torch.tensor(40.0))
    wrong = directional(before, before + 0.3 * directions[edits + 1], directions, edits, torch.tensor(40.0))
    assert right < 1e-3 < 1 < wrong


def test_identity_loss_prefers_the_same_person() -> None:
    people = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    scale = torch.tensor(20.0)
    assert identity_loss(people, people, scale) < identity_loss(people, people.roll(1, 0), scale)


def test_captions_are_true_and_known_to_be() -> None:
    rng = np.random.default_rng(0)
    true = phrases.truth_table(np.stack([to_vector(sample(i)) for i in range(60)]))
    stated = [phrases.caption_rules(row, rng) for row in true]
    agree = phrases.agreement(true, stated)
    assert agree.diagonal().all()
    by_hand = [[all(true[i, r] for r in rules) for rules in stated] for i in range(60)]
    np.testing.assert_array_equal(agree, by_hand)
    assert not agree.all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_captions_read_like_text(share: float) -> None:
    rng = np.random.default_rng(1)
    glasses = next(i for i, rule in enumerate(phrases.RULES) if "spectacled" in rule.before)
    for _ in range(50):
        text = phrases.dressed(phrases.compose([glasses], rng), rng, share, share)
        assert any(word in text for word in ("spectacle", "glasses"))
        assert "  " not in text.strip()


def test_merges_split_the_captions_words_as_clip_does(tmp_path: Path) -> None:
    write_merges(tmp_path / "merges.txt.gz")
    short, full = SimpleTokenizer(bpe_path=str(tmp_path / "merges.txt.gz")), SimpleTokenizer()
    assert short.vocab_size < 5000
    for text in [*phrases.vocabulary(), "a smiling face with spectacles"]:
        assert [short.decoder[i] for i in short.encode(text)] == [full.decoder[i] for i in full.encode(text)]
    assert (tmp_path / "merges.txt.gz").read_bytes() == (
        ROOT / "presets/models/avatars/clip/merges.txt.gz"
    ).read_bytes()


def test_an_edit_changes_what_it_names_and_no_more() -> None:
    for seed in range(60):
        before, (after, index) = sample(seed), variants.edited(seed)
        edit = variants.EDITS[variants.EDIT_NAMES[index]]
        changed = {n for n, a, b in zip(NAMES, to_vector(before), to_vector(after), strict=True) if a != b}
        assert changed
        assert changed <= set(edit.change(before, lambda low, high: (low + high) / 2))
        assert not changed & set(variants.IDENTITY)


def test_the_same_person_keeps_only_the_identity() -> None:
    a, b = to_vector(sample(3)), to_vector(variants.same_person(3))
    kept = {n for n, p, q in zip(NAMES, a, b, strict=True) if p == q}
    assert set(variants.IDENTITY) <= kept
    assert not kept & {"smile", "skin", "gaze", "tilt"}


def test_what_cannot_be_seen_is_not_asked() -> None:
    closed = np.stack([to_vector(variants.replace(sample(0), eye_open=0.0))])
    names = (*CONTINUOUS, "iris")
    hidden = {n for n, seen in zip(names, visible(closed, names)[0], strict=True) if not seen}
    assert {"gaze", "gaze_y", "iris"} <= hidden
    assert values(closed, ("eye_open",))[0, 0] == 0


def test_copies_are_augmented_alike_and_runs_repeat() -> None:
    x = torch.rand(4, 3, 32, 32) * 2 - 1
    pairs = augment(torch.cat([x, x]), torch.Generator().manual_seed(3), copies=2)
    torch.testing.assert_close(*pairs.chunk(2))
    torch.testing.assert_close(pairs, augment(torch.cat([x, x]), torch.Generator().manual_seed(3), copies=2))
    alone = augment(torch.cat([x, x]), torch.Generator().manual_seed(3))
    assert (alone[:4] - alone[4:]).abs().max() > 0.1


def test_learning_rate_rises_and_falls() -> None:
    rates = [one_cycle(f, 1.0) for f in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(1.0, abs=0.02)
    assert 3 <= int(np.argmax(rates)) <= 10
    assert rates[-1] == pytest.approx(0.01)


def test_auc() -> None:
    assert auc(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])) == 1
    assert auc(np.array([0.9, 0.2, 0.8, 0.1]), np.array([False, False, True, True])) == 0.25
    assert np.isnan(auc(np.array([0.1]), np.array([True])))


def test_configuration_is_a_genuine_open_clip_one() -> None:
    import open_clip

    folder = ROOT / "presets/models/avatars/clip"
    config = json.loads((folder / "open_clip_config.json").read_text())
    model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    assert isinstance(model, open_clip.CustomTextCLIP)
    assert model.vocab_size == config["model_cfg"]["text_cfg"]["vocab_size"]
