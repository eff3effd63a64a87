"""Files from strangers: JSON that says nothing twice and nothing infinite."""

import pytest

from core.tensor_file import Damaged, parse_json


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
