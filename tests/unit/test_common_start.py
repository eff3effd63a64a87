"""Directions that share their random start: compared and orthogonalised without it, against vectors that are known."""

from dataclasses import replace

import pytest
import torch
from asyrp_files import ASYRP
from test_studio import model, picture, preset  # noqa: F401
from torch import Tensor
from torch.nn import functional as F

from core.asyrp.released import read_released
from core.directions import GlobalDirection
from core.errors import RequestError
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.progress import finish
from core.studio.compose.common_start import (
    coefficients,
    comparison_words,
    imported,
    mixing_words,
    without_common_start,
)
from core.studio.compose.orthogonalise import orthogonalise, similarities
from core.studio.compose.similarity import cosines


def learned(count: int, size: int = 64) -> tuple[Tensor, Tensor]:
    """(c (D,), l (n, D)): a start of ten times the energy, and parts of different lengths, two of which are alike."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    parts = axes[:count] * torch.linspace(1, 2, count).double()[:, None]
    return 5 * axes[-1] + 0.3 * axes[0], parts


@pytest.mark.parametrize("count", [4, 7])
def test_the_gram_matrix_is_that_of_what_was_learned(count: int) -> None:
    """Exactly, where what was learned has nothing in common, also with a start that is not orthogonal to it."""
    c, parts = learned(count)
    G = (parts + c) @ (parts + c).T
    assert cosines(G).fill_diagonal_(1).min() > 0.8, "they look alike"
    torch.testing.assert_close(without_common_start(G, range(count)), parts @ parts.T, atol=1e-9, rtol=0)


def test_what_is_alike_stays_alike() -> None:
    c, parts = learned(8)
    parts[1] = 0.9 * parts[0] + 0.4 * parts[1]
    expected = F.cosine_similarity(parts[0], parts[1], dim=0).item()
    found = cosines(without_common_start((parts + c) @ (parts + c).T, range(8)))
    assert found[0, 1].item() == pytest.approx(expected, abs=0.15)
    others = found[2:][:, 2:].clone().fill_diagonal_(0)
    assert others.abs().max() < 0.15


def test_others_are_left_as_they_are() -> None:
    """Directions that have no such start, among those that have; and too few of these."""
    c, parts = learned(8)
    vectors = torch.cat((parts[:5] + c, parts[5:]))
    found = without_common_start(vectors @ vectors.T, range(5))
    torch.testing.assert_close(found[5:, 5:], parts[5:] @ parts[5:].T)
    assert found[:5, 5:].abs().max() < 1e-9
    torch.testing.assert_close(found[:5, :5], parts[:5] @ parts[:5].T, atol=1e-9, rtol=0)
    G = vectors @ vectors.T
    for few in ([], [0], [0, 1], [0, 1, 2]):
        assert torch.equal(without_common_start(G, few), G)


def test_weights_take_out_differences_and_leave_the_start() -> None:
    b = [0.5, -0.2, 0.3, 0.4]
    c, parts = learned(5)
    weights = torch.tensor(coefficients(b, range(5))).double()
    made = weights @ (parts + c)
    mean = parts.mean(0)
    expected = parts[0] + c - sum(weight * (part - mean) for weight, part in zip(b, parts[1:], strict=True))
    torch.testing.assert_close(made, expected)
    assert weights.sum().item() == pytest.approx(1), "as much of the start as it had"
    assert coefficients(b, [0, 3]) == [1.0, -0.5, 0.2, -0.3, -0.4]
    assert coefficients([1.0, 2.0, 4.0, 8.0, 16.0], [1, 2, 3, 4]) == pytest.approx(
        [1.0, -1 + 3.75, -2 + 3.75, -4 + 3.75, -8 + 3.75, -16]
    )


def asyrps(model: DiffusionModel, count: int) -> tuple[list[Preset], Tensor, Tensor]:  # noqa: F811
    c, parts = learned(count, 32 * 16)
    made = []
    for i, vector in enumerate((parts + c).float()):
        one = preset(model, direction=GlobalDirection(vector.view(1, *model.card.h_shape), 40), name=f"No. {i}")
        made.append(replace(one, parameters={"file": f"{i}.pth"}))
    return made, c, parts


def test_in_the_app(model: DiffusionModel) -> None:  # noqa: F811
    made, c, parts = asyrps(model, 5)
    own = preset(model, name="Own")
    assert imported([own, *made]) == [1, 2, 3, 4, 5]
    shown = picture(model)
    found = finish(similarities(model, shown, made, "h-space"))
    torch.testing.assert_close(found, torch.eye(5, dtype=torch.float64), atol=1e-3, rtol=0)
    few = finish(similarities(model, shown, made[:2], "h-space"))
    assert few[0, 1] > 0.8

    kept = finish(orthogonalise(model, shown, made[0], made[1:], "h-space"))
    assert kept.measured["left"] == pytest.approx(1, abs=1e-3), "what was learned has nothing in common"
    delta = kept.direction.delta_h(torch.zeros(1, *model.card.h_shape), torch.zeros(1, 16), 500).flatten().double()
    torch.testing.assert_close(delta, parts[0] + c, atol=1e-3, rtol=0)
    with pytest.raises(RequestError, match="random start"):
        finish(orthogonalise(model, shown, made[0], made[1:2], "h-space"))
    assert finish(orthogonalise(model, shown, made[0], [own], "h-space")).measured["left"] > 0


def test_it_is_said(model: DiffusionModel) -> None:  # noqa: F811
    made, _, _ = asyrps(model, 4)
    assert comparison_words(made, "h-space") == (
        "The random start that the Asyrp authors' 4 directions share is taken out."
    )
    assert "most of what they have in common here is that" in comparison_words(made[:2], "response")
    assert comparison_words(made[:2], "effect") == comparison_words(made[:1], "h-space") == mixing_words(made[:1]) == ""
    assert "counts 3 times in this mix" in mixing_words([*made[:3], preset(model)])


def test_the_authors_files_look_alike_though_their_words_do_not() -> None:
    """Smiling faces and gothic churches: at the h of any picture."""
    names = ("smiling_LC_CelebA_HQ.pth", "church_gothic_LC_church_outdoor.pth")
    generator = torch.Generator().manual_seed(0)
    files = [read_released(ASYRP / name) for name in names]
    h = torch.randn(1, files[0].f_t.conv1.in_channels, 8, 8, generator=generator)
    emb = torch.randn(1, files[0].f_t.temb_proj.in_features, generator=generator)
    smiling, gothic = (file.delta_h(h, emb, 600).flatten() for file in files)
    assert F.cosine_similarity(smiling, gothic, dim=0) > 0.5
