"""What the benchmark of inversion asks for: true prompts, one changed word, and rows that survive a stop."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.inversion import MEASURED, Rows, rows_name
from benchmarks.portrait_edits import SWAPS, cases, holds
from core import instruments
from core.inversion.editing import PromptEditSettings
from core.inversion.solution import DEFAULTS
from core.models.cards import PRESETS
from core.models.t2i_cards import TEXT_TO_IMAGE
from training.dataset import held_out
from training.portraits import PARTS, from_vector


def test_prompts_are_true_and_one_word_away() -> None:
    """Of the portrait the source prompt's statements hold, and the target's new one does not."""
    _, parameters = held_out(300)
    true, chosen = holds(), cases(60)
    for case in chosen:
        portrait = from_vector(parameters[case.number])
        assert true[case.swap.source](portrait)
        assert not true[case.swap.target](portrait)
        source, target = case.prompt.split(), case.target.split()
        [(old, new)] = [pair for pair in zip(source, target, strict=True) if pair[0] != pair[1]]
        assert old in case.swap.source
        assert new in case.swap.target
        assert case.pixels.shape == (1, 3, *case.mask.shape)
        assert case.mask.any()
    assert len({case.number for case in chosen}) == 60
    assert len({case.swap for case in chosen}) > 10


def test_swaps_are_of_what_the_probe_reads() -> None:
    known = instruments.load(PRESETS / TEXT_TO_IMAGE["avatars-t2i"].instruments).known
    for swap in SWAPS:
        assert swap.attribute in known
        assert swap.part in PARTS
        assert swap.source in holds()
        assert swap.target in holds()


def test_the_sign_of_a_swap_is_that_of_its_words() -> None:
    """Where the target's word is true, the attribute lies on that side of where the source's is."""
    _, parameters = held_out(300)
    people, true = [from_vector(row) for row in parameters], holds()
    for swap in SWAPS:
        source, target = (
            np.mean([getattr(p, swap.attribute) for p in people if true[word](p)])
            for word in (swap.source, swap.target)
        )
        assert (target - source) * swap.sign > 0.2, swap


def test_rows_survive_a_stop(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    rows = Rows(path)
    assert rows.get(("method", 1, "DDIM"), lambda: {"psnr": 30.5}) == {"psnr": 30.5}
    with pytest.raises(KeyboardInterrupt):
        rows.get(("method", 2, "DDIM"), stopped)
    again = Rows(path)
    assert again.get(("method", 1, "DDIM"), stopped) == {"psnr": 30.5}
    assert again.get(("method", 2, "DDIM"), lambda: {"psnr": 1.0}) == {"psnr": 1.0}
    assert len(path.read_text().splitlines()) == 2


def test_rows_that_were_measured_are_found() -> None:
    """Their files are named after the weights and the settings, in the words of the time when the first were made."""
    model, edits = SimpleNamespace(fingerprint="d9d86a06"), PromptEditSettings(cross_steps=0.0)
    names = [rows_name(model, replace(DEFAULTS, guidance=guidance), edits) for guidance in (7.5, 5.0)]
    assert names == ["d9d86a06-c3a2", "d9d86a06-84a8"]
    assert all((MEASURED / f"inversion-{name}.jsonl").is_file() for name in names)


def stopped() -> dict[str, float]:
    raise KeyboardInterrupt
