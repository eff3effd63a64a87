"""Pictures in a row as one file: filmstrip, sheet of a sweep, looping animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import av
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...errors import RequestError
from ...imaging import to_pil
from .pictures import Sweep

Kind = Literal["webp", "gif", "mp4"]
MIN_SIDE = 256  # smaller pictures are enlarged to it
GAP, MARGIN = 4, 56
PAPER, INK = (250, 248, 244), (70, 64, 56)


def there_and_back(count: int) -> list[int]:
    """The order in which `count` frames make a loop: 0 1 2 3 2 1 for four of them."""
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
    frames = [_enlarged(pixels[k]) for k in there_and_back(len(pixels))]
    buffer, wait = io.BytesIO(), round(1000 / per_second)
    match kind:
        case "webp":
            frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=wait, loop=0, quality=88)
        case "gif":
            # One palette for all, so that what stands still does not flicker.
            stacked = Image.new("RGB", (frames[0].width, frames[0].height * len(frames)))
            for k, frame in enumerate(frames):
                stacked.paste(frame, (0, k * frame.height))
            palette = stacked.quantize(256)
            reduced = [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
            reduced[0].save(buffer, "GIF", save_all=True, append_images=reduced[1:], duration=wait, loop=0)
        case "mp4":
            _mp4(frames, per_second, buffer)
    return buffer.getvalue()


def _mp4(frames: Sequence[Image.Image], per_second: float, buffer: io.BytesIO) -> None:
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(per_second))
        stream.width, stream.height = (side - side % 2 for side in frames[0].size)
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "16"}
        # Said, because players guess the colours of a video that does not say which they are by its size.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        for frame in frames:
            shown = av.VideoFrame.from_image(frame)
            converted = shown.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(converted))
        container.mux(stream.encode())


def filmstrip(pixels: Sequence[Tensor], cells: Sequence[Image.Image] | None = None) -> Image.Image:
    """Pictures (3, R, R) side by side. cells: as of `sheet`."""
    frames = cells or [_enlarged(picture) for picture in pixels]
    width, height = frames[0].size
    strip = Image.new("RGB", (len(frames) * (width + GAP) - GAP, height), PAPER)
    for k, frame in enumerate(frames):
        strip.paste(frame, (k * (width + GAP), 0))
    return strip


def sheet(sweep: Sweep, cells: Sequence[Image.Image] | None = None) -> Image.Image:
    """A sweep as one picture, its strengths and names at the edges. cells: what is shown of each frame, all of one
    size, if that is not the frame itself."""
    columns, rows = len(sweep.acrosses), len(sweep.downs)
    frames = cells or [_enlarged(frame.pixels, 128) for frame in sweep.frames]
    right, down = frames[0].width + GAP, frames[0].height + GAP
    image = Image.new("RGB", (2 * MARGIN + columns * right, MARGIN + rows * down + GAP), PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for k, frame in enumerate(frames):
        image.paste(frame, (2 * MARGIN + k % columns * right, MARGIN + k // columns * down))
    for k, strength in enumerate(sweep.acrosses):
        draw.text((2 * MARGIN + (k + 0.5) * right, MARGIN - 10), f"{strength:+g}", INK, font, anchor="ms")
    for k, strength in enumerate(sweep.downs):
        draw.text((2 * MARGIN - 10, MARGIN + (k + 0.5) * down), f"{strength:+g}", INK, font, anchor="rm")
    draw.text((2 * MARGIN, 20), sweep.across[:60], INK, font, anchor="ls")
    draw.text((10, MARGIN - 10), sweep.down[:12], INK, font, anchor="ls")
    return image


def _enlarged(pixels: Tensor, side: int = MIN_SIDE) -> Image.Image:
    return to_pil(pixels, size=max(side, pixels.shape[-1]))[0]
