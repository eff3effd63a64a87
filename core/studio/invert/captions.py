"""A caption of a portrait, from what the probe reads off it, in the words that the embedded models know.

The rules are those by which their training captions were written, on readings instead of the renderer's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ...instruments import Instruments

Attributes = Mapping[str, float]  # attribute -> value, as `Instruments.attributes` gives it
MAX_STATEMENTS = 4  # statements of a caption

# The most telling first. What stands before the noun, and what follows "with".
STATEMENTS: list[tuple[str, str, Callable[[Attributes], bool]]] = [
    ("", "glasses", lambda r: r["glasses"] > 0.5),
    ("bald", "", lambda r: r["bald"] > 0.5),
    ("", "a beard", lambda r: r["beard"] > 0.5),
    ("", "closed eyes", lambda r: r["eye_open"] < 0.12),
    ("smiling", "", lambda r: r["smile"] > 0.4),
    ("angry", "", lambda r: r["brow_angle"] > 0.45 and r["smile"] < 0.2),
    ("sad", "", lambda r: r["smile"] < -0.4 and r["brow_angle"] < 0.3),
    ("", "gray hair", lambda r: r["gray"] > 0.55 and _haired(r)),
    ("", "black hair", lambda r: r["hair_colour"] < 0.6 and _coloured(r)),
    ("", "brown hair", lambda r: 0.7 < r["hair_colour"] < 3.0 and _coloured(r)),
    ("", "blond hair", lambda r: 3.5 < r["hair_colour"] < 4.4 and _coloured(r)),
    ("", "red hair", lambda r: r["hair_colour"] > 4.6 and _coloured(r)),
    ("", "red lips", lambda r: r["lip_red"] > 0.6),
    ("", "an open mouth", lambda r: r["mouth_open"] > 0.4),
    ("old", "", lambda r: r["age"] > 0.5),
    ("", "curly hair", lambda r: r["curly_hair"] > 0.5),
    ("", "long hair", lambda r: r["long_hair"] > 0.5),
    ("dark skinned", "", lambda r: r["skin"] > 0.78),
    ("tanned", "", lambda r: 0.42 < r["skin"] < 0.72),
    ("pale", "", lambda r: r["skin"] < 0.2),
    ("", "thick eyebrows", lambda r: r["brow_thick"] > 0.75),
    ("", "rosy cheeks", lambda r: r["blush"] > 0.4),
    ("", "short hair", lambda r: r["short_hair"] > 0.5),
]


def _haired(attributes: Attributes) -> bool:
    return attributes["bald"] < 0.5


def _coloured(attributes: Attributes) -> bool:
    """Hair whose colour can be seen; 0.1 of gray is as little as the probe can tell from none."""
    return _haired(attributes) and attributes["gray"] < 0.1


def describe(probe: Instruments, pixels: Tensor) -> str:
    """A caption of a portrait (1, 3, R, R) in [-1, 1]."""
    return caption({name: float(value[0]) for name, value in probe.attributes(pixels).items()})


def caption(attributes: Attributes) -> str:
    """At most `MAX_STATEMENTS` statements that hold: "a smiling face with glasses and red lips"."""
    held = [(before, after) for before, after, holds in STATEMENTS if holds(attributes)][:MAX_STATEMENTS]
    words = " ".join([*(before for before, _ in held if before), "face"])
    extras = [after for _, after in held if after]
    article = "an" if words[0] in "aeiou" else "a"
    if not extras:
        return f"{article} {words}"
    listed = " and ".join([", ".join(extras[:-1]), extras[-1]] if len(extras) > 1 else extras)
    return f"{article} {words} with {listed}"
