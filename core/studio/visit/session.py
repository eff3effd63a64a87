"""What the page knows of one visitor: the picture and the directions that all tabs share, and one state per tab."""

from __future__ import annotations

import itertools
import logging
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ... import presets
from ...errors import RequestError, ResourceError
from ...imaging import content_hash
from ...memory import bytes_of, to_disk
from ...models.cards import BaseCard
from ...models.loader import DiffusionModel
from ...photo.faces import FoundFaces
from ...photo.placement import Placement
from ...presets import Preset
from ...text_to_image import TextToImage
from .. import library
from ..compose.composition import Composition
from ..compose.state import ComposeState
from ..compose.word_change import NO_CHANGE, WordChange
from ..discover.exploration import DiscoverState
from ..frames import Picture
from ..invert.state import InvertState
from ..keeping import Shown
from ..known_models import bound_model, takes_prompt, written_prompt
from ..strips import Strip
from ..train import TextEditState
from ..turns import Turns

OTHERS = (DiffusionModel, TextToImage, BaseCard)  # what a visit has but does not keep: it is there for all
MAX_OWN = 1000  # directions of one visit
MAX_NAME = 80  # characters
MAX_PROMPTS = 100  # of pictures of one visit


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a visit is with one of the models: its picture, its own photograph with the square on it and the faces in
    it, the strip and the composition on show, the change of words that belongs to it, and the regions that are drawn in
    Discover."""

    picture: Picture | None = None
    uploaded: Tensor | None = None
    placement: Placement | None = None
    faces: FoundFaces | None = None
    strip: Strip | None = None
    composition: Composition = Composition()
    change_of_words: WordChange = NO_CHANGE
    drawn: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Session:
    """One visitor's visit.

    uploaded: the visitor's own photograph, uint8 (H, W, 3). placement: its square that is used, or is suggested until
    one is; faces: what was found in it; carried: the link that its file has in it. kept: what each tab has made a file
    of. seen: the picture that each tab shows. places: where the visit was with the models that are not chosen now.
    prompts: what the visitor has written that pictures of text-to-image models show, by model and picture. own: the
    visitor's directions. numbered: how many there were, with the deleted ones. token: by which a reloaded page
    finds the visit. reopened: one has found it, and has not been told yet what was on show. edits: requests for an
    edited picture, of which the newest replaces all others whatever tab it came from.
    """

    model_id: str = "avatars"
    picture: Picture | None = None
    uploaded: Tensor | None = None
    placement: Placement | None = None
    faces: FoundFaces | None = None
    carried: str = ""
    kept: dict[str, Shown] = field(default_factory=dict)
    seen: dict[str, Picture | None] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    prompts: dict[tuple[str, str], str] = field(default_factory=dict)
    own: dict[str, Preset] = field(default_factory=dict)
    edits: Turns = field(default_factory=Turns)
    text_edit: TextEditState = field(default_factory=TextEditState)
    discover: DiscoverState = field(default_factory=DiscoverState)
    compose: ComposeState = field(default_factory=ComposeState)
    invert: InvertState = field(default_factory=InvertState)
    numbered: int = 0
    token: str = ""
    reopened: bool = False
    folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def upload(self) -> Image.Image | None:
        """The visitor's own picture."""
        return None if self.uploaded is None else Image.fromarray(self.uploaded.numpy())

    @upload.setter
    def upload(self, picture: Image.Image | None) -> None:
        self.uploaded = None if picture is None else torch.from_numpy(np.array(picture.convert("RGB")))
        self.placement, self.faces, self.carried = None, None, ""

    def model(self) -> DiffusionModel:
        """The network of the chosen model; that of a text-to-image one is bound to what the visit's picture shows.

        Raises:
            ModelUnavailable: its files are not here and cannot be fetched, or are damaged.
        """
        return bound_model(self.model_id, "" if self.picture is None else self.picture.conditioning)

    def describe(self, prompt: str) -> bool:
        """What the visit's picture shows, as the visitor has written it, if its model is to be told. Returns whether
        that is something new.

        Raises:
            RequestError: there is nothing, or it is endless.
        """
        picture = self.picture
        if picture is None or not takes_prompt(picture.model_id):
            return False
        prompt = written_prompt(picture.model_id, prompt)
        if prompt == picture.prompt:
            return False
        self.picture = replace(picture, prompt=prompt)
        self.prompts.pop(self._place_of(picture), None)
        self.prompts[self._place_of(picture)] = prompt
        while len(self.prompts) > MAX_PROMPTS:
            del self.prompts[next(iter(self.prompts))]
        return True

    def as_described(self, picture: Picture) -> Picture:
        """A picture with what the visitor has written of it before, if anything."""
        prompt = self.prompts.get(self._place_of(picture)) if takes_prompt(picture.model_id) else None
        return picture if prompt is None else replace(picture, prompt=prompt)

    @staticmethod
    def _place_of(picture: Picture) -> tuple[str, str]:
        return picture.model_id, content_hash(picture.pixels)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the visit takes."""
        return bytes_of(self, outside=OTHERS)

    def rest(self) -> bool:
        """Nobody uses the visit for now: what it keeps goes to disk, and what can be had again quickly goes. Returns
        whether that was possible; if the disk is full, everything stays in memory."""
        self.text_edit.forms.clear()
        for exploration in self.discover.all:
            if exploration.analysis is not None:
                exploration.analysis = exploration.analysis.cpu()
        try:
            to_disk(self, OTHERS)
        except ResourceError as error:
            log.warning("a visit stays in memory: %s", error)
            return False
        return True

    def change_model(self, model_id: str) -> None:
        """Another model: what belongs to the one before is put away, and what belongs to this one is there again.
        Nothing happens if it is the same."""
        if model_id != self.model_id:
            self.edits.begin()
            left = Place(
                self.picture,
                self.uploaded,
                self.placement,
                self.faces,
                self.text_edit.strip,
                self.compose.composition,
                self.compose.change_of_words,
                self.discover.drawn,
            )
            self.places[self.model_id] = left
            place = self.places.pop(model_id, Place())
            self.model_id, self.picture, self.uploaded = model_id, place.picture, place.uploaded
            self.placement, self.faces, self.carried = place.placement, place.faces, ""
            self.kept.clear()
            self.text_edit.strip = place.strip
            self.text_edit.frames = [] if place.strip is None else place.strip.frames
            self.discover.show(self.picture)
            self.discover.drawn = place.drawn
            self.compose.open(place.composition, place.change_of_words)

    def keep(self, preset: Preset) -> str:
        """Add a preset of the visitor's own and return its id. Its name gets a number where another direction has it.

        Raises:
            RequestError: there are too many.
        """
        if len(self.own) >= MAX_OWN:
            raise RequestError(f"This visit has {MAX_OWN} directions. Save the ones you need, and open the page anew.")
        self.numbered += 1
        key = f"own-{self.numbered}"
        self.put(key, preset)
        return key

    def put(self, key: str, preset: Preset) -> None:
        """A preset in the place of one of the visitor's own, or as a new one."""
        names = self._names(preset.model, key)
        numbered = (f"{preset.name[: MAX_NAME - 5]} {number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([preset.name], numbered) if name.lower() not in names)
        self.own[key] = replace(preset, name=name)

    def _names(self, model_id: str, but: str | None = None) -> set[str]:
        """What the directions of a model are called, in small letters, all but one of the visitor's own."""
        own = {key: preset for key, preset in self.own.items() if preset.model == model_id and key != but}
        return {preset.name.lower() for preset in (*library.shipped(model_id).values(), *own.values())}

    def keep_file(self, preset: Preset) -> str:
        """Add a preset that was opened from a file and return its id; opened again it is the same one.

        Raises:
            RequestError: there are too many.
        """
        called = re.compile(re.escape(preset.name) + r"( \d+)?")  # it may have got a number
        same = [key for key, own in self.own.items() if own.created == preset.created and called.fullmatch(own.name)]
        data = presets.to_bytes(preset) if same else b""
        there = (key for key in same if presets.to_bytes(replace(self.own[key], name=preset.name)) == data)
        return next(there, None) or self.keep(preset)

    def own_preset(self, key: str | None, what: str) -> tuple[str, Preset]:
        """One of the visitor's own presets, with its id. what: is done with it. Raises RequestError: there is none."""
        if key is None or key not in self.own:
            raise RequestError(f"Only directions of your own can be {what}. Choose one of them.")
        return key, self.own[key]

    def rename(self, key: str | None, name: str) -> Preset:
        """Give one of the visitor's own presets another name.

        Raises:
            RequestError: there is none, no name, or another direction has it.
        """
        name = " ".join("".join(c if c.isprintable() else " " for c in name[:400]).split())[:MAX_NAME]
        key, preset = self.own_preset(key, "renamed")
        if not name:
            raise RequestError("A direction needs a name.")
        if name.lower() in self._names(preset.model, key):
            raise RequestError(f"There is another direction called “{name}”. Choose another name.")
        self.own[key] = replace(preset, name=name)
        return self.own[key]

    def remove(self, key: str | None) -> None:
        """Delete one of the visitor's own presets, also from the composition. Raises RequestError: there is none."""
        key, _ = self.own_preset(key, "deleted")
        del self.own[key]
        if key in self.compose.composition:
            self.compose.change(self.compose.composition.remove(key))

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
