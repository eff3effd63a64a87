"""What a recipe made, on the Hub in one commit; and when the Hub goes away in the middle."""

import io
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hub_stand_in import StandIn, stand_in
from PIL import Image

from core import hub, hub_access, presets
from core.cli import main
from core.directions import GlobalDirection
from core.errors import HubError, RecipeError, RequestError
from core.hub import files as hub_files
from core.presets import Preset
from core.progress import finish
from core.recipes.published import folder_and_target, publish_folder

TOKEN, REPO = "hf_writer", "me/faces"
RECIPE = (
    "model: avatars\noutput: made\ndirections: {smiling: {source: face, target: smiling face}}\npublish: me/faces\n"
)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    hub_files.DESCRIBED.clear()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    with stand_in(monkeypatch) as running:
        running.accounts[TOKEN] = "me"
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As `precompute` leaves it: two presets with their figures, the recipe, and hidden files."""
    (tmp_path / "faces.yaml").write_text(RECIPE)
    made = tmp_path / "made"
    strip = io.BytesIO()
    Image.new("RGB", (64, 16), (10, 100, 200)).save(strip, "WEBP")
    for name in ("Smiling", "Sad"):
        direction = GlobalDirection(torch.randn(1, 8, 4, 4), 40)
        preset = Preset(
            direction=direction, name=name, model="avatars", fingerprint="0" * 16, measured={"own_change": 1.5}
        )
        presets.save(preset, made / "directions" / "avatars" / presets.file_name(name))
        figure = made / "figures" / "avatars" / f"{name.lower()}.webp"
        figure.parent.mkdir(parents=True, exist_ok=True)
        figure.write_bytes(strip.getvalue())
    (made / "recipe.yaml").write_text(RECIPE)
    (made / "measures.csv").write_text("path,name\n")
    (made / ".work").mkdir()
    (made / ".work" / "secret").write_text("x")
    return made


def test_everything_goes_in_one_commit_and_can_be_browsed(served: StandIn, folder: Path) -> None:
    published = finish(publish_folder(folder, REPO, TOKEN))
    commits = served.repositories[REPO].commits
    assert len(commits) == 2, "one commit after that of the new repository"
    _, files = commits[-1]
    assert sorted(files) == [
        ".gitattributes",
        "README.md",
        "directions/avatars/sad.safetensors",
        "directions/avatars/smiling.safetensors",
        "figures/avatars/sad.webp",
        "figures/avatars/smiling.webp",
        "measures.csv",
        "recipe.yaml",
    ]
    card = files["README.md"].decode()
    assert "![Smiling](figures/avatars/smiling.webp)" in card
    assert "own&#95;change 1.5" in card
    assert [entry.about.name for entry in hub.browse(REPO).entries] == ["Sad", "Smiling"]
    assert published.revision == commits[-1][0]


def test_the_command(served: StandIn, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", str(folder)]) == 0
    assert f"{served.address}/{REPO} at " in capsys.readouterr().out
    assert main(["publish", str(folder.parent / "faces.yaml"), "--repo", "me/others"]) == 0
    assert len(served.repositories["me/others"].commits) == 2
    assert main(["publish", str(folder), "--author", "Jo"]) == 1
    assert "stand in the recipe" in capsys.readouterr().err
    (folder / "recipe.yaml").unlink()
    assert main(["publish", str(folder)]) == 1
    assert "Say where it goes: --repo OWNER/NAME" in capsys.readouterr().err
    assert main(["publish", str(folder.parent / "nowhere")]) == 1
    assert "neither a folder of results nor a recipe" in capsys.readouterr().err


def test_a_hub_that_goes_away_in_the_middle(
    served: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub_access, "ANSWER_TIMEOUT", 2.0)
    uploaded = huggingface_hub.HfApi.preupload_lfs_files
    calls = []

    def cut(*arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            served.status = 503
        uploaded(*arguments, **options)

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.HfApi, "preupload_lfs_files", cut)
        assert main(["publish", str(folder)]) == 1
    said = capsys.readouterr().err
    assert "Nothing is lost: give the same command again, and it goes on." in said
    assert len(served.repositories[REPO].commits) == 1, "nobody sees half of it"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    served.status = None
    sent = len(served.uploads)
    assert sent == 1
    assert main(["publish", str(folder)]) == 0
    assert len(served.repositories[REPO].commits) == 2
    assert [entry.about.name for entry in hub.browse(REPO).entries] == ["Sad", "Smiling"]


def test_a_hub_that_cannot_be_reached_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot be reached"):
        finish(publish_folder(folder, REPO, TOKEN))


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="There are no presets in"):
        finish(publish_folder(tmp_path, REPO, TOKEN))
    (tmp_path / "bad.yaml").write_text("model: avatars\n")
    with pytest.raises(RecipeError, match="bad.yaml, line 1, directions: is missing"):
        folder_and_target(tmp_path / "bad.yaml")
