"""An inverted picture: what the page shows of it, keeps in a file and edits."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..errors import RequestError
from ..text_to_image import TextToImage
from .solution import Solution


@dataclass(frozen=True)
class Inversion:
    """A picture in a model, by one method.

    model, fingerprint: the model and which weights of it. prompt: the source prompt. pixels: (1, 3, R, R) in [-1, 1],
    the picture; reconstruction: what the solution gives. edit_guidance: the working guidance. measures: name -> number,
    see `core.inversion.methods.invert`.
    """

    method: str
    model: str
    fingerprint: str
    prompt: str
    solution: Solution
    edit_guidance: float
    pixels: Tensor
    reconstruction: Tensor
    measures: dict[str, float] = field(default_factory=dict)

    def require(self, model: TextToImage) -> None:
        """Raises RequestError if it was made with another model or other weights of it, or does not fit it."""
        if self.model != model.id:
            raise RequestError(
                f"This picture was inverted with the model “{self.model}”. Choose it to edit the picture."
            )
        if self.fingerprint != model.fingerprint:
            raise RequestError(
                f"This picture was inverted with other weights of “{self.model}”. Invert it again to edit it."
            )
        solution = self.solution
        if solution.trajectory.shape[1:] != model.latent_shape or solution.unconditional.shape[1:] != model.text_shape:
            raise RequestError(f"This inverted picture does not fit “{self.model}”. Invert the picture again.")
