"""Directions: anything that yields delta_h for h and t. Implicit, per timestep, global, or a weighted sum of those.

A direction made with S steps is applied with S~ steps as delta_h S / S~, which preserves the sum of the shifts
(Asyrp section 3.4); several are added as in its Algorithm 1, line 15.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor

from .delta_block import DeltaBlock
from .errors import PresetError
from .unet import Features

State = tuple[dict[str, Tensor], dict[str, Any]]
Injection = Literal["asymmetric", "symmetric"]
MAX_GAIN = 10.0


class Direction(ABC):
    """What the editing loop knows of a direction.

    kind: name of the form, as kept in files. steps: S, the number of steps it was made with. t_start: the first
    timestep at which it acts, the noisiest; None: from T on, as in the papers. What is decided before stays as it is.
    gain: what a process of few anchored steps has to multiply it with to do as much as the papers' process, where that
    was measured (see `core.calibration`); the papers' process takes no notice of it.
    """

    kind: ClassVar[str]
    steps: int
    t_start: int | None
    gain: float

    def acts_at(self, t: int) -> bool:
        return self.t_start is None or t <= self.t_start

    @abstractmethod
    def delta_h(self, h: Tensor, emb: Tensor, t: int) -> Tensor:
        """The shift at timestep t, broadcastable to h, zero before t_start. h: (B, C, H, W), emb: (B, E), both in the
        direction's dtype."""

    @abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Self:
        """The same direction there, as a copy."""

    @abstractmethod
    def state(self) -> State:
        """(tensors, meta): everything `from_state` needs; meta is plain JSON."""

    def meta(self) -> dict[str, Any]:
        """What `state` says of a direction that is no sum."""
        about: dict[str, Any] = {"kind": self.kind, "steps": self.steps}
        if self.t_start is not None:
            about["t_start"] = self.t_start
        return about if self.gain == 1 else about | {"gain": self.gain}


@dataclass(frozen=True)
class GlobalDirection(Direction):
    """One shift for every image and timestep (Asyrp's dh_global). delta: (1, C, H, W)."""

    kind: ClassVar[str] = "global"
    delta: Tensor
    steps: int
    t_start: int | None = None
    gain: float = 1.0

    def delta_h(self, h: Tensor, emb: Tensor, t: int) -> Tensor:
        if not self.acts_at(t):
            return h.new_zeros(1, *h.shape[1:])
        return self.delta

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Self:
        return replace(self, delta=self.delta.to(device, dtype))

    def state(self) -> State:
        return {"delta": self.delta}, self.meta()


@dataclass(frozen=True)
class PerTimestepDirection(Direction):
    """One shift per timestep for every image (Asyrp's dh_mean), linear in between and constant beyond the ends.

    timesteps: (K,) integers, ascending. deltas: (K, C, H, W).
    """

    kind: ClassVar[str] = "per_timestep"
    timesteps: Tensor
    deltas: Tensor
    steps: int
    t_start: int | None = None
    gain: float = 1.0

    def delta_h(self, h: Tensor, emb: Tensor, t: int) -> Tensor:
        if not self.acts_at(t):
            return h.new_zeros(1, *h.shape[1:])
        known = self.timesteps.tolist()
        above = sum(s < t for s in known)  # index of the first stored timestep >= t
        if above == 0 or above == len(known):
            return self.deltas[min(above, len(known) - 1)][None]
        below, w = above - 1, (t - known[above - 1]) / (known[above] - known[above - 1])
        return torch.lerp(self.deltas[below], self.deltas[above], w)[None]

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Self:
        return replace(self, deltas=self.deltas.to(device, dtype))

    def state(self) -> State:
        tensors = {"timesteps": self.timesteps, "deltas": self.deltas}
        return tensors, self.meta()


