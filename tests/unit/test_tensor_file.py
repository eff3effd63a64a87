"""Files from strangers: JSON that says nothing twice and nothing infinite. Our own: always the same bytes."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from core.tensor_file import Damaged, parse_json, to_bytes


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    """Else a file that is opened again is another one, and a repository has a new version of what did not change."""
    tensors = {
        "b": torch.arange(5.0),
        "a": torch.ones(2, 3, dtype=torch.float16),
        "ä": torch.zeros(1, dtype=torch.int64),
    }
    metadata = {f"key {k}": f"value “{k}”" for k in range(8)}
    data = to_bytes(tensors, metadata)
    assert all(to_bytes(dict(reversed(tensors.items())), metadata) == data for _ in range(8))
    assert all(torch.equal(value, tensors[name]) for name, value in load(data).items())
    (tmp_path / "it.safetensors").write_bytes(data)
    with safe_open(tmp_path / "it.safetensors", "pt") as file:
        assert file.metadata() == metadata


def test_json_is_read() -> None:
    assert parse_json(b'{"a": [1, 2.5e3, "x", null, true]}', "no JSON") == {"a": [1, 2500.0, "x", None, True]}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1e999}',
        '{"a": [-1e999]}',
        '{"a": NaN}',
        "-Infinity",
        '{"a": 1, "a": 2}',
        "{",
        "",
        None,
        b"\xff",
        "[" * 10**5,
    ],
)
def test_json_that_is_refused(text: str | bytes | None) -> None:
    with pytest.raises(Damaged, match="no JSON"):
        parse_json(text, "no JSON")
