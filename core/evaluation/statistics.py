"""Statistics of pictures that come in batches, in float64: what is kept of them does not grow with their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from scipy.stats import rankdata


@dataclass
class Moments:
    """Mean and spread of rows of values, place by place, as the rows come in (Chan et al. 1979: the update by batches).

    Values that are not finite (a ratio to nothing, a cosine of no change) are left out where they are. shape: of a row.
    """

    shape: tuple[int, ...] = ()
    count: np.ndarray = field(init=False)
    mean: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)  # sum of squared deviations from the mean

    def __post_init__(self) -> None:
        self.count, self.mean, self.squares = (np.zeros(self.shape) for _ in range(3))

    def add(self, rows: np.ndarray) -> None:
        """rows: (N, *shape)."""
        rows = np.asarray(rows, dtype=np.float64)
        known = np.isfinite(rows)
        n = known.sum(0)
        mean = np.where(known, rows, 0.0).sum(0) / np.maximum(n, 1)
        squares = np.square(np.where(known, rows - mean, 0.0)).sum(0)
        total = self.count + n
        apart = mean - self.mean
        self.squares = self.squares + squares + np.square(apart) * self.count * n / np.maximum(total, 1)
        self.mean = self.mean + apart * n / np.maximum(total, 1)
        self.count = total

    @property
    def means(self) -> np.ndarray:
        """Not a number where no value came in."""
        return np.where(self.count > 0, self.mean, np.nan)

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the means; not a number for fewer than two values."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.sqrt(self.squares / (self.count - 1) / self.count)
        return np.where(self.count > 1, found, np.nan)


@dataclass
class FeatureSums:
    """What the Frechet distance needs of features (N, F), as they come in: their sum and that of their products.

    Taken from the first batch's mean, so that large means cost no digits.
    """

    count: int = 0
    origin: np.ndarray = field(default_factory=lambda: np.zeros(0))
    total: np.ndarray = field(default_factory=lambda: np.zeros(0))
    products: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, features: np.ndarray) -> None:
        """features: (N, F)."""
        features = np.asarray(features, dtype=np.float64)
        if not len(features):
            return
        if not self.count:
            width = features.shape[1]
            self.origin, self.total, self.products = features.mean(0), np.zeros(width), np.zeros((width, width))
        moved = features - self.origin
        self.count += len(moved)
        self.total += moved.sum(0)
        self.products += moved.T @ moved

    @property
    def mean(self) -> np.ndarray:
        """(F,)."""
        mean: np.ndarray = self.origin + self.total / self.count
        return mean

    @property
    def covariance(self) -> np.ndarray:
        """(F, F), over N - 1."""
        covariance: np.ndarray = (self.products - np.outer(self.total, self.total) / self.count) / (self.count - 1)
        return covariance


def frechet_distance(a: FeatureSums, b: FeatureSums) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of two sets of features (Heusel et al. 2017, Eq. 6); not a
    number where one of them has fewer than two."""
    if min(a.count, b.count) < 2:
        return float("nan")
    S_a, S_b = a.covariance, b.covariance
    # tr (S_a S_b)^(1/2) is the sum of the roots of the eigenvalues of the symmetric S_a^(1/2) S_b S_a^(1/2).
    w, V = scipy.linalg.eigh(S_a)
    root = (V * np.sqrt(np.clip(w, 0, None))) @ V.T
    mixed = np.sqrt(np.clip(scipy.linalg.eigvalsh(root @ S_b @ root), 0, None)).sum()
    return float(np.square(a.mean - b.mean).sum() + np.trace(S_a) + np.trace(S_b) - 2 * mixed)


def rank_correlation(strengths: Sequence[float], values: np.ndarray) -> np.ndarray:
    """Spearman's correlation of strengths (K,) with each row of values (N, K): (N,); equal values share their rank.
    Not a number for rows that do not change, or that lack a value."""
    x = rankdata(np.asarray(strengths, dtype=np.float64))
    y = rankdata(np.asarray(values, dtype=np.float64), axis=1)
    x, y = x - x.mean(), y - y.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = (y @ x) / np.sqrt(np.square(x).sum() * np.square(y).sum(1))
    return np.where(np.isfinite(values).all(1), found, np.nan)
