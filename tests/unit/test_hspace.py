"""The command line: what people do with presets outside the app, its messages and its exit codes."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from hub_stand_in import StandIn, stand_in
from PIL import Image
from small_models import small_card, small_unet
from test_released import state
from torch.nn import functional as F

import hspace
from core import presets
from core.directions import GlobalDirection
from core.hub import files as hub_files
from core.imaging import to_pil
from core.models import cards, loader
from core.models.loader import Loader
from core.photo import yunet
from core.presets import Preset
from core.progress import finish
from core.studio import effect, library, measuring
from core.studio.edit import edit_frames, what_is_assumed
from core.studio.frames import EditOptions
from tabs.visit import preset_items
from tests.photographs import stand_in as faces_stand_in
from tests.photographs import with_faces

TOKEN = "hf_SecretSecretSecret"
REPO = "me/directions"


def preset(name: str = "Smiling", **values: object) -> Preset:
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 120, 40)).save(picture, "WEBP")
    delta = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(3))
    known = {"model": "small", "fingerprint": "f" * 16, "measured": {"smile": 0.75}, "thumbnail": picture.getvalue()}
    return Preset(GlobalDirection(delta, 40), name=name, **(known | {"t_edit": 300, "t_boost": 0} | values))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    hub_files.DESCRIBED.clear()
    with stand_in(monkeypatch) as running:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
        running.accounts[TOKEN] = "me"
        yield running


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A small model beside the others; its fingerprint."""
    small_unet().save_pretrained(tmp_path / "model" / "unet")
    (tmp_path / "model" / "scheduler").mkdir()
    (tmp_path / "model" / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    known = {"small": replace(small_card("small", str(tmp_path / "model")), instruments="nowhere")}
    monkeypatch.setitem(cards.MODELS, "small", known["small"])
    models = Loader(known, device="cpu", dtype=torch.float32)
    monkeypatch.setattr(measuring, "models", models)
    monkeypatch.setattr("core.models.loader.models", models)
    return models.get("small").fingerprint


def run(*arguments: object) -> int:
    return hspace.main([str(argument) for argument in arguments])


# ------------------------------------------------------------------------------------------------------ list and show


def test_list_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    presets.save(preset(), tmp_path / "b.safetensors")
    presets.save(preset("Angry"), tmp_path / "a.safetensors")
    (tmp_path / "c.safetensors").write_text("rubbish")
    assert run("list", tmp_path) == 0
    head, angry, smiling = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "MODEL", "KIND", "METHOD", "WEIGHTS", "MEASURED", "WHERE"]
    assert smiling.split()[:7] == ["Smiling", "small", "global", "asyrp", "exact", "smile", "0.75"]
    assert smiling.endswith("b.safetensors")
    assert angry.index("small") == head.index("MODEL")
    assert run("list", tmp_path, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed] == ["Angry", "Smiling"]
    assert listed[0]["thumbnail"] == "32x32"


