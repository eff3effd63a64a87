"""What all the work of a recipe needs: the model, its image-text model, pictures, and where files are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..clip import ImageText
from ..errors import ModelUnavailable
from ..intervals import Curves, IntervalSource
from ..models.cards import ModelCard
from ..models.loader import DiffusionModel
from ..studio import measuring
from .kept import content_key
from .pictures import Readable
from .recipe import PictureSource, Recipe
from .team import HIDDEN, Team

VERSION = 1  # of what is computed: results of another one are made anew
CURVES = "curves.json"  # in the output folder: the model's own curves, as `hspace curves` writes them


@dataclass
class Workshop:
    """pictures: those of the sources that the recipe names, by source."""

    recipe: Recipe
    model: DiffusionModel
    team: Team
    pictures: dict[PictureSource, Readable] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Of all results."""
        return self.recipe.output

    @property
    def hidden(self) -> Path:
        """Of what is kept for the next run."""
        return self.recipe.output / HIDDEN

    @property
    def card(self) -> ModelCard:
        return self.model.card

    @property
    def image_text(self) -> ImageText:
        """Raises ModelUnavailable."""
        return measuring.image_text(self.card)

    def key(self, kind: str, *parts: Any) -> str:
        """Of something that is made with this model, with its prompt, in this precision."""
        bound = (self.model.conditioning,) if self.model.conditioning else ()
        return content_key(kind, VERSION, self.model.fingerprint, str(self.model.dtype), *bound, parts)

    def intervals(self) -> IntervalSource:
        """The curves in the output folder, else the model's own, else those of a typical model."""
        path = self.folder / CURVES
        return Curves.load(path) if path.is_file() else self.card.known_or_typical()

    def t_boost(self) -> int | None:
        """By the curves; None where they are not known."""
        path = self.folder / CURVES
        if path.is_file():
            return Curves.load(path).t_boost()
        try:
            return self.card.interval_source().t_boost()
        except ModelUnavailable:
            return None
