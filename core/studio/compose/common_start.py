"""The random start that the Asyrp authors' directions share, and how to compare them without it.

All of their files were trained from the same random f_t, and most of what they do to h is still that: over 15 face
files it is 81% of the energy of delta_h, which says nothing of their words. With u_i = c + l_i, c the common start and
l_i what was learned, <u_i, u_j> = a_i + a_j + <l_i, l_j> for a_i = <c, c> / 2 + <c, l_i>. What is learned from
different words has nothing in common on the mean, so the a_i are those that leave the least of all <u_i, u_j>, i != j.
That takes four directions: of three, any inner products are such sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...presets import Preset

ENOUGH = 4  # directions


def is_imported(preset: Preset) -> bool:
    """Whether a direction is the Asyrp authors' own."""
    file = preset.parameters.get("file")
    return preset.method == "asyrp" and isinstance(file, str) and file.lower().endswith(".pth")


def imported(chosen: Sequence[Preset]) -> list[int]:
    """Which of some presets are, by their indices."""
    return [i for i, preset in enumerate(chosen) if is_imported(preset)]


def without_common_start(G: Tensor, which: Sequence[int]) -> Tensor:
    """The Gram matrix (n, n) of vectors of which some share their start, as it is without that; with fewer than four of
    them unchanged. which: their indices."""
    m = len(which)
    if m < ENOUGH:
        return G
    at = torch.tensor(which)
    shared = G[at][:, at]
    sums = shared.sum(1) - shared.diagonal()
    a = (sums - sums.sum() / (2 * (m - 1))) / (m - 2)
    result = G.clone()
    # Of the others c has what the mean of u_i has, as the l_i have nothing in common with them on the mean.
    result[at] -= G[at].mean(0, keepdim=True)
    result[:, at] -= G[:, at].mean(1, keepdim=True)
    result[at[:, None], at] = shared - a[:, None] - a
    return result


def coefficients(b: Sequence[float], which: Sequence[int]) -> list[float]:
    """Weights (1 + k,) of d and e_1..e_k in d - sum_j b_j l_j, l_j = e_j - c for those that share their start c, taken
    as the mean of all that do. which: their indices, d's is 0. So d keeps as much of the start as it had."""
    weights = [1.0, *(-weight for weight in b)]
    if len(which) < ENOUGH:
        return weights
    back = sum(b[i - 1] for i in which if i > 0) / len(which)
    return [weight + back if i in which else weight for i, weight in enumerate(weights)]


def comparison_words(chosen: Sequence[Preset], metric: str) -> str:
    """What to know of a comparison of presets some of which share their start; "" where there is nothing to know."""
    m = len(imported(chosen))
    if m < 2 or metric == "effect":
        return ""
    if m >= ENOUGH:
        return f"The random start that the Asyrp authors' {m} directions share is taken out."
    return (
        f"{_of_them(m)} the Asyrp authors, whose files share a random start: most of what they have in common here is "
        f"that. It can be taken out of {ENOUGH} or more of them. Compare what each is for."
    )


def mixing_words(chosen: Sequence[Preset]) -> str:
    """What to know of a mix of such directions; "" where there is nothing to know."""
    m = len(imported(chosen))
    if m < 2:
        return ""
    return (
        f"{_of_them(m)} the Asyrp authors, whose files share a random start, which counts {m} times in this mix. It "
        "cannot be taken out without changing what each does: lower them together if the picture suffers."
    )


def _of_them(m: int) -> str:
    return f"{m} of these directions are by"