@dataclass(frozen=True)
class ImplicitDirection(Direction):
    """A small network f_t(h) -> delta_h (Asyrp section 3.4)."""

    kind: ClassVar[str] = "implicit"
    f_t: DeltaBlock
    steps: int
    t_start: int | None = None
    gain: float = 1.0

    def delta_h(self, h: Tensor, emb: Tensor, t: int) -> Tensor:
        if not self.acts_at(t):
            return h.new_zeros(1, *h.shape[1:])
        return self.f_t(h, emb)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Self:
        return replace(self, f_t=copy.deepcopy(self.f_t).to(device, dtype))

    def state(self) -> State:
        tensors = {name: value.detach() for name, value in self.f_t.state_dict().items()}
        return tensors, self.meta()


@dataclass(frozen=True)
class CompositeDirection(Direction):
    """A weighted sum of directions of any kind, at the step count of the first: sum_i w_i delta_i S_i / S.

    t_edits: part i acts for t >= t_edits[i] only; empty: at every t. injections: where part i acts, in P_t alone
    ("asymmetric") or in P_t and D_t ("symmetric"); empty: all of them as the editing loop is told.
    """

    kind: ClassVar[str] = "composite"
    parts: tuple[Direction, ...]
    weights: tuple[float, ...]
    t_edits: tuple[int, ...] = ()
    injections: tuple[Injection, ...] = ()
    steps: int = field(init=False)
    t_start: int | None = field(init=False, default=None)  # every part has its own
    gain: float = field(init=False, default=1.0)

    def __post_init__(self) -> None:
        if not self.parts or len(self.parts) != len(self.weights):
            raise ValueError(f"{len(self.parts)} parts with {len(self.weights)} weights")
        for values in (self.t_edits, self.injections):
            if values and len(values) != len(self.parts):
                raise ValueError(f"{len(self.parts)} parts with {len(values)} intervals or injections")
        object.__setattr__(self, "steps", self.parts[0].steps)

    def delta_h(self, h: Tensor, emb: Tensor, t: int) -> Tensor:
        starts = self.t_edits or (0,) * len(self.parts)
        acting = [(part, w) for part, w, start in zip(self.parts, self.weights, starts, strict=True) if t >= start]
        none = h.new_zeros(1, 1, 1, 1)
        return sum((w * part.steps / self.steps * part.delta_h(h, emb, t) for part, w in acting), start=none)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Self:
        return replace(self, parts=tuple(part.to(device, dtype) for part in self.parts))

    def state(self) -> State:
        states = [part.state() for part in self.parts]
        tensors = {f"{i}.{name}": value for i, (part, _) in enumerate(states) for name, value in part.items()}
        meta = {"kind": self.kind, "weights": list(self.weights), "parts": [meta for _, meta in states]}
        if self.t_edits:
            meta["t_edits"] = list(self.t_edits)
        if self.injections:
            meta["injections"] = list(self.injections)
        return tensors, meta


@dataclass(frozen=True)
class Part:
    """A direction that is no sum, as a part of one: its weight, and the innermost that is said of where it acts."""

    direction: Direction
    weight: float = 1.0
    t_edit: int = 0
    injection: Injection | None = None


def parts_of(direction: Direction) -> list[Part]:
    """What a direction is a sum of, however deeply nested: sum_i w_i delta_i S_i, each for t >= its t_edit."""
    if not isinstance(direction, CompositeDirection):
        return [Part(direction)]
    starts = direction.t_edits or (0,) * len(direction.parts)
    injections = direction.injections or (None,) * len(direction.parts)
    return [
        Part(inner.direction, w * inner.weight, max(start, inner.t_edit), inner.injection or injection)
        for part, w, start, injection in zip(direction.parts, direction.weights, starts, injections, strict=True)
        for inner in parts_of(part)
    ]


