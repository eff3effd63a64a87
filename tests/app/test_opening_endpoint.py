"""`/open_model`, called the way a program calls it: a model of its own, then named like a listed one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from diffusers import DDPMPipeline, DDPMScheduler
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

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
    path, _ = client.predict(seed=1, steps=4, model=about["id"], api_name="/sample")
    assert Image.open(path).size == (32, 32)
    with pytest.raises(AppError, match="there is no such folder here"):
        client.predict(str(tmp_path / "nothing"), api_name="/open_model")
    monkeypatch.setenv("SPACE_ID", "somebody/app")  # where others may ask, folders are nobody's business
    with pytest.raises(AppError, match="is no repository of the Hub"):
        client.predict(str(folder), api_name="/open_model")
