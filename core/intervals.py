"""Editing and boosting intervals (Asyrp sections 4.1 and 4.2): from perceptual curves, or from the paper's table 2.

With d the cosine distance of the prompts' text embeddings (similarity = 1 - d):
t_edit is the first t with LPIPS(x0, P_t) >= 0.33 - 0.33 d, t_boost the first t with LPIPS(x0, x_t) >= 1.2.

The models of table 2 have T = 1000 and linear betas. What P_t and x_t show of a picture depends on how much noise there
is, not on the number of the timestep: for a model with other noise levels the table's t become the first of its own
timesteps at which a_t is as small.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import ModelUnavailable

EDIT_THRESHOLD = 0.33
BOOST_THRESHOLD = 1.2

# a_t of the models of table 2: T = 1000 betas from 0.0001 to 0.02.
PAPER_LEVELS = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))

Levels = tuple[float, ...] | None  # a_t of a model, t = 0 to T - 1; None: those of the paper's models


@dataclass(frozen=True)
class Intervals:
    """Edit for t >= t_edit; deterministic down to t_boost; eta = 1 for t < t_boost (t_boost <= 0: never)."""

    t_edit: int
    t_boost: int


class IntervalSource(Protocol):
    """Whatever knows the intervals of a model."""

    def t_edit(self, similarity: float) -> int:
        """For two prompts whose text embeddings have this cosine similarity."""

    def t_boost(self) -> int: ...


def first_reaching(t: np.ndarray, curve: np.ndarray, threshold: float) -> int:
    """The first t (K,) at which the curve (K,) is >= threshold, linear between the points; the last t if none is."""
    reached = np.flatnonzero(curve >= threshold)
    if len(reached) == 0:
        return int(t[-1])
    k = int(reached[0])
    if k == 0:
        return int(t[0])
    w = (threshold - curve[k - 1]) / (curve[k] - curve[k - 1])
    return int(np.ceil(t[k - 1] + w * (t[k] - t[k - 1]) - 1e-9))


def own_levels(alphas_cumprod: Sequence[float]) -> Levels:
    """The noise levels a_t of a model, t = 0 to T - 1, if they are others than those of the paper's models."""
    same = len(alphas_cumprod) == len(PAPER_LEVELS) and np.allclose(alphas_cumprod, PAPER_LEVELS, rtol=1e-4, atol=0)
    return None if same else tuple(alphas_cumprod)


def last_timestep(levels: Levels) -> int:
    """T - 1."""
    return len(PAPER_LEVELS if levels is None else levels) - 1


def as_noisy_as(t: int, levels: Levels) -> int:
    """The first timestep at which a model has at least the noise that the paper's models have at t; its last, if it
    never has so much; t <= 0, which means all timesteps or none, stays."""
    if levels is None or t <= 0:
        return t
    noise = 1 - np.array(levels)
    return first_reaching(np.arange(len(noise)), noise, 1 - PAPER_LEVELS[min(t, last_timestep(None))])


