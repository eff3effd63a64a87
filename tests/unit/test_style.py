"""The project's style and the direction of its arrows, checked like any other promise."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(arguments: list[str]) -> None:
    ran = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def imported_packages(path: Path) -> set[str]:
    """Top-level names that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_core_knows_nothing_of_the_page() -> None:
    for path in (ROOT / "core").rglob("*.py"):
        above = imported_packages(path) & {"gradio", "tabs", "app", "tests", "benchmarks"}
        assert not above, f"{path.relative_to(ROOT)} reaches up to {above}"


def test_nothing_executable_is_loaded() -> None:
    for folder in ("core", "tabs", "training", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                called = ast.unparse(node.func)
                assert called not in {"pickle.load", "pickle.loads"}, f"{path}:{node.lineno}"
                if called == "torch.load":
                    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    assert options.get("weights_only") == "True", f"{path}:{node.lineno}"
