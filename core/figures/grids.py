"""Pictures side by side with words at the edges."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..imaging import to_pil

SIDE, GAP = 104, 4
FONT, LINE = 12, 15
PAPER, INK, FRAME = (255, 255, 255), (40, 36, 34), (232, 70, 140)

Cell = Tensor | Image.Image | None  # pixels (3, R, R) or (1, 3, R, R) in [-1, 1], or a picture


def grid(
    rows: Sequence[Sequence[Cell]],
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    side: int = SIDE,
    marked: tuple[int, int] | None = None,
    frames: Sequence[tuple[float, float, float, float]] = (),
) -> Image.Image:
    """Rows of cells, None for an empty one.

    columns: words above each column. names: words left of each row. captions: words below each cell, a list for every
    row. marked: row and column of a cell in a frame. frames: boxes (x0, y0, x1, y1), as fractions, drawn into the first
    cell.
    """
    font = ImageFont.load_default(FONT)
    left = max((round(font.getlength(line)) for name in names for line in name.split("\n")), default=0)
    left += 8 if names else 0
    above = LINE * max((name.count("\n") + 1 for name in columns), default=0) + (4 if columns else 0)
    below = LINE if captions else 0
    right, down = side + GAP, side + GAP + below
    count = max(len(row) for row in rows)
    image = Image.new("RGB", (left + count * right - GAP, above + len(rows) * down - GAP), PAPER)
    draw = ImageDraw.Draw(image)
    for k, name in enumerate(columns):
        place = left + k * right + side / 2, above - 4
        draw.multiline_text(place, name, INK, font, anchor="md", align="center", spacing=2)
    for r, row in enumerate(rows):
        top = above + r * down
        if r < len(names):
            draw.multiline_text((left - 6, top + side / 2), names[r], INK, font, anchor="rm", align="right", spacing=2)
        for k, cell in enumerate(row):
            if cell is not None:
                image.paste(_picture(cell, side), (left + k * right, top))
            if captions and r < len(captions) and k < len(captions[r]):
                draw.text((left + k * right + side / 2, top + side + 2), captions[r][k], INK, font, anchor="ma")
    for x0, y0, x1, y1 in frames:
        draw.rectangle((left + x0 * side, above + y0 * side, left + x1 * side, above + y1 * side), outline=FRAME)
    if marked is not None:
        x, y = left + marked[1] * right, above + marked[0] * down
        draw.rectangle((x - 2, y - 2, x + side + 1, y + side + 1), outline=(30, 150, 70), width=3)
    return image


def _picture(cell: Tensor | Image.Image, side: int) -> Image.Image:
    if isinstance(cell, Tensor):
        [cell] = to_pil(cell)
    return cell if cell.size == (side, side) else cell.resize((side, side), Image.Resampling.LANCZOS)