@dataclass(frozen=True)
class Curves:
    """A model's perceptual curves: mean distances from the image along its inversion.

    t: (K,) ascending timesteps; predicted_x0: (K,) mean LPIPS(x0, P_t); noisy: (K,) mean LPIPS(x0, x_t).
    The thresholds belong to the distance: the paper's are for LPIPS-Alex.
    """

    t: np.ndarray
    predicted_x0: np.ndarray
    noisy: np.ndarray
    edit_threshold: float = EDIT_THRESHOLD
    boost_threshold: float = BOOST_THRESHOLD

    def t_edit(self, similarity: float) -> int:
        return first_reaching(self.t, self.predicted_x0, self.edit_threshold * similarity)

    def t_boost(self) -> int:
        return first_reaching(self.t, self.noisy, self.boost_threshold)

    def editing_strength(self, t: int) -> float:
        """xi_t of the interval [T, t] (section 4.1): LPIPS(x0, P_T) - LPIPS(x0, P_t), how much of a picture comes into
        being in it."""
        return float(self.predicted_x0[-1]) - self.editing_flexibility(t)

    def editing_flexibility(self, t: int) -> float:
        """Of the interval [t, 0] (Figure 3): LPIPS(x0, P_t), how much of a picture may still change in it."""
        return float(np.interp(t, self.t, self.predicted_x0))

    def quality_deficiency(self, t: int) -> float:
        """gamma_t (section 4.2): LPIPS(x0, x_t), how much noise there is at t."""
        return float(np.interp(t, self.t, self.noisy))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(self.as_json()) + "\n")

    def as_json(self) -> dict[str, Any]:
        """Plain values, as `load` reads them from a file."""
        return {
            "t": self.t.tolist(),
            "predicted_x0": [round(v, 6) for v in self.predicted_x0.tolist()],
            "noisy": [round(v, 6) for v in self.noisy.tolist()],
            "edit_threshold": self.edit_threshold,
            "boost_threshold": self.boost_threshold,
        }

    @classmethod
    def load(cls, path: Path) -> "Curves":
        """Read what `save` wrote.

        Raises:
            ModelUnavailable: the file is missing or not such a file.
        """
        try:
            table = json.loads(path.read_text())
            t, predicted_x0, noisy = (np.asarray(table[key]) for key in ("t", "predicted_x0", "noisy"))
            thresholds = float(table["edit_threshold"]), float(table["boost_threshold"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelUnavailable(f"The editing curves {path} cannot be read: measure them again.") from error
        return cls(t, predicted_x0, noisy, *thresholds)


@dataclass(frozen=True)
class PublishedTable:
    """Knots (similarity, t_edit) and t_boost as printed in Asyrp's table 2, for a model whose curves are not here.

    Linear between the knots. Beyond them the slope is that of the line fitted to the four nearest knots (or as many
    as there are); prompts less alike than the table's therefore get an estimate. levels: of the model. texts: the pairs
    of prompts of the knots, in the paper's words.
    """

    knots: tuple[tuple[float, int], ...]
    boost: int
    levels: Levels = None
    texts: tuple[tuple[str, str], ...] = ()

    def t_edit(self, similarity: float) -> int:
        return as_noisy_as(self._printed(similarity), self.levels)

    def t_boost(self) -> int:
        return as_noisy_as(self.boost, self.levels)

    def _printed(self, similarity: float) -> int:
        # Two prompts can share a similarity; np.interp needs them in order, not distinct.
        s, t = np.array(sorted(self.knots)).T
        if s[0] <= similarity <= s[-1]:
            return round(float(np.interp(similarity, s, t)))
        near, end = (slice(0, 4), 0) if similarity < s[0] else (slice(-4, None), -1)
        slope = np.polyfit(s[near], t[near], 1)[0]
        return max(0, round(float(t[end] + slope * (similarity - s[end]))))


def _published(boost: int, rows: str) -> PublishedTable:
    cells = [[cell.strip() for cell in row.split("|")] for row in rows.strip().splitlines()]
    knots = tuple((float(similarity), int(t)) for _, _, similarity, t in cells)
    return PublishedTable(knots, boost, texts=tuple((source, target) for source, target, _, _ in cells))


# Asyrp, Table 2: source | target | cosine similarity | t_edit; and t_boost.
PUBLISHED: dict[str, PublishedTable] = {
    "CelebA-HQ": _published(
        167,
        """
        Person | Young person | 0.905 | 515
        Face | Smiling face | 0.899 | 513
        Face | Sad face | 0.894 | 513
        Face | Angry face | 0.892 | 512
        Face | Tanned face | 0.886 | 512
        Face | Disgusted face | 0.880 | 511
        Person | Person with makeup | 0.875 | 509
        Human | Zombie | 0.868 | 506
        Person | Person with bald head | 0.861 | 505
        Person | Person with curly hair | 0.835 | 499
        Human | Neanderthal | 0.802 | 490
        Person | Mark Zuckerberg | 0.797 | 489
        Person | Nicolas Cage | 0.710 | 461
        Human | Painting in the style of Pixar | 0.667 | 446
        Photo | Painting in Modigliani style | 0.565 | 403
        Photo | Self-portrait by Frida Kahlo | 0.443 | 321
        """,
    ),
    "LSUN-church": _published(
        293,
        """
        Church | Gothic Church | 0.912 | 371
        Church | Temple | 0.898 | 367
        Church | Department store | 0.841 | 349
        Church | Wooden House | 0.793 | 333
        Church | Ancient traditional Asian tower | 0.784 | 330
        Church | Red brick wall Church | 0.774 | 326
        Church | Factory | 0.702 | 301
        """,
    ),
    "LSUN-bedroom": _published(
        221,
        """
        Bedroom | Princess Bedroom | 0.912 | 370
        Bedroom | Hotel Bedroom | 0.917 | 371
        """,
    ),
    "AFHQ": _published(
        167,
        """
        Dog | Happy Dog | 0.883 | 430
        Dog | Sleepy Dog | 0.866 | 422
        Dog | Angry Dog | 0.860 | 419
        Dog | Wolf | 0.850 | 412
        Dog | Yorkshire Terrier | 0.690 | 302
        """,
    ),
    "METFACES": _published(
        180,
        """
        Painting of a person | Painting of a Sad person | 0.921 | 330
        Painting of a person | Painting of a Smiling person | 0.908 | 320
        Painting of a person | Painting of a Disgusted person | 0.879 | 291
        """,
    ),
}


TYPICAL_SIMILARITY = 0.87  # of two prompts that an edit leads from and to: the middle of table 2


@dataclass(frozen=True)
class Typical:
    """For a model of which no more than its noise levels is known: the median over the models of table 2."""

    levels: Levels = None

    def t_edit(self, similarity: float) -> int:
        return as_noisy_as(int(np.median([table.t_edit(similarity) for table in PUBLISHED.values()])), self.levels)

    def t_boost(self) -> int:
        return as_noisy_as(int(np.median([table.t_boost() for table in PUBLISHED.values()])), self.levels)


def intervals(source: IntervalSource, similarity: float) -> Intervals:
    """Both intervals for prompts of the given similarity (cosine of their text embeddings)."""
    return Intervals(t_edit=source.t_edit(similarity), t_boost=source.t_boost())
