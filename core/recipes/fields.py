"""Values of a YAML file, checked field by field; every mistake is kept with its line and its place.

`yaml.compose` gives the nodes with their lines. Scalars are read from their own text, because YAML 1.1 takes 010 for
eight, 1:30 for ninety, `no` for false, and 1e-3 for a word.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ..errors import RecipeError, quoted

T = TypeVar("T")

MAX_FILE = 2**20  # bytes
MAX_SAID = 30  # mistakes that are told at once
MAX_ITEMS = 1000  # of a list or a mapping


class Wrong(Exception):
    """What is wrong with a value, as the end of a sentence: “must be ...”."""


@dataclass
class Mistakes:
    """All that is wrong with a file. lines: of every field that was read, by its place."""

    file: Path
    found: list[tuple[int, str, str]] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def add(self, node: Node | int, place: str, words: str) -> None:
        line = node if isinstance(node, int) else line_of(node)
        if (line, place, words) not in self.found:
            self.found.append((line, place, words))

    def at(self, place: str, words: str) -> None:
        """Something that several fields together do wrong, at the one of `place`, or at what it belongs to."""
        where = place
        while where not in self.lines and "." in where:
            where = where.rpartition(".")[0]
        self.add(self.lines.get(where, 1), place, words)

    def require_none(self) -> None:
        """Raises RecipeError: all of them, in the order of their lines."""
        if not self.found:
            return
        rows = [f"{self.file.name}, line {line}, {place}: {words}" for line, place, words in sorted(self.found)]
        more = len(rows) - MAX_SAID
        raise RecipeError("\n".join([*rows[:MAX_SAID], *([f"... and {more} more."] if more > 0 else [])]))


# A reader gives the value of a node, or raises Wrong; those of mappings and lists keep what is wrong inside and go on.
Read: TypeAlias = Callable[[Node, str, Mistakes], T]


@dataclass(frozen=True)
class Field:
    """How a field is read (None: by the caller, later), and whether it has to be there."""

    read: Read[Any] | None
    required: bool = False


def compose(text: str, file: Path) -> Node | None:
    """The node of a file's text. Raises RecipeError: it is not YAML."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise RecipeError(f"{file.name}{line}: this is not YAML: {error.problem or error.context}.") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        words = str(error).splitlines()[0][:200] if str(error) else "it is nested too deeply"
        raise RecipeError(f"{file.name}: this is not YAML: {words}.") from error


def line_of(node: Node) -> int:
    return int(node.start_mark.line) + 1


def join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def items(node: Node, place: str, mistakes: Mistakes, what: str = "fields") -> dict[str, tuple[Node, Node]]:
    """Names of a mapping -> (the name's node, the value's node). Raises Wrong: it is no mapping."""
    if is_empty(node):
        return {}
    if not isinstance(node, MappingNode):
        raise Wrong(f"must have {what} below it, each as “name: value”, not {said(node)}.")
    if len(node.value) > MAX_ITEMS:
        raise Wrong(f"has more than {MAX_ITEMS} {what}.")
    found: dict[str, tuple[Node, Node]] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            mistakes.add(key, place or "the recipe", "the name of a field must be a word.")
            continue
        name = key.value.strip()
        if name in found:
            first = line_of(found[name][0])
            mistakes.add(key, join(place, name), f"stands here twice, first in line {first}. Keep one of them.")
            continue
        found[name] = key, value
        mistakes.lines[join(place, name)] = line_of(key)
    return found


