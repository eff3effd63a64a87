"""An inverted picture made again from its noise, with its measures."""

from __future__ import annotations

from torch import Tensor

from ...inversion import editing
from ...inversion.inversion import Inversion
from ...inversion.methods import compare
from ...models.t2i_cards import TextToImageCard
from ...progress import Job
from ...text_to_image import TextToImage
from .. import measuring
from ..device import DEVICE, exclusively
from ..jobs import Work, device_job


def again_work(inversion: Inversion, model: TextToImage, card: TextToImageCard) -> Work:
    """Of `make_again`."""
    return 2 * Work(inversion.solution.steps, 2.0 * inversion.solution.steps)


@device_job(again_work)
def make_again(inversion: Inversion, model: TextToImage, card: TextToImageCard) -> Job[tuple[Tensor, dict[str, float]]]:
    """The picture again, pixels (1, 3, R, R), and what `core.inversion.methods.compare` says of it.

    Raises:
        RequestError: the inversion was made with another model. ResourceError: out of memory.
    """
    pixels = yield from exclusively(editing.reconstruct(model, inversion))
    with DEVICE.turn():
        source = inversion.pixels.to(model.device)
        measures = compare(model, model.encode(source), source, pixels, measuring.distance_or_none(card))
    return pixels.cpu(), measures
