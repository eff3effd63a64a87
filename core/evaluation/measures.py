"""What a direction does to a batch of pictures, at several strengths, as one table of numbers for each picture.

Edits are compared with strength 0 of the same process, so that what the process itself loses of a picture does not
count as the direction's doing; how much that is, `reconstruction` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..asyrp.loss import directional_loss, text_direction
from ..discovery.locality import mean_squares, roir
from ..errors import ModelUnavailable, RequestError
from ..instruments import Instruments
from ..metrics import psnr
from ..parts import Parts
from .gauges import Gauges
from .statistics import rank_correlation
from .subject import Subject

VERSION = 1  # of what is measured, and how: figures of another version are not those of this one
PIECE = 16  # pictures in one pass of an instrument

# The measures of a picture at each strength, in the order of tables: key -> (what it is called, what it says).
MEASURES: dict[str, tuple[str, str]] = {
    "own": ("own change", "Change of what the direction is for: of its attribute by the probe, in standard deviations "
            "of the attribute among the model's pictures, or by CLIP where there is no attribute."),
    "clip": ("own change by CLIP", "Change of the picture's CLIP embedding (a unit vector) along the direction from "
             "the source text to the target text."),
    "identity": ("identity", "Similarity of the person before and after; 1 for the same."),
    "s_dir": ("S_dir", "Directional CLIP similarity (Asyrp, Eq. 17): cosine of the change of the picture and of the "
              "texts, in [-1, 1]."),
    "distance": ("distance", "Perceptual distance between before and after; 0 for no change."),
    "mse": ("MSE", "Mean squared change of pixels in [-1, 1]."),
    "mse_inside": ("MSE inside", "The same inside the region or part that the direction is for."),
    "mse_outside": ("MSE outside", "The same outside of it."),
    "psnr_outside": ("PSNR outside", "Of the picture outside of it, in dB."),
    "roir": ("ROIR", "Change outside per change inside (norms of differences of pixels); lower is more local."),
    "parts_kept": ("parts kept", "Segmentation consistency: share of pixels that belong to the same part as before."),
    "parts_iou": ("parts IoU", "Segmentation consistency: overlap of each part with itself before, the mean over the "
                  "parts that are there before or after."),
    "reconstruction": ("PSNR to the picture", "Of the edited picture to the original one, in dB. At strength 0: what "
                       "the process loses."),
}  # fmt: skip

Table = dict[str, np.ndarray]


@torch.no_grad()
def measure(
    gauges: Gauges, subject: Subject, originals: Tensor, edited: Tensor, masks: np.ndarray | None = None
) -> tuple[Table, list[str]]:
    """Everything that can be measured of a batch, and in sentences what could not.

    originals: pixels (N, 3, R, R) in [-1, 1]. edited: (N, K, 3, R, R), at each of the subject's strengths. masks:
    boolean (N, R, R), where the direction should act, if that is known better than the subject says it.

    The table has float64 (N, K) under the keys of `MEASURES`, as far as they can be had and with no number where one is
    undefined (0 / 0); "attributes" (N, K, A), changes in standard deviations; "features" (N, K, F) float32, and
    "original_features" (N, F); "rank_correlation" (N,) of strength and own change.
    """
    originals, edited = originals.detach().cpu().float(), edited.detach().cpu().float()
    N, K = edited.shape[:2]
    rows = edited.flatten(0, 1)
    before = edited[:, [subject.zero]].expand_as(edited).flatten(0, 1)
    table: Table = {
        "mse": _numbers((rows - before).square().mean((1, 2, 3))),
        "reconstruction": _numbers(psnr(rows, originals.repeat_interleave(K, dim=0))),
    }
    said: list[str] = []
    for key, compare in (("distance", gauges.distance), ("identity", gauges.identity)):
        if compare is not None:
            try:
                table[key] = _compared(compare, before, rows)
            except ModelUnavailable as error:
                said.append(f"{MEASURES[key][0]} is not measured. {error.message}")
    table |= _by_clip(gauges, subject, rows, K)
    labels = None
    if gauges.parts is not None:
        labels = np.concatenate([gauges.parts.label_maps(part) for part in rows.split(PIECE)])
        labels = labels.reshape(N, K, *labels.shape[1:])
        table |= _parts_kept(labels, subject.zero, len(gauges.parts.names))
    M = _masks(subject, labels, gauges.parts, N, K, edited.shape[-1]) if masks is None else masks.repeat(K, axis=0)
    if M is not None:
        inside, outside = (_numbers(part) for part in mean_squares(before, rows, M))
        there = M.any((1, 2))  # a part that a picture does not show changes by no number
        table |= {"mse_inside": np.where(there, inside, np.nan), "mse_outside": outside}
        table["roir"] = _numbers(roir(before, rows, M))
        table["psnr_outside"] = _numbers(psnr(rows, before, torch.from_numpy(~M)[:, None]))
    table = {key: values.reshape(N, K) for key, values in table.items()}

    if gauges.probe is not None:
        table["attributes"] = _attributes(gauges.probe, rows, N, K, subject.zero)
        if subject.attribute:
            own = table["attributes"][..., list(gauges.probe.known).index(subject.attribute)]
            table["own"] = subject.sign * own
    if "own" not in table and "clip" in table:
        table["own"] = table["clip"]
    if "own" in table:
        table["rank_correlation"] = rank_correlation(subject.strengths, table["own"])
    if gauges.features is not None:
        table["features"] = _features(gauges.features, rows).reshape(N, K, -1)
        table["original_features"] = _features(gauges.features, originals)
    return table, said


def _compared(compare: Callable[[Tensor, Tensor], Tensor], before: Tensor, after: Tensor) -> np.ndarray:
    pairs = zip(before.split(PIECE), after.split(PIECE), strict=True)
    return _numbers(torch.cat([compare(a, b).flatten().cpu() for a, b in pairs]))


def _features(features: Callable[[Tensor], Tensor], pixels: Tensor) -> np.ndarray:
    return torch.cat([features(part).cpu().float() for part in pixels.split(PIECE)]).numpy()


def lacking(gauges: Gauges, subject: Subject, pixels: Tensor) -> Tensor:
    """Which of pictures (N, 3, R, R) lack what a direction is for, as numbers of rows: those whose attribute lies on
    the near side of its mean among the model's pictures; all, if there is no attribute or it is not asked for."""
    if not subject.lacking or not subject.attribute or gauges.probe is None:
        return torch.arange(len(pixels))
    with torch.no_grad():
        value = torch.cat([gauges.probe.attributes(part)[subject.attribute].cpu() for part in pixels.split(PIECE)])
    return ((value - gauges.probe.known[subject.attribute].mean) * subject.sign < 0).nonzero()[:, 0]


