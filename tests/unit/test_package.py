"""The installable package: its wheel, built and used where there is neither the repository nor gradio."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CARRIED = ("core", "presets", "tabs", "tests", "training", "benchmarks", "docs")  # what a build could pick up
README = (ROOT / "README.md").read_text()
LIBRARY = next(code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "import hspace" in code)
ABSENT = ("gradio", "spaces", "tabs", "core", "app", "training")


def test_both_lists_of_requirements_are_equal() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    flat = [line for line in lines if line and not line.startswith("#")]
    project = PROJECT["project"]
    assert sorted(flat) == sorted([*project["dependencies"], *project["optional-dependencies"]["app"]])
    assert all(re.match(r"[A-Za-z]", line) for line in flat), "one package a line, for a Space"
    assert not {"gradio", "spaces"} & {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}


def test_every_package_is_listed() -> None:
    folders = {path.parent.relative_to(ROOT / "core").parts for path in (ROOT / "core").rglob("__init__.py")}
    packages = {".".join(("hspace", *parts)) for parts in folders}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {*packages, "hspace.data"}
    strays = [path for path in (ROOT / "core").rglob("*.py") if not (path.parent / "__init__.py").exists()]
    assert strays == [], "each folder of core is a package"


@dataclass(frozen=True)
class Installed:
    """An environment with the package in it, and without gradio or the repository. manifest: what a source
    distribution has."""

    bin: Path
    wheel: Path
    manifest: list[str]
    folder: Path

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = {
            **kept,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
        }
        return subprocess.run(
            [*map(str, command)], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=240
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "runs", "screenshots", "*.pyi")
    for name in CARRIED:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for path in [*ROOT.glob("*.py"), *ROOT.glob("*.md"), *ROOT.glob("*.t*"), ROOT / "LICENSE"]:
        shutil.copy(path, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", folder, source]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    (manifest,) = source.glob("*.egg-info/SOURCES.txt")

    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    install = [*pip, "--python", scripts / "python", "install", "--no-deps", wheel]
    subprocess.run(install, check=True, capture_output=True)
    (packages,) = {path.parent for path in environment.rglob("hspace") if path.is_dir()}
    # The packages that it needs are those of this environment, with what it must do without in front of them.
    (packages / "borrowed.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    for name in ABSENT:
        (packages / f"{name}.py").write_text(f"raise ImportError('there is no {name} here')\n")
    work = folder / "elsewhere"
    work.mkdir()
    portrait = Image.open(ROOT / "presets" / "examples" / "avatars" / "portrait-1.webp")
    portrait.save(work / "portrait.png")
    result = Installed(scripts, wheel, manifest.read_text().splitlines(), work)
    shutil.rmtree(source)
    return result


@pytest.mark.slow
def test_what_the_package_holds(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        files = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        about = Parser().parsestr(wheel.read(metadata).decode())
    modules = {path.relative_to(ROOT / "core").as_posix() for path in (ROOT / "core").rglob("*.py")}
    data = {path.relative_to(ROOT / "presets").as_posix() for path in (ROOT / "presets").rglob("*") if path.is_file()}
    beside = {"py.typed", "evaluation/page.css", "evaluation/page.js"}
    assert files == {*(f"hspace/{path}" for path in modules | beside), *(f"hspace/data/{path}" for path in data)}
    needed = [line for line in about.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(needed) == len(PROJECT["project"]["dependencies"])
    assert (about["Name"], about["License-Expression"]) == ("h-space-studio", "MIT")
    tops = {path.split("/")[0] for path in installed.manifest}
    left = {top for top in tops if not top.endswith(".egg-info")}
    assert left == {"core", "presets", "pyproject.toml", "README.md", "LICENSE"}


@pytest.mark.slow
def test_the_library_as_the_readme_has_it_and_every_module(installed: Installed) -> None:
    program = f"""{LIBRARY}
import importlib, pkgutil, sys
from pathlib import Path
assert Path(hspace.__file__).is_relative_to(sys.prefix), hspace.__file__
for module in pkgutil.walk_packages(hspace.__path__, "hspace."):
    if module.name != "hspace.__main__":
        importlib.import_module(module.name)
sys.argv = "hspace apply smiling portrait.png new/smiling.webp --steps 4".split()
assert hspace.cli.main() == 0
assert not {set(ABSENT)} & sys.modules.keys()
"""
    ran = installed.run("python", "-c", program)
    assert ran.returncode == 0, ran.stderr
    assert Image.open(installed.folder / "out.png").size == (128, 128)
    assert Image.open(installed.folder / "new" / "smiling.webp").size == (128, 128)
    assert ran.stdout.strip() == os.path.join("new", "smiling.webp")
    assert "smile: " in ran.stderr, "measured by the instruments that come with it"


@pytest.mark.slow
def test_the_command(installed: Installed) -> None:
    listed = installed.run("hspace", "list")
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"^Smiling +avatars +implicit", listed.stdout, re.MULTILINE)
