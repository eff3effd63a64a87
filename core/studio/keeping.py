"""What leaves the app as a picture: the photograph with the edit in it, or the edited square, as a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image
from torch import Tensor

from ..errors import RequestError
from ..imaging import MAX_PHOTO_SIDE, to_pil
from ..photo.record import SUFFIX, Kind, to_file
from ..photo.warp import Returning, cut
from ..presets import file_name
from .frames import Frame, Picture
from .photographs import returned

# "photo": the whole photograph with the edit in it. "square": the edited square at the size it has there. "model": as
# the model made it; "twice", "four": enlarged so many times.
Size = Literal["photo", "square", "model", "twice", "four"]
FACTORS: dict[Size, int] = {"model": 1, "twice": 2, "four": 4}


@dataclass(frozen=True)
class Shown:
    """An edited picture on the page. edited, before: pixels (3, R, R) and (1, 3, R, R). name: of the edit. token: a
    link that makes it again, "" where there is none."""

    picture: Picture
    before: Tensor
    edited: Tensor
    name: str
    token: str = ""

    @property
    def whole(self) -> bool:
        """Whether there is a photograph that it can go back into."""
        return self.picture.placement is not None

    @property
    def sizes(self) -> dict[Size, tuple[int, int]]:
        """(width, height) of every size that it can have as a file; the first is the usual one."""
        side, placement = self.edited.shape[-1], self.picture.placement
        if placement is None:
            return {size: (factor * side,) * 2 for size, factor in reversed(FACTORS.items())}
        sizes: dict[Size, tuple[int, int]] = {"photo": (placement.width, placement.height)}
        there = min(round(placement.side), MAX_PHOTO_SIDE)
        if there > side:  # else the photograph shows less of it than the model
            sizes["square"] = there, there
        return sizes | {"model": (side, side)}

    def result(self, how: Returning, size: Size | None = None) -> Image.Image:
        """The edit at one of its `sizes`, the usual one by default. Enlarged by Lanczos' filter, which makes no detail
        that was not there; the square of a photograph keeps the photograph's own detail if `how` is "difference".

        Raises:
            RequestError: it has no such size.
            ImageError: there is nothing to put back.
        """
        size = self._known(size)
        if size == "photo":
            return returned(self.picture, self.edited, how, self.before)
        if size == "square" and how == "difference":
            return self._cut_out(returned(self.picture, self.edited, how, self.before))
        return self._enlarged(self.edited, size)

    def original(self, size: Size | None = None) -> Image.Image:
        """The same before the edit."""
        size = self._known(size)
        if size in ("photo", "square") and self.picture.photo is not None:
            photo = Image.fromarray(self.picture.photo.numpy())
            return photo if size == "photo" else self._cut_out(photo)
        return self._enlarged(self.before, size)

    def _known(self, size: Size | None) -> Size:
        sizes = self.sizes
        if size is None:
            return next(iter(sizes))
        if size not in sizes:
            raise RequestError("This picture can't be had in this size. Choose another one.")
        return size

    def _cut_out(self, photo: Image.Image) -> Image.Image:
        assert self.picture.placement is not None  # else there is no such size
        return to_pil(cut(photo, self.picture.placement, self.sizes["square"][0]))[0]

    def _enlarged(self, pixels: Tensor, size: Size) -> Image.Image:
        made = to_pil(pixels)[0]
        return made if made.size == self.sizes[size] else made.resize(self.sizes[size], Image.Resampling.LANCZOS)


def nearest(frames: list[Frame], strength: float) -> Frame | None:
    """The frame that is shown for a strength."""
    return min(frames, key=lambda frame: abs(frame.strength - strength), default=None)


def file_of(picture: Image.Image, name: str, kind: Kind, token: str = "") -> tuple[str, bytes]:
    """A file's name and content. Raises ImageError."""
    return file_name(name).rpartition(".")[0] + SUFFIX.get(kind, ""), to_file(picture, kind, token)
