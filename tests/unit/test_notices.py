"""Notices over the page repeat what files and links say, and never as HTML."""

import ast
from pathlib import Path

import pytest

from tabs.notices import inform, warn

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("tell", "kind"), [(warn, "Warning"), (inform, "Info")])
def test_what_they_repeat_stays_text(tell: object, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(f"gradio.{kind}", lambda words, title, **_: told.append((words, title)))
    tell("“<b>A & B</b>” isn't here", "<i>Cats</i>")  # type: ignore[operator]
    assert told == [("“&lt;b&gt;A &amp; B&lt;/b&gt;” isn't here", "&lt;i&gt;Cats&lt;/i&gt;")]


def test_there_is_one_place_that_shows_them() -> None:
    calls = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in (ROOT / "app.py", *sorted((ROOT / "tabs").rglob("*.py")))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("Info", "Warning") and ast.unparse(node.value) == "gr"
    ]
    assert {call.partition(":")[0] for call in calls} == {"tabs/notices.py"}
