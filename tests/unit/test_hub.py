"""Presets on the Hub, through the real client, against a stand-in on loopback that can fail in every way it does."""

import html
import io
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from hub_stand_in import StandIn, point_client_at, stand_in
from PIL import Image

from core import hub, hub_access, presets
from core.directions import GlobalDirection
from core.errors import HubError, PresetError, RequestError, ResourceError
from core.hub import browsing
from core.hub import files as hub_files
from core.presets import Preset
from core.progress import Running, finish

REPO = "someone/directions"
SMILING, SAD = "directions/avatars/smiling.safetensors", "directions/avatars/sad.safetensors"


def preset(name: str = "Smiling", side: int = 8, **values: Any) -> Preset:
    """A direction of 32 * side^2 numbers: at side 32 the file is much larger than its header."""
    generator = torch.Generator().manual_seed(len(name))
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 120, 40)).save(picture, "WEBP")
    known = {
        "model": "avatars",
        "fingerprint": "0123456789abcdef",
        "source_text": "face",
        "target_text": f"{name.lower()} face",
        "measured": {"effect": 1.25},
        "thumbnail": picture.getvalue(),
    }
    direction = GlobalDirection(torch.randn(1, 32, side, side, generator=generator), 40)
    return Preset(direction, name=name, **(known | values))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    hub_files.DESCRIBED.clear()
    with stand_in(monkeypatch) as running:
        running.repository(
            REPO,
            {
                SMILING: presets.to_bytes(preset(side=32)),
                SAD: presets.to_bytes(preset("Sad", model="ddpm-ema-church-256", method="jive")),
                "README.md": b"---\nlicense: mit\n---\n# Directions",
            },
        )
        yield running


# --------------------------------------------------------------------------------------------------------- browsing


def test_a_listing_says_what_a_visitor_wants_to_know(served: StandIn) -> None:
    listing = hub.browse(REPO)
    assert (listing.repository, listing.revision) == (REPO, served.repositories[REPO].head)
    assert not listing.left_out
    sad, smiling = listing.entries
    assert (smiling.path, smiling.kind, smiling.about.name) == (SMILING, "global", "Smiling")
    assert (sad.about.model, sad.about.method) == ("ddpm-ema-church-256", "jive")
    assert smiling.about.measured == {"effect": 1.25}
    assert smiling.about.picture().size == (32, 32)
    assert smiling.size == len(served.repositories[REPO].commits[0][1][SMILING])


def test_browsing_reads_headers_and_no_tensors(served: StandIn) -> None:
    hub.browse(REPO)
    read = served.asked("/cdn/")
    assert len(read) == 2
    for request in read:
        first, last = map(int, request.byte_range.removeprefix("bytes=").split("-"))
        assert last - first < hub_files.READ_FIRST
    size = len(served.repositories[REPO].commits[0][1][SMILING])
    assert size > 3 * hub_files.READ_FIRST, "or this test shows nothing"


def test_a_long_header_is_read_to_its_end(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_files, "READ_FIRST", 64)
    assert [entry.about.name for entry in hub.browse(REPO).entries] == ["Sad", "Smiling"]
    assert len(served.asked("/cdn/")) == 4


def test_a_server_without_ranges_serves_as_well(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_files, "READ_FIRST", 64)
    served.ranges = False
    assert [entry.about.name for entry in hub.browse(REPO).entries] == ["Sad", "Smiling"]


def test_the_same_commit_is_read_once(served: StandIn) -> None:
    hub.browse(REPO)
    hub.browse(REPO)
    assert len(served.asked("/cdn/")) == 2
    served.repositories[REPO].commit({SAD: presets.to_bytes(preset("Very sad"))})
    assert [entry.about.name for entry in hub.browse(REPO).entries] == ["Smiling", "Very sad"]
    assert [entry.about.name for entry in hub.browse(REPO, served.repositories[REPO].commits[0][0]).entries] == [
        "Sad",
        "Smiling",
    ]


