"""Pictures in a row as one file: filmstrip, sheet of a sweep, looping animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import av
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...errors import RequestError
from ...imaging import to_pil
from .pictures import Sweep

Kind = Literal["webp", "gif", "mp4"]
SIDE = 256  # small pictures are enlarged to it
GAP, MARGIN = 4, 56
PAPER, INK = (250, 248, 244), (70, 64, 56)


def there_and_back(count: int) -> list[int]:
    """Order of `count` frames in which the last leads to the first again: 0 1 2 3 2 1."""
    return [*range(count), *range(count - 2, 0, -1)]


def animation(pixels: Sequence[Tensor], kind: Kind, per_second: float = 12.0) -> bytes:
    """A loop there and back through pictures (3, R, R), as a file.

    WebP and GIF loop by themselves for ever; a player loops an MP4 (H.264, which every browser plays).

    Raises:
        RequestError: fewer than two pictures, another kind, or a speed out of range.
    """
    if len(pixels) < 2:
        raise RequestError("An animation needs at least two pictures.")
    if kind not in ("webp", "gif", "mp4"):
        raise RequestError(f"There is no animation of kind {kind!r}: use webp, gif or mp4.")
    if not 1 <= per_second <= 50:
        raise RequestError(f"An animation has 1 to 50 pictures a second, not {per_second}.")
    frames = [_shown(pixels[k]) for k in there_and_back(len(pixels))]
    buffer, wait = io.BytesIO(), round(1000 / per_second)
    match kind:
        case "webp":
            frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=wait, loop=0, quality=88)
        case "gif":
            # One palette for all, so that what stands still does not flicker.
            together = Image.new("RGB", (frames[0].width, frames[0].height * len(frames)))
            for k, frame in enumerate(frames):
                together.paste(frame, (0, k * frame.height))
            palette = together.quantize(256)
            few = [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
            few[0].save(buffer, "GIF", save_all=True, append_images=few[1:], duration=wait, loop=0)
        case "mp4":
            _mp4(frames, per_second, buffer)
    return buffer.getvalue()


def _mp4(frames: Sequence[Image.Image], per_second: float, buffer: io.BytesIO) -> None:
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(per_second))
        stream.width, stream.height = (side - side % 2 for side in frames[0].size)
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "16"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def filmstrip(pixels: Sequence[Tensor]) -> Image.Image:
    """Pictures (3, R, R) side by side."""
    frames = [_shown(one) for one in pixels]
    side = frames[0].width
    strip = Image.new("RGB", (len(frames) * (side + GAP) - GAP, side), PAPER)
    for k, frame in enumerate(frames):
        strip.paste(frame, (k * (side + GAP), 0))
    return strip


def sheet(sweep: Sweep) -> Image.Image:
    """A sweep as one picture, its strengths and names at the edges."""
    columns, rows = len(sweep.acrosses), len(sweep.downs)
    frames = [_shown(frame.pixels, 128) for frame in sweep.frames]
    step = frames[0].width + GAP
    made = Image.new("RGB", (2 * MARGIN + columns * step, MARGIN + rows * step + GAP), PAPER)
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(15)
    for k, frame in enumerate(frames):
        made.paste(frame, (2 * MARGIN + k % columns * step, MARGIN + k // columns * step))
    for k, strength in enumerate(sweep.acrosses):
        draw.text((2 * MARGIN + (k + 0.5) * step, MARGIN - 10), f"{strength:+g}", INK, font, anchor="ms")
    for k, strength in enumerate(sweep.downs):
        draw.text((2 * MARGIN - 10, MARGIN + (k + 0.5) * step), f"{strength:+g}", INK, font, anchor="rm")
    draw.text((2 * MARGIN, 20), sweep.across[:60], INK, font, anchor="ls")
    draw.text((10, MARGIN - 10), sweep.down[:12], INK, font, anchor="ls")
    return made


def _shown(pixels: Tensor, side: int = SIDE) -> Image.Image:
    return to_pil(pixels, size=max(side, pixels.shape[-1]))[0]
