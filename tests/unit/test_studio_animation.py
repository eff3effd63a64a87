"""Filmstrips and animations."""

import io

import av
import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import RequestError
from core.studio.compose import animation


def greys() -> list[torch.Tensor]:
    """Four flat pictures, from dark to light."""
    return [torch.full((3, 16, 16), value) for value in (-0.8, -0.2, 0.3, 0.9)]


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_an_animation_loops_there_and_back(kind: str) -> None:
    shown = Image.open(io.BytesIO(animation.animation(greys(), kind, per_second=10)))
    assert shown.format == kind.upper()
    assert shown.n_frames == 6
    assert shown.info["loop"] == 0
    values, order = [], [0, 1, 2, 3, 2, 1]
    for k in range(shown.n_frames):
        shown.seek(k)
        values.append(np.asarray(shown.convert("RGB"), dtype=float).mean() / 127.5 - 1)
        shown.load()
        assert shown.info["duration"] == 100
    assert values == pytest.approx([greys()[k].mean().item() for k in order], abs=0.03)


def test_an_mp4_is_the_same_loop() -> None:
    with av.open(io.BytesIO(animation.animation(greys(), "mp4", per_second=10))) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == 10
        values = [frame.to_ndarray(format="rgb24").mean() / 127.5 - 1 for frame in container.decode(video=0)]
    assert values == pytest.approx([greys()[k].mean().item() for k in (0, 1, 2, 3, 2, 1)], abs=0.05)


def test_an_mp4_says_which_colours_it_has() -> None:
    """BT.709, in its tags and in its values: Y = 16 + 219 (0.2126 R + 0.7152 G + 0.0722 B)."""
    colour = (200 / 255, 40 / 255, 90 / 255)
    flat = torch.tensor(colour).view(3, 1, 1).expand(3, 16, 16) * 2 - 1
    with av.open(io.BytesIO(animation.animation([flat, flat], "mp4", per_second=10))) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)
    luma = 16 + 219 * sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), colour, strict=True))
    assert frame.to_ndarray(format="yuv420p")[:16].mean() == pytest.approx(luma, abs=1.5)
    assert frame.to_ndarray(format="rgb24")[8, 8] == pytest.approx([200, 40, 90], abs=3)


def test_what_cannot_be_animated() -> None:
    for fault in ((greys()[:1], "gif", 10), (greys(), "exe", 10), (greys(), "gif", 0), (greys(), "gif", 1000)):
        with pytest.raises(RequestError):
            animation.animation(*fault)
    strip = np.asarray(animation.filmstrip(greys()), dtype=float)
    side = strip.shape[0]
    columns = [strip[:, k * (side + animation.GAP) + side // 2].mean() / 127.5 - 1 for k in range(4)]
    assert columns == pytest.approx([-0.8, -0.2, 0.3, 0.9], abs=0.02)
