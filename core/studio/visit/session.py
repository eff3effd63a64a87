"""What the page knows of one visitor: the picture and the directions that all tabs share, and one state per tab."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ... import presets
from ...errors import ResourceError
from ...imaging import Crop
from ...presets import Preset
from ..compose.state import ComposeState
from ..discover.exploration import DiscoverState
from ..frames import Picture
from ..invert.state import InvertState
from ..train import TextEditState
from ..turns import Turns


@dataclass
class Session:
    """One visitor's visit.

    upload, crop: the visitor's own picture and its part that is used. seen: the picture that each tab shows. own: the
    visitor's directions. edits: requests for an edited picture, of which the newest replaces all others whatever tab it
    came from.
    """

    model_id: str = "avatars"
    picture: Picture | None = None
    upload: Image.Image | None = None
    crop: Crop = Crop()
    seen: dict[str, Picture | None] = field(default_factory=dict)
    own: dict[str, Preset] = field(default_factory=dict)
    edits: Turns = field(default_factory=Turns)
    text_edit: TextEditState = field(default_factory=TextEditState)
    discover: DiscoverState = field(default_factory=DiscoverState)
    compose: ComposeState = field(default_factory=ComposeState)
    invert: InvertState = field(default_factory=InvertState)
    folder: tempfile.TemporaryDirectory[str] | None = None

    def change_model(self, model_id: str) -> None:
        """Another model: what belongs to the one before is out of date. Nothing happens if it is the same."""
        if model_id != self.model_id:
            self.edits.begin()
            self.model_id, self.picture, self.upload = model_id, None, None
            self.text_edit.frames = []
            self.discover.forget()
            self.compose.forget()

    def keep(self, preset: Preset) -> str:
        """Add a preset of the visitor's own and return its id."""
        key = f"own-{len(self.own) + 1}"
        self.own[key] = preset
        return key

    def write(self, preset: Preset) -> Path:
        """A preset as a file of this visit. Raises ResourceError."""
        return presets.save(preset, self._place(presets.file_name(preset.name)))

    def file(self, name: str, data: bytes) -> Path:
        """Something to take away, as a file of this visit. name: the program's, never a visitor's.

        Raises:
            ResourceError: the disk is full.
        """
        path = self._place(name)
        try:
            path.write_bytes(data)
        except OSError as error:
            raise ResourceError(f"The file could not be written ({error.strerror}). Free some space.") from error
        return path

    def _place(self, name: str) -> Path:
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="visit-")
        return Path(self.folder.name) / name

    def end(self) -> None:
        """The visit is over: its work stops, its files go."""
        self.edits.begin()
        self.discover.searches.begin()
        self.invert.jobs.begin()
        self.text_edit.stop_training = True
        if self.folder is not None:
            self.folder.cleanup()
