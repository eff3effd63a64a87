"""What the documents point at is there: links, files, and the functions beside which a paper is to be read."""

import re
from pathlib import Path

import pytest

from core.inversion.methods import METHODS
from core.presets import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "presets/README.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # it names what is no longer there
)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """Of the headings, as the Hub and other hosts make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(path), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name) if name else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_folders_are_there(path: Path) -> None:
    added = re.findall(r"^`([\w/]+\.py)`:$", text_of(path), re.MULTILINE)  # by whoever does what the document says
    for name in re.findall(r"`((?:core|tabs|tests|training|benchmarks|presets|docs)/[\w./-]*)`", text_of(path)):
        assert name in added or (ROOT / name).exists(), name
    for module in re.findall(r"python -m ((?:training|benchmarks)\.\w+)", text_of(path)):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module


def test_equations_are_where_the_table_says() -> None:
    rows = re.findall(r"^\| .+ \| `([\w/]+\.py)` \| (`.+`) \|$", text_of(ROOT / "docs" / "methods.md"), re.MULTILINE)
    assert len(rows) > 30
    for file, names in rows:
        source = text_of(ROOT / file)
        for name in re.findall(r"`([\w.]+)`", names):
            *owners, last = name.split(".")
            for owner in owners:
                assert re.search(rf"^class {owner}\b", source, re.MULTILINE), f"{file}: {name}"
            assert re.search(rf"^\s*(?:def|class) {last}\b|^{last}(?:: .+)? =", source, re.MULTILINE), f"{file}: {name}"


def test_what_the_changelog_points_at_is_there() -> None:
    rows = re.findall(r"^\| `core\.[\w.]+` \| `(core\.[\w.]+)` \|$", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert len(rows) > 200
    for name in rows:
        parts = name.split(".")
        files = [(n, ROOT.joinpath(*parts[:n]).with_suffix(".py")) for n in range(len(parts), 0, -1)]
        n, file = next((n, file) for n, file in files if file.exists())
        source = text_of(file)
        for attribute in parts[n:]:
            assigned = rf"^(?:[\w ,]+, )?{attribute}\b(?:, [\w ,]+)?(?:: .+)? =|^    {attribute}:"
            assert re.search(rf"^\s*(?:def|class) {attribute}\b|{assigned}", source, re.MULTILINE), name


def test_a_preset_is_written_as_the_format_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(ROOT / "presets" / "README.md").partition("## Writing one")[2]
    [block] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    preset = load(tmp_path / "smiling.safetensors")
    assert preset.direction.delta.shape == (1, 256, 8, 8)
    assert (preset.name, preset.model, preset.direction.kind) == ("Smiling", "avatars", "global")


def test_the_readmes_memory_is_what_was_measured() -> None:
    readme, benchmarks = text_of(ROOT / "README.md"), text_of(ROOT / "docs" / "benchmarks.md")
    (said,), (measured,) = (
        re.findall(pattern, text)
        for pattern, text in ((r"about ([\d.]+) GB of memory", readme), (r"peak memory .* ([\d.]+) GB", benchmarks))
    )
    assert float(said) == round(float(measured), 1)


def test_every_method_is_in_the_table_of_its_papers() -> None:
    """The README points there in place of a count."""
    text = text_of(ROOT / "docs" / "methods.md")
    rows = re.findall(r"^\| (.+) \| .+ \| `core/inversion/\w+\.py` \|$", text, re.MULTILINE)
    assert {name.lower() for row in rows for name in row.split("; ")} >= {name.lower() for name in METHODS}


def test_the_readme_is_short() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) < 150
