"""The endpoints of composing, called the way a program calls them."""

import json
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from core.studio import library

FAST = 10  # steps that are enough to see that it works
FIRST, SECOND = list(library.shipped("avatars").values())[:2]


def compose(client: Client, strengths: dict[str, float]) -> tuple[np.ndarray, dict[str, Any]]:
    path, about = client.predict(
        image=handle_file(library.examples("avatars")[0]),
        composition=json.dumps(strengths),
        steps=FAST,
        api_name="/compose",
    )
    return np.asarray(Image.open(path).convert("RGB"), dtype=float), about


def test_compose_applies_all_of_them(client: Client) -> None:
    one, _ = compose(client, {FIRST.name: 1, SECOND.name: 0})
    alone, _ = client.predict(
        image=handle_file(library.examples("avatars")[0]), direction=FIRST.name, steps=FAST, api_name="/edit_text"
    )
    assert np.abs(one - np.asarray(Image.open(alone).convert("RGB"), dtype=float)).max() <= 1
    both, about = compose(client, {FIRST.name: 1, SECOND.name: -0.5})
    assert np.abs(both - one).mean() > 0.5
    assert about["composition"] == f"{FIRST.name} +1, {SECOND.name} −0.5"
    for key in ("t_edit", "t_boost", "seconds", "identity", "distance"):
        assert about[key] is not None, key


@pytest.mark.parametrize(
    "composition", ["", "smiling", "[]", "{}", '{"a": "b"}', '{"nothing of the kind": 1}', "[" * 9000, '{"x": NaN}']
)
def test_what_is_no_composition_is_told(client: Client, composition: str) -> None:
    with pytest.raises(AppError, match="composition|Known ones"):
        client.predict(
            image=handle_file(library.examples("avatars")[0]), composition=composition, steps=FAST, api_name="/compose"
        )


def test_sweep_gives_a_sheet_and_every_cell(client: Client) -> None:
    path, about = client.predict(
        image=handle_file(library.examples("avatars")[0]),
        across=FIRST.name,
        down=SECOND.name,
        low=0,
        high=1,
        count=2,
        composition="",
        steps=FAST,
        api_name="/sweep",
    )
    width, height = Image.open(path).size
    assert width > height > 256
    assert about["strengths"] == [0, 1]
    assert len(about["cells"]) == 4
    assert about["cells"][0]["distance"] < about["cells"][3]["distance"]


def test_presets_are_listed(client: Client) -> None:
    listed = client.predict(model="avatars", api_name="/presets")
    assert {preset.name for preset in library.shipped("avatars").values()} == {about["name"] for about in listed}
    assert all(about["kind"] and about["strength_range"][0] < about["strength_range"][1] for about in listed)
