"""The script for a GPU runs from end to end where there is none, with small networks of the same kind."""

import re

import pytest

from benchmarks import gpu


@pytest.mark.slow
def test_it_runs_with_small_networks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSPACE_SMALL", "1")
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    gpu.main(["--small", "visits", "discover", "invert", "prompted"])
    printed = capsys.readouterr().out
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) s \|$", printed, re.MULTILINE))
    assert set(rows) == {
        *gpu.VISITS.values(),
        "basis of 8 vectors",
        "basis of 64 vectors",
        "50 steps up, Stable Diffusion 1.5",
        "basis of 8 vectors, Stable Diffusion 1.5",
        "basis of 64 vectors, Stable Diffusion 1.5",
    }
    assert all(float(seconds) > 0 for seconds in rows.values())
