"""The project's style and the direction of its arrows, checked like any other promise."""

import ast
import importlib
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
METHODS = {"core.asyrp", "core.discovery", "core.inversion"}
TABS = {f"tabs.{path.parent.name}" for path in (ROOT / "tabs").glob("*/__init__.py")}
# From the lowest to the highest. A module belongs to the package with the longest name that holds it.
LAYERS = (
    {"core"},
    METHODS,
    {"core.studio"},
    {"core.studio.visit"},
    {"core.api", "core.api_directions", "core.deploy"},
    {"core.recipes", "core.evaluation", "core.pie_bench"},
    {"core.figures"},
    {"core.cli"},
    {"core.__main__"},
    {"tabs"},
    TABS,
)
FACADE = "core"  # `core/__init__.py` itself, which offers what others make


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(arguments: list[str]) -> None:
    ran = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_the_type_checker_is_clean() -> None:
    ran = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


# ------------------------------------------------------------------------------------------------------------- imports


@cache
def imports() -> dict[str, set[str]]:
    """Every module of core and tabs -> those of them that it imports, anywhere in it: at the top, for types alone, or
    inside a function."""
    files = {}
    for path in [*(ROOT / "core").rglob("*.py"), *(ROOT / "tabs").rglob("*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & files.keys()
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
                source = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    found[name] |= {inner if inner in files else source} & files.keys()
    return found


def home(name: str) -> str:
    """The package of `LAYERS` that a module belongs to."""
    packages = set[str]().union(*LAYERS)
    return max((package for package in packages if f"{name}.".startswith(f"{package}.")), key=len)


def layer(name: str) -> int:
    if name == FACADE:
        return len(LAYERS)
    return next(n for n, packages in enumerate(LAYERS) if home(name) in packages)


def test_every_import_is_seen() -> None:
    found = imports()
    assert "core.presets" in found["core.api"], "from . import presets"
    assert "core.errors" in found["core.cli"], "from ..errors import VisitorError"
    assert "core.deploy" in found["core.cli.deploy"], "inside a function"
    assert "core.api" in found["core"], "for types alone"
    assert "core.errors" in found["tabs.shell"], "absolute"


def test_no_circle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail("a circle: " + " <- ".join(error.args[1]))


def test_imports_point_downwards() -> None:
    upward = [f"{a} imports {b}" for a, others in imports().items() for b in others if layer(b) > layer(a)]
    assert sorted(upward) == []


@pytest.mark.parametrize("packages", [METHODS, TABS], ids=["methods", "tabs"])
def test_neighbours_do_not_import_one_another(packages: set[str]) -> None:
    assert len(packages) >= 3
    sideways = [
        f"{a} imports {b}"
        for a, others in imports().items()
        for b in others
        if home(a) in packages and home(b) in packages - {home(a)}
    ]
    assert sorted(sideways) == []


def test_within_core_imports_are_relative() -> None:
    for path in (ROOT / "core").rglob("*.py"):
        assert "core" not in imported_packages(path), f"{path.relative_to(ROOT)}: the package is installed as hspace"


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
        above = imported_packages(path) & {"gradio", "tabs", "app", "tests", "benchmarks", "training", "hspace"}
        assert not above, f"{path.relative_to(ROOT)} reaches up to {above}"


def test_the_app_needs_nothing_that_a_space_does_not_get() -> None:
    for path in [ROOT / "app.py", *(ROOT / "tabs").rglob("*.py")]:
        left_out = imported_packages(path) & {"hspace", "tests", "benchmarks", "training"}
        assert not left_out, f"{path.relative_to(ROOT)} imports {left_out}"


@pytest.mark.parametrize("folder", ["benchmarks", "training"])
def test_scripts_find_what_they_import(folder: str) -> None:
    """Nothing else runs some of them: a name that was moved is missed here."""
    for path in sorted((ROOT / folder).glob("*.py")):
        importlib.import_module(f"{folder}.{path.stem}")


def test_nothing_executable_is_loaded() -> None:
    for folder in ("core", "tabs", "training", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path == ROOT / "core" / "studio" / "wire.py":  # what comes from a fork of the same process, and no file
                continue
            assert "Unpickler(" not in path.read_text(), path
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                called = ast.unparse(node.func)
                assert called not in {"pickle.load", "pickle.loads"}, f"{path}:{node.lineno}"
                if called == "torch.load":
                    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    assert options.get("weights_only") == "True", f"{path}:{node.lineno}"