def changes(probe: Instruments, before: Tensor, after: Tensor) -> dict[str, float]:
    """Mean change of every attribute from pictures (N, 3, H, W) to others, in standard deviations of the population."""
    with torch.no_grad():
        old, new = probe.attributes(before), probe.attributes(after)
    return {name: ((new[name] - old[name]).mean() / probe.known[name].spread).item() for name in old}


def largest_other(change: Mapping[str, float], attribute: str, also: tuple[str, ...] = ()) -> tuple[str, float]:
    """The attribute whose change is the largest, either way, of all but the direction's own and those that it implies,
    and how large it is."""
    others = {name: abs(value) for name, value in change.items() if name not in (attribute, *also)}
    which = max(others, key=others.__getitem__)
    return which, others[which]


def _numbers(values: Tensor) -> np.ndarray:
    """Float64, with no number in place of infinities: a ratio to nothing is undefined."""
    found = values.detach().cpu().double().numpy()
    return np.where(np.isfinite(found), found, np.nan)


def _by_clip(gauges: Gauges, subject: Subject, rows: Tensor, K: int) -> Table:
    """`s_dir` and `clip`. A direction without texts has none, and nor has one whose texts mean the same."""
    source, target = subject.preset.source_text, subject.preset.target_text
    if gauges.image_text is None or not (source and target):
        return {}
    try:
        dT = text_direction(gauges.image_text, source, target, gauges.templates)
    except RequestError:
        return {}
    E = torch.cat([gauges.image_text.embed_images(part) for part in rows.split(PIECE)]).unflatten(0, (-1, K))
    dI = E - E[:, [subject.zero]]
    s_dir = 1 - directional_loss(dI, dT)
    s_dir[dI.norm(dim=-1) < NO_CHANGE] = float("nan")
    return {"s_dir": _numbers(s_dir).ravel(), "clip": _numbers(dI @ F.normalize(dT, dim=0)).ravel()}