def test_files_that_are_not_presets_are_named_with_the_reason(served: StandIn) -> None:
    good = presets.to_bytes(preset())
    served.repositories[REPO].commit(
        {
            "empty.safetensors": b"",
            "rubbish.safetensors": b"rubbish" * 100,
            "billion.safetensors": (10**9).to_bytes(8, "little") + good[8:],
            "newer.safetensors": good.replace(b'"format_version":"1"', b'"format_version":"9"'),
            "../escape.safetensors": good,
            "a\\b.safetensors": good,
        }
    )
    listing = hub.browse(REPO)
    assert len(listing.entries) == 2
    reasons = dict(listing.left_out)
    assert "too short" in reasons["empty.safetensors"]
    assert "not in the safetensors format" in reasons["rubbish.safetensors"]
    assert "not in the safetensors format" in reasons["billion.safetensors"]
    assert "newer version of the app" in reasons["newer.safetensors"]
    assert "not the path of a preset" in reasons["../escape.safetensors"]
    assert "not the path of a preset" in reasons["a\\b.safetensors"]


def test_a_repository_with_too_many_presets(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsing, "MAX_ENTRIES", 1)
    listing = hub.browse(REPO)
    assert len(listing.entries) == 1
    assert "Only 1 presets" in listing.left_out[0][1]


def test_the_default_repository_is_configured(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hub.REPOSITORY_VARIABLE, raising=False)
    assert hub.default_repository() == hub.REPOSITORY
    monkeypatch.setenv(hub.REPOSITORY_VARIABLE, REPO)
    assert hub.browse().repository == REPO


@pytest.mark.parametrize(
    "typed",
    [
        REPO,
        f" {REPO}/ ",
        f"https://huggingface.co/{REPO}",
        f"huggingface.co/{REPO}/tree/main/directions",
        f"https://hf.co/{REPO}/blob/main/README.md",
    ],
)
def test_addresses_are_understood(typed: str) -> None:
    assert hub.repository_id(typed) == REPO


@pytest.mark.parametrize(
    "typed", ["", "directions", "a/b/c", "../..", "a/..", "a b/c", "a/b?x=1", "<b>/c", "a/" + "b" * 99]
)
def test_names_that_are_none(typed: str) -> None:
    with pytest.raises(RequestError, match="owner/name"):
        hub.repository_id(typed)


# ------------------------------------------------------------------------------------------------------ downloading


def test_a_download_is_pinned_checked_and_kept(served: StandIn, tmp_path: Path) -> None:
    commit = served.repositories[REPO].head
    entry = hub.download(REPO, SMILING, cache_dir=tmp_path)
    assert (entry.repository, entry.revision, entry.path) == (REPO, commit, SMILING)
    file = hub.cached(REPO, commit, SMILING, tmp_path)
    assert presets.load(file).direction.delta.equal(preset(side=32).direction.delta)

    served.repositories[REPO].commit({SMILING: presets.to_bytes(preset("Laughing"))})
    assert hub.download(REPO, SMILING, commit, cache_dir=tmp_path).about.name == "Smiling"
    assert hub.download(REPO, SMILING, cache_dir=tmp_path).about.name == "Laughing"


