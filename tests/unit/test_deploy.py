"""The app as a Space: what goes up, how, and what is said when it cannot."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from hub_stand_in import MAX_IN_GIT, Space, StandIn, stand_in

from core import deploy as deploying
from core.cli import main
from core.deploy import ON_ZEROGPU, Deployed, SpaceSettings, deploy, files_of, find_clone, with_metadata
from core.errors import HubError, RequestError
from core.progress import Running, finish

ROOT = Path(__file__).resolve().parents[2]
TOKEN, STRANGER = "hf_SecretSecretSecret", "hf_AnotherSecret"
SPACE = "me/studio"
PLAIN = SpaceSettings()
README = """---
title: h-space studio
sdk: gradio
license: mit
---

# Studio

![The app](docs/app.png) and [more](docs/more.md)
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    with stand_in(monkeypatch) as running:
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
        running.accounts |= {TOKEN: "me", STRANGER: "stranger"}
        yield running


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a little of everything, as somebody has it who works in it."""
    folder = tmp_path / "clone"
    files = dict.fromkeys(
        [
            *("LICENSE", "requirements.txt", "app.py", "hspace.py", "pyproject.toml", "notes.txt"),
            *(".gitignore", ".env", ".git/config", ".venv/x.py", "tests/test_a.py", "benchmarks/b.py", "training/t.py"),
            *("core/__init__.py", "core/a.py", "core/b.py", "core/studio/c.py", "core/.env", "core/__pycache__/a.pyc"),
            *("tabs/t.py", "tabs/t.pyi", "docs/app.png", "docs/more.md", "presets/models/net.safetensors"),
        ],
        b"something",
    )
    files |= {"README.md": README.encode(), "presets/models/words.txt": b"word\n" * (MAX_IN_GIT // 5 + 1)}
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


EXPECTED = {
    *("README.md", "LICENSE", "requirements.txt", "app.py", "core/__init__.py", "core/a.py", "core/b.py"),
    *("core/studio/c.py", "tabs/t.py", "presets/models/net.safetensors", "presets/models/words.txt", "docs/app.png"),
}


def put(clone: Path, settings: SpaceSettings = PLAIN, token: str = TOKEN) -> Deployed:
    return finish(deploy(clone, SPACE, token, settings))


def in_space(served: StandIn) -> dict[str, bytes]:
    return {path: data for path, data in served.spaces[SPACE].commits[-1][1].items() if path != ".gitattributes"}


# --------------------------------------------------------------------------------------------------------- what goes up


def test_a_new_space_gets_what_the_app_needs_in_one_commit(served: StandIn, clone: Path) -> None:
    settings = SpaceSettings(
        True, "t4-small", {"PRESETS_REPOSITORY": "me/directions"}, {"HF_TOKEN": "hf_Reading"}, "First"
    )
    deployed = put(clone, settings)
    space = served.spaces[SPACE]
    assert in_space(served).keys() == EXPECTED
    assert all(data == (clone / path).read_bytes() for path, data in in_space(served).items())
    assert len(space.commits) == 2, "one after that of the new Space"
    assert (deployed.revision, deployed.address) == (space.head, f"{served.address}/spaces/{SPACE}")
    assert (space.sdk, space.private, space.hardware) == ("gradio", True, ["t4-small"])
    assert (space.variables, space.secrets) == ({"PRESETS_REPOSITORY": "me/directions"}, {"HF_TOKEN": "hf_Reading"})
    assert served.repositories == {}, "a Space and nothing else"


def test_large_files_go_up_as_large_files(served: StandIn, clone: Path) -> None:
    running = Running(deploy(clone, SPACE, TOKEN))
    events = list(running)
    assert len(served.asked("/upload/")) == 2, "the weights, and what is larger than git may have"
    assert [event.step for event in events] == sorted({event.step for event in events})
    assert events[-1].step == events[-1].total
    assert {event.total for event in events} == {events[-1].total}


def test_an_update_changes_deletes_and_leaves_alone(served: StandIn, clone: Path) -> None:
    put(clone, SpaceSettings(secrets={"KEPT": "1"}))
    (clone / "core" / "a.py").write_text("a = 2")
    (clone / "core" / "b.py").unlink()
    (clone / "presets" / "models" / "net.safetensors").write_bytes(b"other weights")
    sent = len(served.asked("/upload/"))
    deployed = put(clone, SpaceSettings(False, "cpu-basic", {"V": "2"}, {"S": "3"}))
    space = served.spaces[SPACE]
    assert in_space(served).keys() == EXPECTED - {"core/b.py"}
    assert in_space(served)["core/a.py"] == b"a = 2"
    assert deployed.deleted == ("core/b.py",)
    assert ".gitattributes" in space.commits[-1][1], "that is the Hub's"
    assert len(space.commits) == 3, "changes and deletions are one commit"
    assert len(served.asked("/upload/")) == sent + 1, "what has not changed is not sent again"
    assert (space.hardware, space.variables, space.secrets) == (["cpu-basic"], {"V": "2"}, {"KEPT": "1", "S": "3"})


@pytest.mark.parametrize("later", [True, False])
def test_metadata_for_zerogpu(served: StandIn, clone: Path, later: bool) -> None:
    """Its Python and its hardware, where the Space has it or is to have it; else the README as it is."""
    put(clone, SpaceSettings(hardware="cpu-basic"))
    assert in_space(served)["README.md"] == README.encode()
    put(clone, SpaceSettings(hardware="zero-a10g"))
    if later:
        (clone / "app.py").write_text("newer")
        put(clone)
    head, text = in_space(served)["README.md"].decode().removeprefix("---\n").split("---\n")
    assert text == README.split("---\n")[2]
    kept = {"title": "h-space studio", "sdk": "gradio", "license": "mit"}
    own = {"python_version": "3.12", "suggested_hardware": "zero-a10g"}
    assert yaml.safe_load(head) == kept | own
    put(clone, SpaceSettings(hardware="cpu-basic"))
    assert in_space(served)["README.md"] == README.encode()


def test_metadata_that_are_there_are_replaced() -> None:
    readme = (ROOT / "README.md").read_text()
    changed = with_metadata(readme, ON_ZEROGPU)
    before, after = (yaml.safe_load(text.split("---\n")[1]) for text in (readme, changed))
    assert after == before | {"python_version": "3.12", "suggested_hardware": "zero-a10g"}
    assert len(changed.splitlines()) == len(readme.splitlines())
    with pytest.raises(RequestError, match="no metadata"):
        with_metadata("# Studio\n", ON_ZEROGPU)


def test_nothing_new_is_no_commit(served: StandIn, clone: Path) -> None:
    first, second = put(clone), put(clone)
    assert first.revision == second.revision
    assert len(served.spaces[SPACE].commits) == 2


def test_the_files_of_this_clone() -> None:
    files = files_of(ROOT)
    assert {path.split("/")[0] for path in files} <= {*deploying.UPLOADED, "docs"}
    assert {"app.py", "core/__init__.py", "tabs/shell.py", "README.md", "requirements.txt"} <= files.keys()
    modules = {path.relative_to(ROOT).as_posix() for top in ("core", "tabs") for path in (ROOT / top).rglob("*.py")}
    assert modules <= files.keys()
    assert {path for path in files if path.endswith(".md") and not path.startswith("presets/")} == {"README.md"}


# ------------------------------------------------------------------------------------------------------ what is refused


def test_a_space_with_something_else_in_it(served: StandIn, clone: Path) -> None:
    served.space(SPACE, {"app.py": b"another app", "README.md": b"mine"}, writers={TOKEN})
    with pytest.raises(RequestError, match="something else in it"):
        put(clone, SpaceSettings(secrets={"S": "1"}))
    assert in_space(served).keys() == {"app.py", "README.md"}
    assert served.spaces[SPACE].secrets == {}
    put(clone, SpaceSettings(force=True))
    assert in_space(served).keys() == EXPECTED


def test_a_space_that_was_made_on_the_page_of_the_hub(served: StandIn, clone: Path) -> None:
    served.space(SPACE, {"README.md": b"---\nsdk: gradio\n---\n"}, writers={TOKEN})
    put(clone)
    assert in_space(served)["README.md"].decode() == README


def test_somebody_else_was_faster(served: StandIn, clone: Path) -> None:
    put(clone)
    (clone / "core" / "a.py").write_text("a = 2")
    running = deploy(clone, SPACE, TOKEN)
    for event in running:
        if event.note == "Committing":
            theirs = served.spaces[SPACE].commit({"core/a.py": b"a = 3"})
            break
    with pytest.raises(HubError, match="changed by someone else"):
        finish(running)
    assert served.spaces[SPACE].head == theirs


def test_a_token_that_may_not(served: StandIn, clone: Path) -> None:
    with pytest.raises(HubError, match="may not do that"):
        put(clone, token=STRANGER)
    served.space(SPACE, writers={TOKEN})
    with pytest.raises(HubError, match="may not do that"):
        put(clone, SpaceSettings(variables={"A": "1"}), token=STRANGER)
    with pytest.raises(RequestError, match="needs a token"):
        put(clone, token="")
    served.status = 402
    with pytest.raises(HubError, match="wants to be paid"):
        put(clone)


def test_no_network(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.hub_access.hub_answers", lambda: False)
    with pytest.raises(HubError, match="cannot be reached"):
        put(clone)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"variables": {"A B": "1"}}, "not the name of a variable"),
        ({"secrets": {"": "1"}}, "not the name of a variable"),
        ({"variables": {"A": "1"}, "secrets": {"A": "1"}}, "at once"),
        ({"hardware": "abacus"}, "Choose one of: cpu-basic"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        SpaceSettings(**values)


def test_secrets_are_not_shown() -> None:
    assert "hf_x" not in repr(SpaceSettings(secrets={"A": "hf_x"}))


# ----------------------------------------------------------------------------------------------------- the command line


def space(served: StandIn) -> Space:
    return served.spaces[SPACE]


def test_from_the_command_line(
    served: StandIn, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(clone / "core")
    monkeypatch.setenv("READING", "hf_FromTheEnvironment")
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"typed at {prompt}")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    options = [
        "--secret",
        "READING",
        "--secret",
        "TYPED",
        "--variable",
        "A=1=2",
        "--hardware",
        "zero-a10g",
        "--private",
    ]
    assert main(["deploy", SPACE, *options]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == f"{served.address}/spaces/{SPACE} at {space(served).head}"
    assert space(served).secrets == {"READING": "hf_FromTheEnvironment", "TYPED": "typed at TYPED: "}
    assert space(served).variables == {"A": "1=2"}
    assert (space(served).hardware, space(served).private) == (["zero-a10g"], True)
    assert "hf_" not in printed.out + printed.err

    (clone / "tabs" / "t.py").unlink()
    (clone / "tabs" / "u.py").write_text("")
    assert main(["deploy", SPACE, "--message", "A new tab"]) == 0
    assert "deleted: tabs/t.py" in capsys.readouterr().err


def test_what_the_command_refuses(
    served: StandIn, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    for arguments, words in (
        (["me"], "Write it as owner/name"),
        ([SPACE, "--secret", "NOT_THERE"], "NOT_THERE is not in the environment"),
        ([SPACE, "--variable", "A"], "write NAME=VALUE"),
        ([SPACE, "--hardware", "abacus"], "There is no hardware"),
    ):
        assert main(["deploy", *arguments]) == 1
        assert words in capsys.readouterr().err
    assert served.spaces == {}


def test_outside_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_clone(tmp_path) == ROOT, "python hspace.py from anywhere"
    monkeypatch.setattr(deploying, "__file__", str(tmp_path / "site-packages" / "hspace" / "deploy.py"))
    with pytest.raises(RequestError, match="this is not one: go to the folder"):
        find_clone(tmp_path)
    assert find_clone(ROOT / "core" / "studio") == ROOT
