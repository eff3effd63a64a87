"""Benchmark commands write their own sections of a document, and nothing else of it."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import inversion, samplers
from benchmarks.report import DOCUMENT, as_markdown, reported, sections, write_section
from core.inversion.editing import PromptEditSettings
from core.inversion.solution import DEFAULTS
from core.text_to_image import text_to_image_card

TEXT = """# Figures

Words before.

<!-- begin: first -->
| a |
|---|
| 1 |
<!-- end: first -->

Words between: end: first, <!-- a comment -->.

<!-- begin: second.part -->
<!-- end: second.part -->
Words after, without a last line break."""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "figures.md"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_section_is_replaced_and_the_rest_kept(document: Path) -> None:
    write_section("first", "\n| b |\n|---|\n| “2” \\1 |\n\n", document)
    assert document.read_text(encoding="utf-8") == TEXT.replace("| a |\n|---|\n| 1 |", "| b |\n|---|\n| “2” \\1 |")
    write_section("second.part", "now", document)
    assert sections(document) == {"first": "| b |\n|---|\n| “2” \\1 |", "second.part": "now"}


def test_writing_the_same_again_changes_nothing(document: Path) -> None:
    write_section("first", sections(document)["first"], document)
    assert document.read_text(encoding="utf-8") == TEXT


def test_line_ends_outside_stay_as_they_are(document: Path) -> None:
    document.write_bytes(TEXT.replace("Words before.\n", "Words before.\r\n").encode())
    write_section("first", "new", document)
    assert b"Words before.\r\n" in document.read_bytes()


@pytest.mark.parametrize("name", ["third", "firs", "second", "", ".*"])
def test_an_unknown_section_is_refused(document: Path, name: str) -> None:
    with pytest.raises(ValueError, match="has no section"):
        write_section(name, "words", document)
    assert document.read_text(encoding="utf-8") == TEXT


def test_text_with_marks_is_refused(document: Path) -> None:
    with pytest.raises(ValueError, match="marks of its own"):
        write_section("first", "<!-- end: first -->", document)
    assert document.read_text(encoding="utf-8") == TEXT


@pytest.mark.parametrize(
    "lines",
    [
        ["<!-- begin: a -->"],
        ["<!-- end: a -->"],
        ["<!-- begin: a -->", "<!-- end: b -->"],
        ["<!-- begin: a -->", "<!-- begin: b -->", "<!-- end: b -->", "<!-- end: a -->"],
        ["<!-- begin: a -->", "<!-- end: a -->", "<!-- begin: a -->", "<!-- end: a -->"],
    ],
)
def test_marks_out_of_place_are_refused(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "figures.md"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="out of place|has no end"):
        sections(path)


def test_what_is_printed_becomes_the_section(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with reported("first", True, document):
        print("| c |\n|---|")
        print("| 3 |\n\n3 portraits")
    assert sections(document)["first"] == "| c |\n|---|\n| 3 |\n\n3 portraits"
    assert capsys.readouterr().out == "| c |\n|---|\n| 3 |\n\n3 portraits\n"


def test_nothing_is_written_unless_asked(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with reported("no section of that name", False, document):
        print("words")
    assert capsys.readouterr().out == "words\n"
    assert document.read_text(encoding="utf-8") == TEXT


def test_an_interrupted_run_writes_nothing(document: Path) -> None:
    def measure() -> None:
        with reported("first", True, document):
            print("half a table")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert document.read_text(encoding="utf-8") == TEXT


def test_a_missing_section_is_noticed_before_anything_is_measured(document: Path) -> None:
    with pytest.raises(ValueError, match="has no section third"), reported("third", True, document):
        pytest.fail("measured in vain")


def test_lines_outside_tables_keep_their_form() -> None:
    printed = "analysis: 64 products\n  jive: 0.1 s\n\n| a |\n|---|\n\n2 portraits\n\n\nand 3 s\n"
    block = "```text\nanalysis: 64 products\n  jive: 0.1 s\n```"
    assert as_markdown(printed) == f"{block}\n\n| a |\n|---|\n\n2 portraits\n\nand 3 s"


def test_document_and_commands_know_the_same_sections() -> None:
    """Every section names a command that is there and writes it; every section that a command names is there."""
    written: dict[str, list[str]] = {}  # by command; what varies is written {name}
    for folder, pattern in (("benchmarks", "*.py"), ("training", "evaluate_*.py")):
        for path in (DOCUMENT.parents[1] / folder).glob(pattern):
            names = re.findall(r'\b(?:reported|write_section)\(\s*f?"([^"]+)"', path.read_text())
            written[f"{folder}.{path.stem}"] = names
    for command, names in written.items():
        of_command = [name for name in sections() if name == command or name.startswith(f"{command}.")]
        names = [re.sub(r"\{[\w.]+\}", "{name}", name) for name in names]
        for name in names:
            pattern = re.escape(name).replace(r"\{name\}", r"\w+")
            assert any(re.fullmatch(pattern, section) for section in of_command), f"{command} writes {name}"
        for section in of_command:
            patterns = [re.escape(name).replace(r"\{name\}", r"\w+") for name in names]
            assert any(re.fullmatch(pattern, section) for pattern in patterns), f"nothing writes {section}"
    assert all(any(name.startswith(command) for command in written) for name in sections())


def test_what_has_no_section_is_not_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = {name.rpartition(".")[2] for name in sections() if name.startswith("benchmarks.inversion.")}
    assert not recorded & inversion.UNRECORDED
    assert recorded | inversion.UNRECORDED == {
        *("methods", "published", "ssim", "robustness", "race", "times", "options"),
        *inversion.EDITS,
    }
    monkeypatch.setattr("sys.argv", ["inversion", "options", "skip", "--write"])
    with pytest.raises(SystemExit):
        inversion.main()
    assert "no section for options and skip" in capsys.readouterr().err


def test_nothing_is_left_to_be_recorded() -> None:
    assert not [name for name, text in sections().items() if "recorded yet" in text]


def test_each_section_says_how_to_measure_it() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in sections():
        heading = text[: text.index(f"<!-- begin: {name} -->")].rsplit("\n#", 1)[1]
        command = ".".join(name.split(".")[:2])
        assert f"`python -m {command}{name.removeprefix(command).replace('.', ' ')}" in heading


def test_recorded_rows_give_the_documented_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """The rows in the repository are found by today's default settings, and print what the document has."""
    card, documented = text_to_image_card(inversion.MODEL), sections()
    recorded = {path: inversion.Rows(path) for path in inversion.MEASURED.glob("inversion-*.jsonl")}
    weights = {path.stem.split("-")[1] for path in recorded}
    model = SimpleNamespace(fingerprint=weights.pop())
    assert not weights
    edits = PromptEditSettings(cross_steps=card.cross_steps)
    path = inversion.MEASURED / f"inversion-{inversion.rows_name(model, DEFAULTS, edits)}.jsonl"
    bench = inversion.Bench(card, model, recorded[path], DEFAULTS, edits)

    def cases(*key: str) -> list[SimpleNamespace]:
        numbers = {number for what, number, *rest in bench.rows._rows if (what, *rest) == key}
        return [SimpleNamespace(number=number, prompt="", target="") for number in sorted(numbers)]

    compared = inversion.COMPARED_METHODS
    for name, chosen, table in (
        ("methods", cases("method", "DDIM"), lambda c: inversion.methods(bench, c, compared)),
        (
            "published",
            cases("method", inversion.PUBLISHED),
            lambda c: inversion.methods(bench, c, (inversion.PUBLISHED, "latent-TOP")),
        ),
        ("ssim", cases("ssim", compared[-1]), lambda c: inversion.ssim(bench, c, compared)),
        (
            "robustness",
            cases("robust", inversion.PUBLISHED, "the wrong word"),
            lambda c: inversion.robustness(bench, c, inversion.ORDER),
        ),
        ("race", cases("race", inversion.RELEASED, 10), lambda c: inversion.race(bench, c)),
        ("guidance", cases("guidance", "anchored", 3.0), lambda c: inversion.edits(bench, c, "guidance")),
    ):
        table(chosen)
        head, _, figures = documented[f"benchmarks.inversion.{name}"].partition("\n\n")
        assert head.startswith(f"{len(chosen)} portraits")
        assert as_markdown(capsys.readouterr().out) == figures


def test_recorded_samplers_give_the_documented_figures(capsys: pytest.CaptureFixture[str]) -> None:
    samplers.summary(100)
    assert as_markdown(capsys.readouterr().out) == sections()["benchmarks.samplers"]
