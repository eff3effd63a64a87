"""Boundary: the normal of a linear boundary between pictures that have an attribute and pictures that lack it
(Boundary Diffusion, Zhu et al. 2023, section 3.3; a row of Region-based editing's Table 2).

Pictures of the model are labelled by its own instruments, and their h at one timestep t is divided by a hyperplane. An
edit moves h along its unit normal, at that timestep alone. The hyperplane is that of a least-squares support vector
machine (Suykens and Vandewalle 1999), which is solved at once, in place of the paper's with a hinge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import instruments
from ..directions import GlobalDirection
from ..editing import sample_latent
from ..errors import RequestError
from ..memory import explain_memory_errors
from ..models.cards import PRESETS
from ..models.loader import DiffusionModel
from ..precision import in_float64
from ..progress import Job, Progress
from ..regions import Region, union
from .basis import Basis
from .interface import DiscoveryMethod, DiscoverySettings, FoundDirection

NAME = "boundary"
SAMPLES = 192
BELOW = 8  # steps from t to the picture that is labelled
HELD_OUT = 4  # every so many-th sample is not fitted and says how well the boundary divides
MIN_SHARE = 0.1  # of the samples that have to lie on either side
MIN_ACCURACY = 0.65  # of held-out samples; below, the boundary is not one
RIDGE = 1.0  # of the machine, as a share of the mean squared length of centred h


@dataclass(frozen=True)
class Boundaries:
    """Boundaries of h at timestep t, the surest first.

    names: of the attributes. normals: float32 (A, C, H, W), unit norm, towards more of it. accuracies: of held-out
    samples.
    """

    names: tuple[str, ...]
    normals: Tensor
    accuracies: tuple[float, ...]
    t: int

    @property
    def nbytes(self) -> int:
        return self.normals.nbytes


def boundary(h: Tensor, labels: Tensor, ridge: float = RIDGE) -> tuple[Tensor, float]:
    """The hyperplane <n, h> = b between two classes: (n (D,) of unit norm, b), float64.

    h: (N, D). labels: (N,), True on the side that n points to. It minimises sum (<w, h - m> + c - y)^2 + mu ||w||^2
    with y = +-1 weighted so that both classes count alike, and m their common middle; mu = ridge x mean ||h - m||^2.

    Raises:
        ValueError: one of the classes is empty.
    """
    y, h = in_float64(labels) * 2 - 1, in_float64(h)
    counts = torch.tensor([(~labels).sum(), labels.sum()], dtype=torch.float64)
    if not counts.all():
        raise ValueError("a boundary needs samples on both sides")
    m = (h[labels].mean(0) + h[~labels].mean(0)) / 2
    root = (len(h) / (2 * counts[labels.long()])).sqrt().to(h)  # of the weights
    X = h - m
    mu = ridge * X.square().sum(1).mean()
    # w = X^T a with (K + mu W^-1) a = y - c: in N unknowns, not D. The classes weigh alike, so c = -<w, weighted mean>.
    A = root[:, None] * (X @ X.T) * root + mu * torch.eye(len(h), dtype=h.dtype, device=h.device)
    ones, target = root, root * y.to(h)
    solved = torch.linalg.solve(A, torch.stack((target, ones), dim=1))
    c = (ones @ solved[:, 0]) / (ones @ solved[:, 1])
    w = X.T @ (root * (solved[:, 0] - c * solved[:, 1]))
    length = w.norm().clamp(min=1e-300)
    return w / length, float((m @ w - c) / length)


def labelled(model: DiffusionModel, t: int, samples: int, seed: int = 0) -> Job[tuple[Tensor, dict[str, Tensor]]]:
    """h at timestep t (N, D) of the model's samples, and the attributes of their pictures as its instruments read them.

    Raises:
        RequestError: the model has no instruments, or its trajectory does not visit t. ResourceError: out of memory.
    """
    if model.card.instruments is None:
        raise RequestError(
            f"Boundaries need pictures with labels, and nothing reads those of “{model.card.title}”. Choose another "
            "method."
        )
    probe = instruments.load(PRESETS / model.card.instruments, model.device)
    trajectory = model.schedule.timesteps(model.card.steps)
    if t not in trajectory:
        raise RequestError(f"The timestep must be among those of {model.card.steps} steps.")
    above = [s for s in reversed(trajectory) if s > t]
    lower = [s for s in reversed(trajectory) if s < t]
    down = [*above, t, *lower[:: max(1, len(lower) // BELOW)]]
    features, read, size = [], [], model.rows_per_call()
    for first in range(0, samples, size):
        x = sample_latent(model, seed + first, min(size, samples - first)).x_T
        for k, (s, s_prev) in enumerate(zip(down, [*down[1:], -1], strict=True)):
            with torch.no_grad(), explain_memory_errors():
                here = model.features(x, s)
                if s == t:
                    features.append(here.h.float().flatten(1).cpu())
                eps = model.eps(here, x, s)
                x = model.schedule.reverse_step(x, eps, eps, s, s_prev)
            yield Progress(first * len(down) + (k + 1) * len(x), samples * len(down), "sampling the model")
        with torch.no_grad():
            read.append(probe.attributes(model.codec.decode(x).clamp(-1, 1)))
    return torch.cat(features), {name: torch.cat([one[name] for one in read]).cpu() for name in read[0]}


def prepare(model: DiffusionModel, t: int, count: int, samples: int = SAMPLES) -> Job[Boundaries]:
    """Boundaries of all attributes that divide the model's samples at timestep t. Raises as `labelled`."""
    h, attributes = yield from labelled(model, t, samples)
    held = torch.arange(len(h)) % HELD_OUT == 0
    found: list[tuple[float, str, Tensor]] = []
    for name, values in attributes.items():
        labels = values > values.median()
        share = in_float64(labels).mean().item()
        if not MIN_SHARE <= share <= 1 - MIN_SHARE or not labels[~held].any() or labels[~held].all():
            continue
        normal, offset = boundary(h[~held], labels[~held])
        right = in_float64((in_float64(h[held]) @ normal > offset).cpu() == labels[held]).mean().item()
        if right >= MIN_ACCURACY:
            found.append((right, name, normal.float().cpu()))
        yield Progress(len(found), len(attributes), "finding boundaries")
    found.sort(key=lambda one: -one[0])
    shape = model.card.h_shape
    normals = torch.stack([normal for _, _, normal in found]).view(-1, *shape) if found else torch.zeros(0, *shape)
    return Boundaries(tuple(name for _, name, _ in found), normals, tuple(right for right, _, _ in found), t)


