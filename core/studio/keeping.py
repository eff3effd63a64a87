"""What leaves the app as a picture: the photograph with the edit in it, or the edited square, as a file."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from ..imaging import to_pil
from ..photo.record import SUFFIX, Kind, to_file
from ..photo.warp import Returning
from ..presets import file_name
from .frames import Frame, Picture
from .photographs import returned


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

    def result(self, how: Returning) -> Image.Image:
        """The photograph with the edit in it, or the edit. Raises ImageError."""
        return returned(self.picture, self.edited, how, self.before) if self.whole else to_pil(self.edited)[0]

    def original(self) -> Image.Image:
        """The same before the edit."""
        if self.picture.photo is not None and self.whole:
            return Image.fromarray(self.picture.photo.numpy())
        return to_pil(self.before)[0]


def nearest(frames: list[Frame], strength: float) -> Frame | None:
    """The frame that is shown for a strength."""
    return min(frames, key=lambda frame: abs(frame.strength - strength), default=None)


def file_of(picture: Image.Image, name: str, kind: Kind, token: str = "") -> tuple[str, bytes]:
    """A file's name and content. Raises ImageError."""
    return file_name(name).rpartition(".")[0] + SUFFIX.get(kind, ""), to_file(picture, kind, token)