def test_list_what_comes_with_the_app(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert all(known.name in listed for known in library.shipped("avatars").values())


def test_list_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", tmp_path / "nowhere") == 1
    assert "nowhere is not a folder" in capsys.readouterr().err
    assert run("list", tmp_path, "--hub", REPO) == 1
    assert "not both" in capsys.readouterr().err


def test_list_a_folder_without_presets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", tmp_path) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"No presets were found in {tmp_path}.\n")
    assert run("list", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = presets.save(preset(description="Raises the corners\nof the mouth."), tmp_path / "a.safetensors")
    assert run("show", path, "--thumbnail", tmp_path / "thumb.png") == 0
    shown = capsys.readouterr().out
    assert "kind            global" in shown
    assert "description     Raises the corners\n                of the mouth." in shown
    assert "author" not in shown, "nothing is said of what is not known"
    assert Image.open(tmp_path / "thumb.png").size == (32, 32)
    assert run("show", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["measured"] == {"smile": 0.75}
    assert run("show", path, "--thumbnail", tmp_path / "thumb.png") == 1
    assert "there already" in capsys.readouterr().err


def test_show_what_is_no_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.safetensors").write_text("rubbish")
    assert run("show", tmp_path / "a.safetensors") == 1
    assert f"hspace show: {tmp_path}/a.safetensors: this is not a usable preset file" in capsys.readouterr().err
    assert run("show", tmp_path / "b.safetensors") == 1
    assert f"hspace show: {tmp_path}/b.safetensors: this preset file could not be read" in capsys.readouterr().err
    assert run("show", tmp_path) == 1
    assert f"hspace show: {tmp_path}: this preset file could not be read" in capsys.readouterr().err
    assert run("publish", REPO, tmp_path / "b.safetensors") == 1
    assert f"hspace publish: {tmp_path}/b.safetensors: this preset file could not be read" in capsys.readouterr().err
    assert run("show", "no such direction") == 1
    assert "There is no direction “no such direction”" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- import-asyrp


def test_import_for_a_model_that_is_here(small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"0": state("ddpm++", channels=32, width=64)}, tmp_path / "smiling.pth")
    out = tmp_path / "smiling.safetensors"
    arguments = ("import-asyrp", tmp_path / "smiling.pth", out, "--model", "small", "--name", "Smiling")
    texts = ("--source-text", "face", "--target-text", "smiling face", "--t-edit", 513)
    assert run(*arguments, *texts) == 0
    assert capsys.readouterr().out.strip() == str(out)
    read = presets.load(out)
    assert (read.name, read.model, read.fingerprint) == ("Smiling", "small", small)
    assert (read.source_text, read.target_text, read.t_edit, read.t_boost) == ("face", "smiling face", 513, None)
    assert (read.direction.kind, read.direction.steps) == ("implicit", 40)
    before = out.read_bytes()
    assert run(*arguments) == 1
    assert "add --force" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert run(*arguments, "--force") == 0
    assert "not known whether it was made for these weights" in capsys.readouterr().err
    assert presets.load(out).certainty == "unknown"  # nobody was there to be asked
    assert run(*arguments, "--force", "--weights", "claimed") == 0
    assert presets.load(out).certainty == "claimed"
    assert run(*arguments, "--force", "--measure") == 1
    assert "give both of them" in capsys.readouterr().err
    assert presets.load(out).certainty == "claimed", "what could not be measured replaces nothing"


class Brightness:
    """Stands in for CLIP: of pictures it sees how bright they are, and of texts whether they say bright or dark."""

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor:
        bright = 5 * pixels.mean((1, 2, 3))
        return torch.stack([bright, torch.ones_like(bright)], 1)

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float("bright" in text) - float("dark" in text), 1.0] for text in texts])


