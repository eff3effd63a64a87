"""What the Invert tab says of methods and measures."""

from __future__ import annotations

from html import escape

from core.inversion.methods import METHODS

STEPS = [
    "Your picture and a prompt that describes it are put into a text-to-image model: each method finds noise, and what "
    "else it needs, from which the model makes this picture again.",
    "The better it comes back, the better an edit can keep what you do not want to change. The table says how well, "
    "and what it costs.",
    "Then change the words: under “Edit”, another prompt starts from the same noise.",
]
PSNR = (
    "How close the reconstruction is to the picture, point by point (peak signal-to-noise ratio, in dB). More is "
    "closer: at 20 the differences are plain, at 40 they are hard to see."
)
SSIM = "How well edges and textures agree (structural similarity). 1 is the same, 0 has nothing in common."
DISTANCE = "How different the two look, by a network that was made to judge that (perceptual distance). 0 is the same."
SECONDS = "Computing time of the inversion, without waiting for other visitors."
EVALUATIONS = (
    "How often the network was asked: once for each noisy picture with each prompt. Below it, how often also how its "
    "answer would change (gradient), which takes longer."
)
MEMORY = "The most memory that this method needed beyond what was in use before it began (on a GPU: there)."


def label(method: str) -> str:
    """The name of a method on the page; of one that is not known here (a file may say anything), the one it has."""
    return METHODS[method].label if method in METHODS else method


def explained(name: str, words: str, group: str = "") -> str:
    """A name whose explanation opens by a tap, a click or a key; a pointer that rests there sees it as well. group: of
    such names, of which one is open at a time."""
    together = f' name="{group}"' if group else ""
    return (
        f'<details class="explained"{together}><summary title="{escape(words)}">{escape(name)}</summary>'
        f"<small>{escape(words)}</small></details>"
    )


def explained_method(method: str) -> str:
    """The name of a method, with what it does."""
    return explained(label(method), METHODS[method].help)


def all_methods() -> str:
    """What every method does."""
    rows = "".join(f"<dt>{escape(method.label)}</dt><dd>{escape(method.help)}</dd>" for method in METHODS.values())
    return f'<details class="meanings"><summary>What these methods do</summary><dl>{rows}</dl></details>'
