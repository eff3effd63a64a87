"""Tables and drawings for programs: each endpoint answers with its numbers, and with the same as CSV."""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from gradio_client import Client, handle_file

from benchmarks.domain import drawing
from core.studio import library

EXAMPLE = library.examples("avatars")[0]
FAST = 5


def table(about: dict[str, Any], name: str = "csv") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(about[name])))


def test_intervals_and_why(client: Client) -> None:
    about = client.predict("smiling", api_name="/intervals")
    assert about["t_boost"] == 0
    assert "as “Smiling” suggests" in about["words"]
    assert len(table(about)) == len(about["curves"]["t"])
    assert about["intervals_svg"].startswith("<svg xmlns=")
    boosted = client.predict("smiling", boost=True, api_name="/intervals")
    assert boosted["t_boost"] > 0
    assert boosted["t_edit"] == about["t_edit"]
    curves = client.predict("smiling", source="curves", api_name="/intervals")
    assert "by the model's curves" in curves["words"]


def test_several_pictures_and_one_that_the_model_does_not_know(client: Client, tmp_path: Path) -> None:
    drawing(3).save(tmp_path / "shapes.png")
    files = [handle_file(EXAMPLE), handle_file(tmp_path / "shapes.png")]
    archive, about = client.predict(files, json.dumps({"smiling": 1}), FAST, api_name="/batch")
    assert "contents.json" in zipfile.ZipFile(archive).namelist()
    assert [entry["in_domain"] for entry in about["pictures"]] == [True, False]
    known, unknown = table(about)
    assert float(known["identity"]) > 0.5
    assert (unknown["identity"], unknown["in_domain"], unknown["problem"]) == ("", "False", "")
    assert about["unknown_to_model"] == ["shapes.png"]
    assert "cannot draw this picture" in unknown["warning"]
    assert known["warning"] == ""

    _, about = client.predict(handle_file(EXAMPLE), json.dumps({"smiling": 1}), 2, steps=FAST, api_name="/filmstrip")
    assert [row["share"] for row in table(about)] == ["0.0", "1.0"]
    assert [picture["share"] for picture in about["pictures"]] == [0, 1]

    _, about = client.predict(
        handle_file(EXAMPLE), json.dumps({"smiling": 1, "old": 1}), FAST, boost=True, api_name="/compose"
    )
    assert about["t_boost"] > 0
    assert "Quality boosted below" in about["intervals"]
    assert about["in_domain"] is True


def test_similarity_and_history(client: Client) -> None:
    about = client.predict(handle_file(EXAMPLE), "smiling, sad", "h-space", api_name="/similarity")
    rows = list(csv.reader(io.StringIO(about["csv"])))
    assert rows[0] == ["", "Smiling", "Sad"]
    assert [float(value) for value in rows[1][1:]] == about["similarity"][0]
    assert client.predict(api_name="/history") == {"results": [], "csv": ""}
