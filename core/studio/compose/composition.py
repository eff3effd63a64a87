"""A composition: directions in an order, each with a strength, like the channels of a mixing desk.

It names directions by their keys and knows nothing of what they do; `applying` does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

from ...errors import RequestError

MAX_COMPONENTS = 12
MAX_STRENGTH = 100
DIGITS = 3  # of a strength, so that a link carries it exactly


@dataclass(frozen=True)
class Component:
    """One direction in a composition.

    key: which one. strength: c_i. unit: the strength that its preset suggests, by which strengths of different
    directions can be compared. muted: left out. solo: while any component is solo, only the solo ones are active.
    """

    key: str
    strength: float = 1.0
    unit: float = 1.0
    muted: bool = False
    solo: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.strength, bool) or not isinstance(self.strength, int | float) or not isfinite(self.strength):
            raise RequestError(f"A strength is a number, not {self.strength!r}.")
        strength = round(float(min(max(self.strength, -MAX_STRENGTH), MAX_STRENGTH)), DIGITS)
        object.__setattr__(self, "strength", strength)

    @property
    def relative_strength(self) -> float:
        """|c_i| in units of the strength that its preset suggests."""
        return abs(self.strength) / self.unit


@dataclass(frozen=True)
class Composition:
    """Components in their order, no key twice. locked: changing a strength rescales the others and the total stays.

    Every change is a new composition. Raises RequestError for a key that is not there, and when there is no room.
    """

    components: tuple[Component, ...] = ()
    locked: bool = False

    def __len__(self) -> int:
        return len(self.components)

    def __contains__(self, key: str) -> bool:
        return any(component.key == key for component in self.components)

    def __getitem__(self, key: str) -> Component:
        return self.components[self.index(key)]

    @property
    def keys(self) -> list[str]:
        """Of all components, in their order."""
        return [component.key for component in self.components]

    @property
    def active(self) -> tuple[Component, ...]:
        """The components that are applied: the solo ones if there are any, without the muted ones."""
        solo = any(component.solo for component in self.components)
        return tuple(c for c in self.components if not c.muted and (c.solo or not solo))

    @property
    def effect(self) -> frozenset[tuple[str, float]]:
        """(key, strength) of the components that are applied: all that a picture depends on."""
        return frozenset((component.key, component.strength) for component in self.active)

    @property
    def total(self) -> float:
        """Sum of the relative strengths of all components that are not muted."""
        return sum(component.relative_strength for component in self.components if not component.muted)

    def index(self, key: str) -> int:
        """Where the component is."""
        for i, component in enumerate(self.components):
            if component.key == key:
                return i
        raise RequestError("This direction is not part of the composition any more.")

    def add(self, key: str, strength: float = 1.0) -> Composition:
        """At the end, at the strength that its preset suggests; one that is there already stays as it is."""
        if key in self:
            return self
        if len(self) >= MAX_COMPONENTS:
            raise RequestError(
                f"A composition has up to {MAX_COMPONENTS} directions. Remove one, or save these as one preset."
            )
        added = Component(key, strength, abs(strength) or 1.0)
        return replace(self, components=(*self.components, added))

    def remove(self, key: str) -> Composition:
        """Without it."""
        i = self.index(key)
        return replace(self, components=self.components[:i] + self.components[i + 1 :])

    def move(self, key: str, to: int) -> Composition:
        """To another place, counted without it."""
        i = self.index(key)
        rest = [*self.components[:i], *self.components[i + 1 :]]
        rest.insert(min(max(to, 0), len(rest)), self.components[i])
        return replace(self, components=tuple(rest))

    def mute(self, key: str, muted: bool) -> Composition:
        """Left out, or back in."""
        return self._with(key, replace(self[key], muted=muted))

    def solo(self, key: str, solo: bool) -> Composition:
        """Active alone, with the other solo ones, or not."""
        return self._with(key, replace(self[key], solo=solo))

    def exchange(self, key: str, new: str) -> Composition:
        """Another direction in its place, at its strength."""
        if new in self:
            raise RequestError("This direction is part of the composition already.")
        return self._with(key, replace(self[key], key=new))

    def lock(self, locked: bool) -> Composition:
        """Keep the total strength from now on, or no longer."""
        return replace(self, locked=locked)

    def set(self, key: str, strength: float) -> Composition:
        """Another strength. If locked, it is limited to the total, and the others that are not muted are rescaled in
        proportion, so that the total stays (equally, if they were all zero)."""
        changed = replace(self[key], strength=strength)
        others = [c for c in self.components if c.key != key and not c.muted]
        if not self.locked or changed.muted or not others:
            return self._with(key, changed)
        total, before = self.total, sum(c.relative_strength for c in others)
        if changed.relative_strength > total:
            changed = replace(changed, strength=total * changed.unit * (1 if strength > 0 else -1))
        rest = max(0.0, total - changed.relative_strength)
        scaled = {c.key: c.strength * rest / before if before else c.unit * rest / len(others) for c in others}
        components = tuple(replace(c, strength=scaled.get(c.key, c.strength)) for c in self.components)
        return replace(self, components=components)._with(key, changed)

    def _with(self, key: str, component: Component) -> Composition:
        i = self.index(key)
        return replace(self, components=(*self.components[:i], component, *self.components[i + 1 :]))