NO_CHANGE = 1e-5  # of a unit embedding: rounding


def _parts_kept(labels: np.ndarray, zero: int, count: int) -> Table:
    """Of maps of parts (N, K, s, s)."""
    before = labels[:, [zero]]
    ious = []
    for part in range(count):
        was, now = before == part, labels == part
        either = (was | now).sum((-2, -1))
        with np.errstate(invalid="ignore"):
            ious.append(np.where(either > 0, (was & now).sum((-2, -1)) / np.maximum(either, 1), np.nan))
    return {
        "parts_kept": (labels == before).mean((-2, -1)).ravel(),
        "parts_iou": np.nanmean(ious, axis=0).ravel(),  # some part is always there
    }


def _masks(
    subject: Subject, labels: np.ndarray | None, parts: Parts | None, N: int, K: int, resolution: int
) -> np.ndarray | None:
    """Boolean (N K, R, R), True where the direction should act; None where nothing says where. labels: (N, K, s, s).

    A part is where the picture shows it at strength 0 or at the strength concerned: glasses are where they come.
    """
    if subject.part and labels is not None and parts is not None and subject.part in parts.names:
        shown = labels == parts.names.index(subject.part)
        either = (shown | shown[:, [subject.zero]]).reshape(N * K, *labels.shape[2:])
        pick = ((np.arange(resolution) + 0.5) * labels.shape[-1] / resolution).astype(int)
        found: np.ndarray = either[:, pick][:, :, pick]
        return found
    region = subject.region(resolution)
    return None if region is None else np.broadcast_to(region.mask, (N * K, resolution, resolution)).copy()


def _attributes(probe: Instruments, rows: Tensor, N: int, K: int, zero: int) -> np.ndarray:
    read = [probe.attributes(part) for part in rows.split(PIECE)]
    columns = [torch.cat([one[name] for one in read]).cpu().double() / probe.known[name].spread for name in probe.known]
    values = torch.stack(columns, -1).numpy().reshape(N, K, -1)
    change: np.ndarray = values - values[:, [zero]]
    return change


def lacking_words(gauges: Gauges, subject: Subject) -> list[str]:
    """In sentences, what is not measured of this direction and why, beside what `gauges` lacks altogether."""
    said, preset = [], subject.preset
    if not (preset.source_text and preset.target_text):
        said.append(f"{preset.name} has no texts: nothing of it is measured by CLIP.")
    if not subject.attribute and gauges.probe is not None:
        said.append(f"{preset.name}: nothing says which attribute it is for; its own change is that by CLIP, if any.")
    if not subject.part and not preset.region:
        said.append(f"{preset.name} has no region and no part: nothing is measured inside and outside of one.")
    return said


def require_known(gauges: Gauges, subject: Subject) -> None:
    """Raises RequestError: the attribute or part is not one that can be read off the model's pictures."""
    if subject.attribute and gauges.probe is not None and subject.attribute not in gauges.probe.known:
        known = ", ".join(gauges.probe.known)
        raise RequestError(f"There is no attribute “{subject.attribute[:60]}” to measure. Choose one of: {known}.")
    if subject.part and gauges.parts is not None and subject.part not in gauges.parts.names:
        known = ", ".join(gauges.parts.names)
        raise RequestError(f"There is no part “{subject.part[:60]}” in these pictures. Choose one of: {known}.")
