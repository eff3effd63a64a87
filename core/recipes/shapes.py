"""The regions of a recipe's entry: names, boxes, or parts of the picture."""

from __future__ import annotations

from yaml.nodes import Node

from ..regions import MAX_LABEL, MAX_REGIONS, MAX_SHAPES, Box
from . import fields
from .fields import Field, Mistakes, Wrong
from .recipe import RegionShape

PART = "part"


def regions(node: Node, place: str, mistakes: Mistakes) -> tuple[RegionShape, ...]:
    """A name, a list of names, `{part: NAME}`, or labels with boxes, names or `{part: NAME}`. Raises Wrong."""
    if not fields.is_mapping(node):
        parts = fields.several(fields.text(MAX_LABEL), 1, MAX_REGIONS)(node, place, mistakes)
        return tuple(RegionShape(part, part=part) for part in parts)
    found = fields.items(node, place, mistakes, "regions")
    if list(found) == [PART]:
        return _part(found[PART][1], f"{place}.{PART}", mistakes)
    if not 0 < len(found) <= MAX_REGIONS:
        raise Wrong(f"must have from 1 to {MAX_REGIONS} regions below it, not {len(found)}.")
    shapes: list[RegionShape] = []
    for label, (key, value) in found.items():
        at = f"{place}.{label}"
        if not 0 < len(label) <= MAX_LABEL:
            mistakes.add(key, at, f"the label of a region has from 1 to {MAX_LABEL} characters.")
            continue
        if fields.is_mapping(value):
            named = fields.mapping(value, at, mistakes, {PART: Field(fields.text(MAX_LABEL), required=True)})
            shapes += [RegionShape(label, exact=True, **named)] if named else []
            continue
        if not fields.is_list(value):
            named = fields.attempt(value, at, mistakes, fields.text(MAX_LABEL), PART)
            shapes += [RegionShape(label, **named)] if named else []
            continue
        inner = fields.list_of(value)
        one_box = bool(inner) and not any(fields.is_list(one) for one in inner)
        read = (lambda n, p, m: (_box(n, p, m),)) if one_box else fields.several(_box, 1, MAX_SHAPES, single=False)
        boxes = fields.attempt(value, at, mistakes, read, "boxes")
        shapes += [RegionShape(label, **boxes)] if boxes else []
    return tuple(shapes)


def _part(node: Node, place: str, mistakes: Mistakes) -> tuple[RegionShape, ...]:
    named = fields.attempt(node, place, mistakes, fields.text(MAX_LABEL), PART)
    return (RegionShape(named[PART], part=named[PART], exact=True),) if named else ()


def _box(node: Node, place: str, mistakes: Mistakes) -> Box:
    before = len(mistakes.found)
    sides = fields.several(fields.number(0, 1), 4, 4, single=False)(node, place, mistakes)
    if len(mistakes.found) > before:
        return (0.0, 0.0, 1.0, 1.0)
    left, top, right, bottom = sides
    if left >= right or top >= bottom:
        raise Wrong("must be a box [left, top, right, bottom] with left below right and top below bottom.")
    return left, top, right, bottom