@pytest.fixture
def brightening(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """The command for a file of the authors' form, whose shift makes the small model's pictures brighter."""
    monkeypatch.setattr(measuring, "_image_text", lambda card: Brightness())
    model = loader.models.get("small")
    x = torch.randn(4, *model.x_shape, generator=torch.Generator().manual_seed(0))
    h = model.features(x, 800).h.detach()
    delta = torch.zeros(1, *h.shape[1:], requires_grad=True)
    eps = model.eps(model.features(x, 800), x, 800, delta)
    pixels = model.codec.decode(model.schedule.predicted_x0(x, eps, 800))
    (uphill,) = torch.autograd.grad(pixels.mean(), delta)
    content = state("ddpm++", channels=32, width=64)
    content["conv2.weight"] = torch.zeros_like(content["conv2.weight"])  # the same shift of h everywhere
    content["conv2.bias"] = 2 * F.normalize(uphill.mean((0, 2, 3)), dim=0)
    torch.save({"0": content}, tmp_path / "bright.pth")
    texts = ("--source-text", "a dark picture", "--target-text", "a bright picture")
    return ("import-asyrp", tmp_path / "bright.pth", tmp_path / "out.safetensors", "--model", "small") + (
        ("--name", "Bright", "--force") + texts
    )


def test_import_measures_the_effect_on_the_weights_at_hand(
    brightening: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It rises with the strength and is kept with the preset; with the texts the other way round it does not."""
    assert run(*brightening, "--measure") == 0
    printed = capsys.readouterr()
    assert "It works with these weights" in printed.err
    assert printed.out.strip() == str(tmp_path / "out.safetensors")
    made = presets.load(tmp_path / "out.safetensors")
    assert made.certainty == "unknown", "what was measured is another thing than whose weights they were"
    assert made.measured[presets.OWN_CHANGE] > effect.MIN_CHANGE
    assert made.measured[presets.MONOTONE] == presets.works(made) == 1
    card, options = loader.models.get("small").card, EditOptions(t_edit=500, t_boost=0)
    assert what_is_assumed(card, made, options) == ()
    [item] = preset_items("small", {"own-1": made})
    change = made.measured[presets.OWN_CHANGE]
    assert item["about"].endswith(f"it does what its texts say (own change by CLIP {change:+.3f}).")

    assert run(*brightening, "--measure", "--weights", "claimed") == 0
    assert presets.load(tmp_path / "out.safetensors").certainty == "claimed"
    capsys.readouterr()


def test_what_was_measured_not_to_work_is_saved_only_by_force(
    brightening: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And then as of unknown weights, whatever was claimed; edits by it say what was measured."""
    opposite = ("--measure", "--weights", "claimed", "--source-text", "a bright picture", "--target-text")
    opposite += ("a dark picture",)
    assert run(*(word for word in brightening if word != "--force"), *opposite) == 1
    said = capsys.readouterr()
    assert "does not rise with its strength" in said.err
    assert "Add --force to save it all the same" in said.err
    assert said.out == ""
    assert not (tmp_path / "out.safetensors").exists()

    assert run(*brightening, *opposite) == 0
    assert "does not rise with its strength" in capsys.readouterr().err
    made = presets.load(tmp_path / "out.safetensors")
    assert made.certainty == "unknown"
    assert made.measured[presets.OWN_CHANGE] < 0
    assert made.measured[presets.MONOTONE] == presets.works(made) == 0
    card, options = loader.models.get("small").card, EditOptions(t_edit=500, t_boost=0)
    [words] = what_is_assumed(card, made, options)
    assert words.startswith(
        "Bright: Measured with these weights, it does not do what its texts say (own change by CLIP -"
    )


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Somebody types this there."""
    keyboard = io.StringIO(typed)
    for stream in (keyboard, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", keyboard)


@pytest.mark.parametrize(
    ("answers", "certainty", "measured"),
    [("y", "claimed", False), ("n n", "unknown", False), (" yes", "unknown", True), ("no Y", "unknown", True)],
)
def test_import_asks_at_a_terminal(
    answers: str,
    certainty: str,
    measured: bool,
    brightening: tuple[object, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whose weights it was trained with, and if that is not known, whether to measure it; enter alone is no."""
    at_a_terminal(monkeypatch, "".join(f"{answer}\n" for answer in answers.split(" ")))
    monkeypatch.setattr(effect, "PICTURES", 2)
    assert run(*brightening) == 0
    said = capsys.readouterr().err
    assert "trained with exactly the weights of small that are here? [y/N]" in said
    assert ("Measure its effect on these weights now? [y/N]" in said) == (certainty == "unknown")
    assert ("own change by CLIP" in said) == measured
    assert ("--measure shows whether it works" in said) == (certainty == "unknown" and not measured)
    made = presets.load(tmp_path / "out.safetensors")
    assert made.certainty == certainty
    assert (presets.OWN_CHANGE in made.measured) == measured


def test_import_for_a_model_that_is_not_here(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state("adm"), tmp_path / "dog.pth")
    out = tmp_path / "dog.safetensors"
    arguments = ("import-asyrp", tmp_path / "dog.pth", out, "--name", "Happy dog", "--model")
    assert run(*arguments, "afhq-dog") == 1
    assert "There is no model 'afhq-dog'" in capsys.readouterr().err
    assert run(*arguments, "small") == 1
    assert "does not have the shape that small needs" in capsys.readouterr().err
    monkeypatch.setattr("core.models.folders.hub_answers", lambda: False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    loader.models.cards["far"] = replace(small_card("far"), source=cards.Hub("someone/far"))
    assert run(*arguments, "far") == 1
    assert "has to be downloaded once" in (words := capsys.readouterr().err)
    assert "--fingerprint" in words
    assert not out.exists()
    for wrong in ("zzz", "", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg"):
        assert run(*arguments, "afhq-dog", "--fingerprint", wrong) == 1
        assert f"A fingerprint is 16 hex digits (0-9, a-f), not {wrong!r}" in capsys.readouterr().err
    assert not out.exists()
    assert run(*arguments, "afhq-dog", "--fingerprint", "0123456789ABCDEF") == 0
    assert (presets.load(out).model, presets.load(out).fingerprint) == ("afhq-dog", "0123456789abcdef")
    assert presets.load(out).certainty == "unknown", "nobody was there to be asked"
    given = (*arguments, "afhq-dog", "--fingerprint", "0123456789abcdef", "--force")
    assert run(*given, "--weights", "claimed") == 0
    assert presets.load(out).certainty == "claimed"
    capsys.readouterr()
    for answer, certainty in (("y", "claimed"), ("", "unknown")):
        at_a_terminal(monkeypatch, f"{answer}\n")
        assert run(*given) == 0
        assert "with exactly the weights of afhq-dog with the fingerprint 0123456789abcdef?" in capsys.readouterr().err
        assert presets.load(out).certainty == certainty


# ------------------------------------------------------------------------------------------------------------- the Hub


def test_publish_list_and_download(served: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [presets.save(preset(name), tmp_path / f"{name}.safetensors") for name in ("Smiling", "Sad")]
    assert run("publish", REPO, *files, "--author", "Jo", "--licence", "cc0-1.0") == 0
    *paths, address = capsys.readouterr().out.splitlines()
    assert paths == ["directions/small/smiling.safetensors", "directions/small/sad.safetensors"]
    commit = served.repositories[REPO].head
    assert address == f"{served.address}/{REPO} at {commit}"

    assert run("list", "--hub", REPO) == 0
    printed = capsys.readouterr()
    assert commit in printed.err
    assert [line.split()[0] for line in printed.out.splitlines()] == ["NAME", "Sad", "Smiling"]

    assert run("download", REPO, "--out", tmp_path / "here") == 0
    assert sorted(capsys.readouterr().out.split()) == [
        str(tmp_path / "here" / f"{n}.safetensors") for n in ("sad", "smiling")
    ]
    read = presets.load(tmp_path / "here" / "sad.safetensors")
    assert (read.name, read.author, read.licence) == ("Sad", "Jo", "cc0-1.0")
    assert torch.equal(read.direction.delta, preset().direction.delta)

    assert run("list", "--hub", REPO, "--offline") == 0
    assert f"smiling.safetensors@{commit[:8]}" in capsys.readouterr().out
    assert run("download", REPO, paths[0], "--revision", commit, "--out", tmp_path / "here") == 1
    assert "there already" in capsys.readouterr().err
    assert run("download", REPO, paths[0], "--revision", commit, "--out", tmp_path / "here", "--force") == 0
    assert TOKEN not in "".join(capsys.readouterr())


def test_one_name_in_two_folders(served: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = presets.to_bytes(preset())
    served.repository(REPO, {"a/x.safetensors": data, "b/x.safetensors": presets.to_bytes(preset("Other"))})
    assert run("download", REPO, "--out", tmp_path / "here") == 0
    names = {presets.load(path).name for path in (tmp_path / "here").iterdir()}
    assert names == {"Smiling", "Other"}


def test_the_hub_says_no(
    served: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = presets.save(preset(), tmp_path / "a.safetensors")
    assert run("list", "--hub", "me/nothing") == 1
    assert "There is no me/nothing on the Hub" in capsys.readouterr().err
    assert run("download", "not a name", "--out", tmp_path) == 1
    assert "owner/name" in capsys.readouterr().err
    assert run("publish", "stranger/x", path) == 1
    assert "may not do that" in capsys.readouterr().err
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert run("publish", REPO, path) == 1
    assert "needs a token with write access: log in" in capsys.readouterr().err
    assert REPO not in served.repositories


def test_a_strangers_names_cannot_steer_the_terminal(served: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    served.repository(REPO, {"\x1b[2Jx.safetensors": b"rubbish", "a.safetensors": presets.to_bytes(preset("\x1b[2Jx"))})
    assert run("list", "--hub", REPO) == 0
    assert "\x1b" not in "".join(capsys.readouterr())


# --------------------------------------------------------------------------------------------------------------- apply


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 255, (80, 64, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def test_apply(small: str, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = preset(fingerprint=small, strength=2.0)
    path = presets.save(made, tmp_path / "a.safetensors")
    assert run("apply", path, picture, tmp_path / "out.png", "--steps", 6) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out.png")
    model = loader.models.get("small")
    job = edit_frames(model, library.open_picture(picture, "small"), made, [2.0], EditOptions(steps=6))
    expected = np.asarray(to_pil(finish(job)[0].pixels)[0], dtype=int)
    written = np.asarray(Image.open(tmp_path / "out.png"), dtype=int)
    assert np.abs(written - expected).max() <= 1, "the suggested strength is the default"

    assert run("apply", path, picture, tmp_path / "zero.webp", "--steps", 6, "--strength", 0, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["strength"], said["out"]) == (0, str(tmp_path / "zero.webp"))
    zero = np.asarray(Image.open(tmp_path / "zero.webp").convert("RGB"), dtype=int)
    assert np.abs(zero - expected).mean() > 3
    assert {path.name for path in tmp_path.iterdir()} >= {"out.png", "zero.webp"}
    assert not list(tmp_path.glob(".hspace-*"))


def test_apply_to_a_photograph(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A face is found, or the square is told in numbers, and the whole photograph is written."""
    monkeypatch.setattr(yunet, "load", lambda: faces_stand_in)
    photo, [face] = with_faces((400, 300), (230.0, 150.0, 200, 20))
    photo.save(tmp_path / "photo.png")
    path = presets.save(preset(fingerprint=small), tmp_path / "a.safetensors")
    points = ",".join(f"{value:.2f}" for point in (face.left_eye, face.right_eye, face.mouth) for value in point)

    def applied(placement: str, *more: object) -> dict[str, Any]:
        given = (path, tmp_path / "photo.png", tmp_path / "out.png", "--steps", 4, "--strength", 3, "--json", "--force")
        assert run("apply", *given, f"--placement={placement}", *more) == 0
        return json.loads(capsys.readouterr().out)["placement"]

    found = applied("face")
    assert Image.open(tmp_path / "out.png").size == (32, 32)
    assert applied(points, "--returned", "photo") == pytest.approx(found, rel=0.05)
    written, original = (np.asarray(Image.open(tmp_path / name), int) for name in ("out.png", "photo.png"))
    assert written.shape == original.shape
    x, y = np.meshgrid(np.arange(400) + 0.5, np.arange(300) + 0.5)
    away = np.hypot(x - found["x"], y - found["y"]) > found["side"] * 0.72
    assert not (written != original)[away].any()
    assert (written != original).any(-1).mean() > 0.02
    assert applied("200,150,100,10") == {"x": 200, "y": 150, "side": 100, "angle": 10}
    given = (path, tmp_path / "photo.png", tmp_path / "none.png", "--placement", "middle")
    assert run("apply", *given) == 1
    assert "'middle' is not understood" in capsys.readouterr().err


def test_apply_says_what_is_wrong_before_it_works(
    small: str, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = preset(fingerprint=small)
    path = presets.save(made, tmp_path / "a.safetensors")
    other = presets.save(replace(made, model="zebras"), tmp_path / "b.safetensors")
    stale = presets.save(replace(made, fingerprint="0" * 16), tmp_path / "c.safetensors")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    out = tmp_path / "out.png"
    for arguments, words in (
        ((path, picture, tmp_path / "out.txt"), "has to end in .png"),
        ((path, picture, picture), "there already"),
        ((path, text, out), "not a picture that can be read"),
        ((path, tmp_path / "nothing.png", out), f"{tmp_path}/nothing.png: this file could not be read"),
        ((path, tmp_path, out), f"{tmp_path}: this file could not be read"),
        ((tmp_path / "nothing.safetensors", picture, out), "nothing.safetensors: this preset file could not be read"),
        ((tmp_path, picture, out), f"{tmp_path}: this preset file could not be read"),
        ((other, picture, out), "made for the model zebras, which this app does not have"),
        ((stale, picture, out), "other weights of small"),
        ((path, picture, out, "--strength", "1e9"), "strength must lie between"),
        ((path, picture, out, "--strength", "nan"), "strength must lie between"),
        ((path, picture, out, "--steps", "1"), "steps must lie between"),
        (("no such direction", picture, out), "There is no direction"),
    ):
        assert run("apply", *arguments) == 1
        assert words in capsys.readouterr().err
    assert not out.exists()


# ---------------------------------------------------------------------------------------------------------- exit codes


def test_a_command_that_is_not_understood(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("dance",), ("apply", "a"), ("apply", "a", "b", "c", "--steps", "many")):
        with pytest.raises(SystemExit) as caught:
            run(*arguments)
        assert caught.value.code == 2
        assert "usage: hspace" in capsys.readouterr().err


def test_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(presets, "shelf", interrupt)
    assert run("list", tmp_path) == 130


def test_help_needs_nothing_heavy() -> None:
    ran = "import sys, hspace; hspace.parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", ran], cwd=Path(hspace.__file__).parent).returncode == 0
