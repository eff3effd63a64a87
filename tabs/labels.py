"""Where the names of dots stand in a drawing: beside them, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Box = tuple[float, float, float, float]  # left, top, right, bottom
Dot = tuple[float, float]
LINE = 13.0  # between two base lines
GAP = 8.0  # between a dot's middle and its name
RADIUS = 5.5  # of a dot with its edge
RINGS = 4  # how far away a name may be, in lines


def places(dots: Sequence[Dot], names: Sequence[str], inside: Box, obstacles: Sequence[Box] = ()) -> list[Dot]:
    """Left end and base line of each name, in the order of the dots.

    The highest dot chooses first: right of it, left, above, below, then farther away. A name stands where it covers
    nothing; where that cannot be, where it covers least. inside: all names are. obstacles: beside the dots and names.
    """
    taken = [*obstacles, *((a - RADIUS, b - RADIUS, a + RADIUS, b + RADIUS) for a, b in dots)]
    chosen: dict[int, Dot] = {}
    for i in sorted(range(len(dots)), key=lambda i: (dots[i][1], dots[i][0])):
        width = width_of(names[i])
        place = min(
            (place for place in _around(*dots[i], width) if _within(_box(place, width), inside)),
            key=lambda place: sum(_overlap(_box(place, width), other) for other in taken),
            default=(dots[i][0] + GAP, dots[i][1] + 4),
        )
        taken.append(_box(place, width))
        chosen[i] = place
    return [chosen[i] for i in range(len(dots))]


def width_of(name: str) -> float:
    """Of a name in the type of drawings, 11.5 px, rather too much than too little."""
    return sum(8.2 if letter.isupper() or letter in "mw" else 6.4 for letter in name)


def along(line: Sequence[Dot], step: float = 3.0) -> list[Box]:
    """A line through points as an obstacle."""
    boxes = []
    for (x0, y0), (x1, y1) in zip(line, line[1:], strict=False):
        count = max(1, round(max(abs(x1 - x0), abs(y1 - y0)) / step))
        for k in range(count + 1):
            x, y = x0 + (x1 - x0) * k / count, y0 + (y1 - y0) * k / count
            boxes.append((x - 1.5, y - 1.5, x + 1.5, y + 1.5))
    return boxes


def _around(a: float, b: float, width: float) -> Iterator[Dot]:
    """Places for a name around a dot, the best first."""
    right, left, middle = a + GAP, a - GAP - width, a - width / 2
    for line in (b + 4, *(b + 4 + side * ring * LINE for ring in range(1, RINGS + 1) for side in (-1, 1))):
        yield from ((x, line) for x in ((right, left) if line == b + 4 else (middle, right, left)))


def _box(place: Dot, width: float) -> Box:
    """What a name covers, without the tails of its letters."""
    left, line = place
    return left, line - 9.5, left + width, line + 2.5


def _within(box: Box, inside: Box) -> bool:
    return box[0] >= inside[0] and box[1] >= inside[1] and box[2] <= inside[2] and box[3] <= inside[3]


def _overlap(box: Box, other: Box) -> float:
    """Area that two boxes share."""
    across = min(box[2], other[2]) - max(box[0], other[0])
    down = min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, across) * max(0.0, down)