def directions(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> list[FoundDirection]:
    """The normals: the surest first, or with regions those that change them most per change elsewhere, to first order
    and as far as the basis knows. value: accuracy on held-out samples.

    Raises:
        RequestError: `settings.prepared` holds no boundaries, or those of another model.
    """
    known = settings.prepared
    if not isinstance(known, Boundaries):
        raise RequestError("Boundaries need labelled samples of the model first.")
    if known.normals.shape[1:] != basis.vectors.shape[1:]:
        raise RequestError("The boundaries belong to another model.")
    order = list(range(len(known.names)))
    area = union(regions)
    if area is not None:
        Y = in_float64(known.normals.flatten(1) @ basis.vectors.flatten(1).cpu().T)
        inside = basis.gram(area.mask)
        shares = [(y @ inside @ y / (y @ basis.whole @ y).clamp(min=1e-300)).item() for y in Y]
        order.sort(key=lambda i: -shares[i])
    return [
        FoundDirection(GlobalDirection(known.normals[i][None], basis.steps), known.accuracies[i], NAME, "")
        for i in order[: settings.count]
    ]


METHOD = DiscoveryMethod(
    name=NAME,
    label="Boundary: from without an attribute to with it, at one noise level",
    find=directions,
    value_name="accuracy",
    value_help="Share of pictures that were not used and lie on the right side of the boundary.",
    needs_region=False,
    per_region=False,
    one_step=True,
    prepare=prepare,
)