def test_what_was_downloaded_needs_no_network(served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = served.repositories[REPO].head
    hub.download(REPO, SMILING, cache_dir=tmp_path)
    served.requests.clear()
    nowhere(monkeypatch)
    assert hub.download(REPO, SMILING, commit, cache_dir=tmp_path).about.name == "Smiling"
    assert [(entry.about.name, entry.revision) for entry in hub.downloaded(REPO, tmp_path)] == [("Smiling", commit)]
    assert hub.downloaded("someone/else", tmp_path) == []
    assert not served.requests
    with pytest.raises(HubError, match="cannot be reached"):
        hub.download(REPO, SAD, commit, cache_dir=tmp_path)


def test_of_several_downloaded_commits_the_last_counts(served: StandIn, tmp_path: Path) -> None:
    hub.download(REPO, SMILING, cache_dir=tmp_path)
    served.repositories[REPO].commit({SMILING: presets.to_bytes(preset("Laughing"))})
    hub.download(REPO, SMILING, cache_dir=tmp_path)
    hub.download(REPO, SAD, cache_dir=tmp_path)
    assert [entry.about.name for entry in hub.downloaded(REPO, tmp_path)] == ["Laughing", "Sad"]


def test_an_interrupted_download_is_tried_again(
    served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    served.cut, served.cuts = 60_000, 1
    assert hub.download(REPO, SMILING, cache_dir=tmp_path).about.name == "Smiling"
    assert served.cuts == 0


def test_a_download_that_stays_interrupted(served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.browse(REPO)
    served.cut, served.cuts = 0, 1000
    with pytest.raises(HubError, match="interrupted"):
        hub.download(REPO, SMILING, cache_dir=tmp_path)
    assert hub.downloaded(REPO, tmp_path) == []
    assert not list(tmp_path.rglob("*.incomplete"))
    served.cuts = 0
    assert hub.download(REPO, SMILING, cache_dir=tmp_path).about.name == "Smiling"


def test_a_listing_that_is_interrupted(served: StandIn) -> None:
    served.cut, served.cuts = 100, 1000
    with pytest.raises(HubError, match="interrupted"):
        hub.browse(REPO)


def test_the_wrong_file(served: StandIn, tmp_path: Path) -> None:
    broken = replace(preset(), direction=GlobalDirection(torch.zeros(1, 32, 8, 8), 40))
    data = bytearray(presets.to_bytes(broken))
    data[-4:] = b"\x00\x00\xc0\x7f"  # not a number
    served.repositories[REPO].commit({"rubbish.safetensors": b"rubbish" * 100, "nan.safetensors": bytes(data)})
    with pytest.raises(PresetError, match="not in the safetensors format"):
        hub.download(REPO, "rubbish.safetensors", cache_dir=tmp_path)
    with pytest.raises(PresetError, match="not finite"):
        hub.download(REPO, "nan.safetensors", cache_dir=tmp_path)
    assert hub.downloaded(REPO, tmp_path) == []
    with pytest.raises(HubError, match="does not have that file"):
        hub.download(REPO, "nothing.safetensors", cache_dir=tmp_path)


def test_a_file_that_is_not_what_was_listed(served: StandIn, tmp_path: Path) -> None:
    hub.browse(REPO)
    served.lies = b"short"
    with pytest.raises(HubError, match="incomplete|interrupted"):
        hub.download(REPO, SMILING, cache_dir=tmp_path)


@pytest.mark.parametrize(
    "path",
    ["../x.safetensors", "/etc/x.safetensors", "a/../b.safetensors", "a//b.safetensors", "x.pth", "C:\\x.safetensors"],
)
def test_paths_that_lead_astray(served: StandIn, tmp_path: Path, path: str) -> None:
    with pytest.raises(PresetError, match="not the path of a preset"):
        hub.download(REPO, path, cache_dir=tmp_path)
    with pytest.raises(PresetError, match="not the path of a preset"):
        hub.cached(REPO, served.repositories[REPO].head, path, tmp_path)
    assert not served.requests


def test_the_cache_is_asked_for_commits_only(served: StandIn, tmp_path: Path) -> None:
    hub.download(REPO, SMILING, cache_dir=tmp_path)
    for revision in ("main", "", "../snapshots/" + served.repositories[REPO].head, "v1"):
        assert hub.cached(REPO, revision, SMILING, tmp_path) is None
    with pytest.raises(RequestError, match="owner/name"):
        hub.cached("../..", served.repositories[REPO].head, SMILING, tmp_path)


def test_a_full_disk(served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(ResourceError, match="disk is full"):
        hub.download(REPO, SMILING, cache_dir=tmp_path)


# --------------------------------------------------------------------------------------------------------- failures


def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that refuses connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        point_client_at(f"http://127.0.0.1:{unused.getsockname()[1]}", monkeypatch)


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere(monkeypatch)
    with pytest.raises(HubError, match="cannot be reached from here. Connect to the internet"):
        hub.browse(REPO)


def test_a_hub_that_keeps_silent_is_asked_once_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_access.ANSWER_TIMEOUT < 3
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        point_client_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        with pytest.raises(HubError, match="cannot be reached"):
            hub.browse(REPO)
        silent.settimeout(0.1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()


def test_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        hub.browse(REPO)


def test_a_hub_that_stalls_after_its_sign_of_life(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsing, "BROWSE_DEADLINE", 0.0)
    with pytest.raises(HubError, match="took too long"):
        hub.browse(REPO)


@pytest.mark.parametrize("ask", [hub.browse, lambda repo, **more: hub.download(repo, SMILING, **more)])
def test_every_refusal_has_its_words(served: StandIn, ask: Any) -> None:
    served.accounts["hf_good"] = "someone"
    with pytest.raises(HubError, match="There is no someone/nothing on the Hub. Check the name; a private one"):
        ask("someone/nothing")
    with pytest.raises(HubError, match="no revision “v9”. Check it, or use “main”"):
        ask(REPO, revision="v9")
    with pytest.raises(HubError, match="does not accept this token"):
        ask(REPO, token="hf_unknown")
    served.repositories[REPO].private = True
    with pytest.raises(HubError, match="a private one needs a token"):
        ask(REPO)
    ask(REPO, token="hf_good")
    served.repositories[REPO].gated = True
    for token in ("", "hf_good"):
        served.repositories[REPO].private = False
        served.repositories[REPO].commit({"x": token.encode()})
        with pytest.raises(HubError, match="is gated: ask for access on its page"):
            hub.browse(REPO, token=token)


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (429, {"RateLimit": '"api";r=0;t=55'}, "limit is reached. Try again in 55 s"),
        (429, {"Retry-After": "7"}, "limit is reached. Try again in 7 s"),
        (429, {}, "limit is reached. Try again in a few minutes"),
        (500, {}, "fault of its own at the moment .status 500"),
        (503, {}, "fault of its own at the moment .status 503"),
        (418, {}, "refused the request for someone/directions .status 418"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, "has been disabled on the Hub"),
    ],
)
def test_faults_of_the_hub(served: StandIn, status: int, headers: dict[str, str], words: str) -> None:
    served.status, served.headers = status, headers
    for ask in (hub.browse, lambda repo: hub.download(repo, SMILING)):
        with pytest.raises(HubError, match=words):
            ask(REPO)
    assert len(served.asked("/api/models")) == 2, "and it is not asked again and again"


def test_another_server_than_a_hub(served: StandIn) -> None:
    served.status = 200
    with pytest.raises(HubError, match="exchange with the Hub failed"):
        hub.browse(REPO)


# ------------------------------------------------------------------------------------------------------- publishing

TOKEN = "hf_SecretSecretSecret"
MINE = "me/directions"


@pytest.fixture
def mine(served: StandIn) -> StandIn:
    served.accounts[TOKEN] = "me"
    return served


def publish(*owned: Preset, repository: str = MINE, token: str = TOKEN, **options: Any) -> hub.Published:
    return finish(hub.publish(owned, repository, token, **options))


def test_published_presets_can_be_browsed_and_downloaded(mine: StandIn, tmp_path: Path) -> None:
    smiling, sad = preset(side=32), preset("Sad", thumbnail=None)
    running = Running(hub.publish([smiling, sad], MINE, TOKEN))
    events = list(running)
    assert [event.step for event in events] == list(range(len(events)))
    assert events[-1].step == events[-1].total
    published = running.result
    assert published.paths == ("directions/avatars/smiling.safetensors", "directions/avatars/sad.safetensors")
    assert (published.revision, published.address) == (mine.repositories[MINE].head, f"{mine.address}/{MINE}")
    assert len(mine.repositories[MINE].commits) == 2, "one commit after that of the new repository"

    listing = hub.browse(MINE)
    assert [entry.path for entry in listing.entries] == sorted(published.paths)
    entry = hub.download(MINE, published.paths[0], published.revision, cache_dir=tmp_path)
    read = presets.load(hub.cached(MINE, entry.revision, entry.path, tmp_path))
    assert torch.equal(read.direction.delta, smiling.direction.delta)
    assert replace(read, direction=None) == replace(smiling, direction=None)


def test_the_card_shows_the_directions(mine: StandIn) -> None:
    publish(
        preset(licence="cc-by-4.0", author="Jo"), preset("Gothic", model="ddpm-ema-church-256", licence="cc-by-4.0")
    )
    files = mine.repositories[MINE].commits[-1][1]
    text = files["README.md"].decode()
    about = huggingface_hub.ModelCard(text).data
    assert (about.license, about.base_model) == ("cc-by-4.0", ["google/ddpm-ema-church-256"])
    assert "h-space" in about.tags
    row = next(line for line in text.splitlines() if "[Smiling]" in line)
    assert "![Smiling](thumbnails/avatars/smiling.webp)" in row
    assert "(directions/avatars/smiling.safetensors)" in row
    assert "face → smiling face" in row
    assert "effect 1.25" in row
    assert "cc-by-4.0, Jo" in row
    assert f"python hspace.py download {MINE} directions/avatars/smiling.safetensors" in text
    assert Image.open(io.BytesIO(files["thumbnails/avatars/smiling.webp"])).size == (32, 32)


def test_a_second_time_replaces_what_is_mine_and_keeps_the_rest(mine: StandIn) -> None:
    publish(preset(), preset("Sad"))
    publish(preset(description="better"), preset("Angry"))
    listing = hub.browse(MINE)
    assert [(entry.about.name, entry.about.description) for entry in listing.entries] == [
        ("Angry", ""),
        ("Sad", ""),
        ("Smiling", "better"),
    ]
    text = mine.repositories[MINE].commits[-1][1]["README.md"].decode()
    assert all(f"[{name}]" in text for name in ("Angry", "Sad", "Smiling"))
    assert text.count("## How to use") == 1


def test_the_owners_words_in_the_card_stay(mine: StandIn) -> None:
    own = "---\nlicense: mit\n---\n\n# Mine\n\nHands off.\n"
    mine.repository(MINE, {"README.md": own.encode(), "notes.txt": b"kept"}, writers={TOKEN})
    publish(preset())
    first = mine.repositories[MINE].commits[-1][1]["README.md"].decode()
    assert first.startswith(own)
    mine.repositories[MINE].commit({"README.md": (first + "\nAfterwards.\n").encode()})
    publish(preset("Sad"))
    files = mine.repositories[MINE].commits[-1][1]
    second = files["README.md"].decode()
    assert second.startswith(own)
    assert second.endswith("\nAfterwards.\n")
    assert "[Sad]" in second
    assert "[Smiling]" in second
    assert files["notes.txt"] == b"kept"


def test_names_that_share_a_file_name_do_not_share_a_file(mine: StandIn) -> None:
    first = publish(preset("Smile!"), preset("Smile?"), preset("smile"))
    assert [Path(path).stem for path in first.paths] == ["smile", "smile-2", "smile-3"]
    again = publish(preset("smile"), preset("SMILE"))
    assert [Path(path).stem for path in again.paths] == ["smile-3", "smile-4"]
    assert [entry.about.name for entry in hub.browse(MINE).entries if entry.path == first.paths[0]] == ["Smile!"]


HOSTILE = "a|b](javascript:alert(1)) <script>alert(1)</script> ![x](//evil) `c` _d_ **e**"


def test_a_card_shows_names_as_they_are(mine: StandIn) -> None:
    published = publish(preset(HOSTILE, model="../../x|<b>", licence="<i>", author="[x](y)", measured={"a|b": 1.0}))
    assert published.paths[0].startswith("directions/x-b/a-b-javascript-alert-1")
    text = mine.repositories[MINE].commits[-1][1]["README.md"].decode()
    row = next(line for line in text.splitlines() if "javascript" in line)
    for trace in ("<script", "<b>", "<i>", "](javascript", "](//evil", "](y)", "**e", "_d_", "`c`"):
        assert trace not in row
    assert html.unescape(row).count(HOSTILE) == 3, "in the picture, the name and the texts"
    assert row.count("|") == 9
    assert huggingface_hub.ModelCard(text).data.license == "other"


def test_stopping_changes_nothing(mine: StandIn) -> None:
    mine.repository(MINE, writers={TOKEN})
    job = hub.publish([preset(), preset("Sad")], MINE, TOKEN)
    for event in job:
        if event.step == 3:
            job.close()
    assert len(mine.repositories[MINE].commits) == 1


def test_somebody_else_was_faster(mine: StandIn) -> None:
    mine.repository(MINE, writers={TOKEN})
    job = hub.publish([preset()], MINE, TOKEN)
    while next(job).step < 2:
        pass
    mine.repositories[MINE].commit({"news.txt": b""})
    with pytest.raises(HubError, match="changed by someone else meanwhile. Try again"):
        next(job)
    assert hub.browse(MINE).entries == ()


def test_publishing_where_one_may_not(mine: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError, match="token may not do that with someone/directions. Use one with write access"):
        publish(preset(), repository=REPO)
    with pytest.raises(HubError, match="token may not do that with stranger/new"):
        publish(preset(), repository="stranger/new")
    with pytest.raises(HubError, match="does not accept this token"):
        publish(preset(), token="hf_wrong")
    with pytest.raises(RequestError, match="needs a token with write access"):
        publish(preset(), token="")
    with pytest.raises(RequestError, match="between 1 and"):
        publish()
    with pytest.raises(PresetError, match="not finite"):
        publish(preset(), replace(preset(), direction=GlobalDirection(torch.full((1, 32, 8, 8), torch.nan), 40)))
    assert set(mine.repositories) == {REPO}
    assert len(mine.repositories[REPO].commits) == 1
    mine.repository(MINE, {"README.md": b"\xff\xfe"}, writers={TOKEN})
    with pytest.raises(HubError, match="README.md of me/directions is not a text"):
        publish(preset())
    mine.status, mine.headers = 429, {"Retry-After": "30"}
    with pytest.raises(HubError, match="Try again in 30 s"):
        publish(preset())
    nowhere(monkeypatch)
    with pytest.raises(HubError, match="cannot be reached"):
        publish(preset())


def test_a_private_repository(mine: StandIn) -> None:
    publish(preset(), private=True)
    assert mine.repositories[MINE].private
    with pytest.raises(HubError, match="a private one needs a token"):
        hub.browse(MINE)


def test_whose_token_it_is(mine: StandIn) -> None:
    assert hub.account(TOKEN) == "me"
    with pytest.raises(HubError, match="does not accept this token"):
        hub.account("hf_wrong")
    with pytest.raises(RequestError, match="needs a token"):
        hub.account(" ")


# ----------------------------------------------------------------------------------------------------------- tokens


def test_a_token_goes_to_the_hub_and_nowhere_else(
    served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served.accounts[TOKEN] = "someone"
    served.repositories[REPO].writers.add(TOKEN)
    token = TOKEN
    caplog.set_level(logging.DEBUG)
    huggingface_hub.utils.logging.set_verbosity_debug()
    monkeypatch.setattr(huggingface_hub.utils.logging._get_library_root_logger(), "propagate", True)
    served.repositories[REPO].private = True
    hub.browse(REPO, token=token)
    publish(preset(), repository=REPO)
    entry = hub.download(REPO, SMILING, token=token, cache_dir=tmp_path)
    with pytest.raises(HubError) as caught:
        hub.browse("someone/nothing", token=token)
    huggingface_hub.utils.logging.set_verbosity_warning()

    api = [request for request in served.requests if request.host == "127.0.0.1" and "/upload/" not in request.path]
    assert {request.token for request in api if request.path != "/"} == {token}
    assert {request.token for request in served.requests if request.host == "localhost"} == {None}
    assert "resolve" in caplog.text, "or this test shows nothing"
    assert token not in caplog.text + repr(entry) + caught.value.message
    for _, files in served.repositories[REPO].commits:
        assert not any(token.encode() in data for data in files.values())
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes()


def test_a_machines_own_token_is_not_lent_to_visitors(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    served.accounts["hf_owner"] = "someone"
    served.repositories[REPO].private = True
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    with pytest.raises(HubError, match="a private one needs a token"):
        hub.browse(REPO)
    assert {request.token for request in served.requests} == {None} | {
        request.token for request in served.requests if request.path == "/"
    }


def test_what_a_token_showed_is_not_shown_without_it(served: StandIn) -> None:
    served.accounts["hf_good"] = "someone"
    repository = served.repositories[REPO]
    repository.gated, repository.writers = True, {"hf_good"}
    assert len(hub.browse(REPO, token="hf_good").entries) == 2
    with pytest.raises(HubError, match="is gated"):
        hub.browse(REPO)


@pytest.mark.parametrize("token", ["hf_a\nb", "hf_é", "hf a", "x" * 600])
def test_a_token_that_cannot_be_one_is_not_repeated(token: str) -> None:
    with pytest.raises(RequestError) as caught:
        hub.browse(REPO, token=token)
    assert token not in caught.value.message