def from_state(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Direction:
    """The direction that `state()` described.

    Raises:
        PresetError: unknown kind, missing or surplus tensors, wrong shapes, non-finite values, bad step count.
    """
    try:
        direction = _from_state(dict(tensors), meta)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise PresetError(f"The direction in this file is damaged: {error}.") from error
    return direction


def _from_state(tensors: dict[str, Tensor], meta: Mapping[str, Any]) -> Direction:
    if meta["kind"] == CompositeDirection.kind:
        parts = []
        for i, part_meta in enumerate(meta["parts"]):
            prefix = f"{i}."
            own = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
            parts.append(_from_state(own, part_meta))
        _expect(not tensors, f"unexpected tensors {sorted(tensors)}")
        weights = tuple(float(w) for w in meta["weights"])
        _expect(all(map(isfinite, weights)), f"weights {weights}")
        t_edits, injections = tuple(meta.get("t_edits", ())), tuple(meta.get("injections", ()))
        _expect(all(isinstance(t, int) for t in t_edits), f"intervals {t_edits}")
        _expect(set(injections) <= set(get_args(Injection)), f"injections {injections}")
        return CompositeDirection(tuple(parts), weights, t_edits, injections)

    steps = meta["steps"]
    _expect(isinstance(steps, int) and 2 <= steps <= 100_000, f"step count {steps!r}")
    t_start = meta.get("t_start")
    _expect(t_start is None or (type(t_start) is int and 0 <= t_start <= 100_000), f"t_start {t_start!r}")
    gain = meta.get("gain", 1.0)
    _expect(type(gain) in (int, float) and 0 < gain <= MAX_GAIN, f"gain {gain!r}")
    for name, value in tensors.items():
        _expect(bool(torch.isfinite(value).all()), f"{name} is not finite")
    match meta["kind"]:
        case GlobalDirection.kind:
            _expect(tensors.keys() == {"delta"}, f"tensors {sorted(tensors)}")
            delta = tensors["delta"]
            _expect(delta.ndim == 4 and len(delta) == 1, f"shape {tuple(delta.shape)}")
            return GlobalDirection(delta.float(), steps, t_start, gain)
        case PerTimestepDirection.kind:
            _expect(tensors.keys() == {"timesteps", "deltas"}, f"tensors {sorted(tensors)}")
            timesteps, deltas = tensors["timesteps"], tensors["deltas"]
            _expect(deltas.ndim == 4 and timesteps.shape == deltas.shape[:1], f"shape {tuple(deltas.shape)}")
            _expect(len(timesteps) > 0 and bool((timesteps.diff() > 0).all()), "timesteps do not ascend")
            return PerTimestepDirection(timesteps.long(), deltas.float(), steps, t_start, gain)
        case ImplicitDirection.kind:
            hidden, channels = tensors["conv1.weight"].shape[:2]
            with torch.device("meta"):  # shapes that do not belong together cost no memory before they are refused
                f_t = DeltaBlock(channels, tensors["temb_proj.weight"].shape[1], hidden, "norm1.weight" in tensors)
            f_t.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
            return ImplicitDirection(f_t.eval().requires_grad_(False), steps, t_start, gain)
        case kind:
            raise ValueError(f"unknown kind {kind!r}")


def _expect(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(fault)


def weighted_delta(
    weighted: Sequence[tuple[Direction, Tensor | float]], features: Features, steps: int
) -> Tensor | None:
    """sum_i c_i delta_i S_i / steps (Asyrp Algorithm 1, line 15), or None where every c_i is zero.

    Each strength c_i is a number or one per row (B,). The directions are evaluated in float32; the result is
    float32, broadcastable to h. `steps` is S~, the number of steps of the process in which the shift is used.
    """
    h, emb, total = features.h.float(), features.emb.float(), None
    for direction, strength in weighted:
        if not isinstance(strength, Tensor):
            strength = torch.tensor([strength])
        if not strength.any():
            continue
        c = (strength.float() * direction.steps / steps).to(h.device)[:, None, None, None]
        delta = c * direction.delta_h(h, emb, features.t)
        total = delta if total is None else total + delta
    return total