def mapping(node: Node, place: str, mistakes: Mistakes, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The values of the fields that are there and right; all that is wrong is kept. Raises Wrong: it is no mapping."""
    found = items(node, place, mistakes)
    values: dict[str, Any] = {}
    for name, (key, value) in found.items():
        at = join(place, name)
        if name not in fields:
            mistakes.add(key, at, unknown(name, fields, "field"))
            continue
        read = fields[name].read
        if read is not None and (fields[name].required or not is_empty(value)):
            values |= attempt(value, at, mistakes, read, name)
    for name, one in fields.items():
        if one.required and name not in found:
            mistakes.add(node, join(place, name), "is missing.")
    return values


def attempt(node: Node, place: str, mistakes: Mistakes, read: Read[Any], name: str) -> dict[str, Any]:
    """{name: value}, or {} where it is wrong."""
    try:
        return {name: read(node, place, mistakes)}
    except Wrong as wrong:
        mistakes.add(node, place, str(wrong))
        return {}


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """“is not a field; did you mean ...?”"""
    options = list(known)
    near = difflib.get_close_matches(name.lower(), options, n=1, cutoff=0.6)
    if near:
        return f"there is no {what} of this name. Did you mean {near[0]}?"
    listed = ", ".join(options[:30])
    return f"there is no {what} of this name. Use one of: {listed}."


# ------------------------------------------------------------------------------------------------------------- readers


def text(most: int, empty: bool = False) -> Read[str]:
    """One line (several are joined) of up to so many characters."""

    def read(node: Node, place: str, mistakes: Mistakes) -> str:
        if not isinstance(node, ScalarNode):
            raise Wrong(f"must be a text, not {said(node)}.")
        value = " ".join(node.value.split())
        if not value.isprintable():
            raise Wrong("has characters that cannot be printed.")
        if not (value or empty):
            raise Wrong("must not be empty.")
        if len(value) > most:
            raise Wrong(f"has {len(value)} characters; up to {most} can be used. Shorten it.")
        return value

    return read


def whole(low: int, high: int) -> Read[int]:
    """A whole number from low to high."""

    def read(node: Node, place: str, mistakes: Mistakes) -> int:
        plain = _plain(node)
        if plain is None or not re.fullmatch(r"[+-]?\d[\d_]*", plain) or not low <= int(plain) <= high:
            raise Wrong(f"must be a whole number from {low} to {high}, not {said(node)}.")
        return int(plain)

    return read


def number(low: float, high: float, above: bool = False) -> Read[float]:
    """A number from low (above: which itself is too small) to high."""

    def read(node: Node, place: str, mistakes: Mistakes) -> float:
        try:
            value = float(_plain(node) or "")
        except ValueError:
            value = math.nan
        if not low <= value <= high or (above and value == low):
            between = f"above {low:g}, up to {high:g}" if above else f"from {low:g} to {high:g}"
            raise Wrong(f"must be a number {between}, not {said(node)}.")
        return value

    return read


def truth() -> Read[bool]:
    """true or false."""

    def read(node: Node, place: str, mistakes: Mistakes) -> bool:
        value = {"true": True, "yes": True, "false": False, "no": False}.get((_plain(node) or "").lower())
        if value is None:
            raise Wrong(f"must be true or false, not {said(node)}.")
        return value

    return read


def is_one_of(node: Node, options: Iterable[str]) -> bool:
    return isinstance(node, ScalarNode) and node.value.strip() in set(options)


def choice(options: Iterable[str]) -> Read[Any]:
    """One of some words."""
    known = list(options)

    def read(node: Node, place: str, mistakes: Mistakes) -> str:
        value = node.value.strip() if isinstance(node, ScalarNode) else ""
        if value not in known:
            near = difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.6)
            mean = f" Did you mean {near[0]}?" if near else ""
            raise Wrong(f"must be one of {', '.join(known)}, not {said(node)}.{mean}")
        return value

    return read


def several(read_one: Read[T], least: int = 0, most: int = MAX_ITEMS, single: bool = True) -> Read[tuple[T, ...]]:
    """A list. single: one value alone stands for a list of one."""

    def read(node: Node, place: str, mistakes: Mistakes) -> tuple[T, ...]:
        if not isinstance(node, SequenceNode):
            if single and isinstance(node, ScalarNode) and not is_empty(node):
                return (read_one(node, place, mistakes),)
            raise Wrong(f"must be a list, [..., ...], not {said(node)}.")
        if not least <= len(node.value) <= most:
            count = f"from {least} to {most}" if least < most else str(most)
            raise Wrong(f"must be a list of {count} values, not of {len(node.value)}.")
        values: list[T] = []
        for n, inner in enumerate(node.value, start=1):
            for value in attempt(inner, f"{place}[{n}]", mistakes, read_one, "value").values():
                values.append(value)
        return tuple(values)

    return read


def named(read_one: Read[T], what: str = "names") -> Read[dict[str, T]]:
    """A mapping of names that the writer chooses."""

    def read(node: Node, place: str, mistakes: Mistakes) -> dict[str, T]:
        values: dict[str, T] = {}
        for name, (_, value) in items(node, place, mistakes, what).items():
            values |= attempt(value, join(place, name), mistakes, read_one, name)
        return values

    return read


def path(folder: Path) -> Read[Path]:
    """A path, relative to `folder`."""

    def read(node: Node, place: str, mistakes: Mistakes) -> Path:
        return folder / Path(text(1000)(node, place, mistakes)).expanduser()

    return read


def said(node: Node) -> str:
    """A value in a message."""
    if isinstance(node, SequenceNode):
        return "a list"
    if isinstance(node, MappingNode):
        return "something with fields"
    return "nothing" if is_empty(node) else quoted(str(node.value))


def is_list(node: Node) -> bool:
    return isinstance(node, SequenceNode)


def is_mapping(node: Node) -> bool:
    return isinstance(node, MappingNode)


def list_of(node: Node) -> list[Node]:
    return list(node.value) if isinstance(node, SequenceNode) else []


def _plain(node: Node) -> str | None:
    """The text of a scalar without quotes."""
    return node.value.strip() if isinstance(node, ScalarNode) and node.style is None else None


def is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.style is None and node.value.strip() in ("", "~", "null")
