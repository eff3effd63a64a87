"""What the Invert tab says of methods and measures."""

from __future__ import annotations

from core.inversion.methods import METHODS

STEPS = [
    "Your picture and a prompt that describes it are put into a text-to-image model: each method finds noise, and what "
    "else it needs, from which the model makes this picture again.",
    "The better it comes back, the better an edit can keep what you do not want to change. The table says how well, "
    "and what it costs.",
    "Then change the words: under “Edit”, another prompt starts from the same noise.",
]
PSNR = "Peak signal-to-noise ratio of reconstruction and picture, in dB. More is closer."
SSIM = "Structural similarity of reconstruction and picture. 1 is the same."
DISTANCE = "Perceptual distance of reconstruction and picture. 0 is the same."
SECONDS = "Computing time of the inversion, without waiting for other visitors."
EVALUATIONS = "Network evaluations of the inversion, each of one latent with one prompt; and those also differentiated."
MEMORY = "The most memory that this method needed beyond what was in use before it began (on a GPU: there)."


def label(method: str) -> str:
    """The name of a method on the page; of one that is not known here (a file may say anything), the one it has."""
    return METHODS[method].label if method in METHODS else method
