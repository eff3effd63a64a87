"""`/open_model`, called the way a program calls it: a model of its own, then named like a listed one."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from core.models import known_outputs
from core.models.known_outputs import published
from tabs.opening import NOT_COMPARED
from tests.unit.hub_stand_in import stand_in
from tests.unit.model_folders import opened_models_closed
from tests.unit.small_models import small_unet


@pytest.fixture(autouse=True)
def own_world() -> Iterator[None]:
    """What is opened here is closed again."""
    with opened_models_closed():
        yield


def test_open_a_folder_and_sample_from_it(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my cats"
    DDPMPipeline(small_unet(channels=3, size=32), DDPMScheduler()).save_pretrained(folder)
    about = client.predict(str(folder), "cat", api_name="/open_model")
    assert (about["title"], about["resolution"], about["h_shape"]) == ("my cats", 32, [32, 8, 8])
    assert (about["shows"], about["revision"], about["curves_known"]) == ("cat", None, False)
    assert (about["verdict"], about["verdict_words"]) == ("unknown", NOT_COMPARED)
    path, _ = client.predict(seed=1, steps=4, model=about["id"], api_name="/sample")
    assert Image.open(path).size == (32, 32)
    with pytest.raises(AppError, match="there is no such folder here"):
        client.predict(str(tmp_path / "nothing"), api_name="/open_model")
    monkeypatch.setenv("SPACE_ID", "somebody/app")  # where others may ask, folders are nobody's business
    with pytest.raises(AppError, match="is no repository of the Hub"):
        client.predict(str(folder), api_name="/open_model")


@pytest.mark.parametrize(("off", "outcome"), [(0.0, "pass"), (0.1, "fail")])
def test_what_is_opened_is_compared_with_its_published_outputs(
    off: float, outcome: str, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worked out here for a network of the Hub; one value of them is off."""
    unet = small_unet(channels=3, size=32)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        row = unet(x, 10).sample[0, 0, 0, :30]
    row[3] += off
    content = published()
    content["outputs"]["someone/cats"] = row.tolist()
    monkeypatch.setattr(known_outputs, "published", lambda: content)
    monkeypatch.setenv("HSPACE_CACHE", str(tmp_path / "kept"))
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "cats")
    with stand_in(monkeypatch) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        files = [path for path in (tmp_path / "cats").rglob("*") if path.is_file()]
        hub.repository("someone/cats", {p.relative_to(tmp_path / "cats").as_posix(): p.read_bytes() for p in files})
        about = client.predict("someone/cats", "cat", api_name="/open_model")
    assert about["verdict"] == outcome
    assert f"{'gives' if outcome == 'pass' else 'does not give'} the published outputs" in about["verdict_words"]
    assert "of someone/cats (largest difference" in about["verdict_words"]
