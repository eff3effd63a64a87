"""Published outputs: the comparison says pass, fail or unknown, also at the first load; and the real weights, where
they are."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from hub_stand_in import StandIn, stand_in
from small_models import small_card, small_unet

from core import kept_on_disk
from core.cli import main
from core.models import known_outputs
from core.models.cards import MODELS, Hub
from core.models.known_outputs import compare, first_row, published, verdict_on
from core.models.loader import load
from core.models.reading import in_cache

REPO = "someone/pictures"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSPACE_CACHE", str(tmp_path / "kept"))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The file, with the outputs of a small network among them, worked out here."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        row = small_unet(channels=3, size=32)(x, 10).sample[0, 0, 0, :30]
    content = published()
    content["outputs"][REPO] = [round(value, 4) for value in row.tolist()]
    monkeypatch.setattr(known_outputs, "published", lambda: content)
    return content


def test_the_file_has_a_source_and_listed_models() -> None:
    content = published()
    assert "generate_logits" in content["source"]
    listed = {card.source.repo for card in MODELS.values() if isinstance(card.source, Hub)}
    assert listed <= content["outputs"].keys()
    assert all(len(row) == 30 for row in content["outputs"].values())


def test_pass_fail_and_unknown(known: dict[str, Any]) -> None:
    right, wrong = small_unet(channels=3, size=32), small_unet(channels=3, size=32, seed=1)
    verdict = compare(right, REPO)
    assert (verdict.outcome, verdict.repo) == ("pass", REPO)
    assert verdict.error is not None
    assert verdict.error < 1e-4
    verdict = compare(wrong, REPO)
    assert verdict.outcome == "fail"
    assert "does not give the published outputs of someone/pictures" in verdict.words
    assert compare(right, "someone/else").outcome == "unknown"
    # Whose weights they are is found out.
    assert (compare(right, None).outcome, compare(right, None).repo) == ("pass", REPO)
    assert compare(wrong, None).outcome == "unknown"
    # Too narrow a network is another one, and numbers that are none are no success.
    assert compare(small_unet(channels=3, size=16), REPO).outcome == "fail"
    torch.nn.init.constant_(right.conv_out.bias, torch.nan)
    assert compare(right, REPO).outcome == "fail"


def test_half_precision_and_a_changed_weight_are_seen(known: dict[str, Any]) -> None:
    unet = small_unet(channels=3, size=32)
    with torch.no_grad():
        unet.conv_in.weight[0, 0, 1, 1] += 0.1
    assert compare(unet, REPO).outcome == "fail"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    made = tmp_path / "made"
    DDPMPipeline(small_unet(channels=3, size=32), DDPMScheduler()).save_pretrained(made)
    with stand_in(monkeypatch) as hub:
        hub.repository(REPO, {p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file()})
        yield hub


def test_the_first_load_is_checked_once(
    served: StandIn, known: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(small_card("hub", codec="identity"), source=Hub(REPO))
    model = load(card, "cpu", torch.bfloat16, tmp_path / "cache")
    verdict = verdict_on(model.fingerprint)
    assert verdict is not None
    assert verdict.outcome == "pass"
    monkeypatch.setattr(known_outputs, "compare", lambda *_: pytest.fail("compared again"))
    load(card, "cpu", torch.bfloat16, tmp_path / "cache")


def test_a_failed_check_is_said_and_stops_nothing(
    served: StandIn, known: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    known["outputs"][REPO][0] += 0.1
    card = replace(small_card("hub", codec="identity"), source=Hub(REPO))
    model = load(card, "cpu", torch.float32, tmp_path / "cache")
    verdict = verdict_on(model.fingerprint)
    assert verdict is not None
    assert verdict.outcome == "fail"
    assert "does not give the published outputs" in caplog.text

    def breaks(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(known_outputs, "compare", breaks)
    monkeypatch.setenv("HSPACE_CACHE", str(tmp_path / "another"))
    assert load(card, "cpu", torch.float32, tmp_path / "cache").fingerprint == model.fingerprint


def test_the_command(known: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for seed, name in enumerate(("right", "wrong")):
        DDPMPipeline(small_unet(channels=3, size=32, seed=seed), DDPMScheduler()).save_pretrained(tmp_path / name)
    assert main(["verify", str(tmp_path / "right")]) == 0
    printed = capsys.readouterr()
    assert printed.out == "pass\n"
    assert REPO in printed.err
    assert main(["verify", str(tmp_path / "wrong")]) == 0
    assert capsys.readouterr().out == "unknown\n"
    assert main(["verify", str(tmp_path / "wrong"), "--as", REPO, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "fail"
    assert main(["verify", str(tmp_path / "nothing")]) == 1


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_on_disk, "MAX_NOTES", 400)
    for n in range(20):
        kept_on_disk.keep("verdict", f"{n:016x}", {"text": "x" * 80})
    assert sum(path.stat().st_size for path in kept_on_disk.folder().iterdir()) <= 400
    assert kept_on_disk.recall("verdict", f"{19:016x}") == {"text": "x" * 80}
    assert kept_on_disk.recall("verdict", f"{0:016x}") is None
    with pytest.raises(ValueError, match="cannot be kept"):
        kept_on_disk.keep("verdict", "../../../etc/x", {})
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HSPACE_CACHE", str(tmp_path / "file"))
    kept_on_disk.keep("verdict", "0" * 16, {})  # a disk that refuses is no error


@pytest.mark.parametrize("repo", published()["outputs"])
def test_the_real_weights(repo: str) -> None:
    """Runs where they were downloaded."""
    folder = in_cache(repo, "main")
    if folder is None:
        pytest.skip(f"the weights of {repo} are not here (open the model once to download them)")
    from core.models.reading import read_pipeline

    unet, _ = read_pipeline(folder)
    expected = torch.tensor(published()["outputs"][repo])
    assert torch.allclose(first_row(unet.eval())[:30], expected, atol=1e-3)
