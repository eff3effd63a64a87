"""Prompts of Asyrp: templates around a text, and the loss coefficients of the paper's Table 3.

The embedded image-text model learned captions with a handful of openings, so those are its templates; a real CLIP gets
the 80 ImageNet templates that open_clip ships (the released code of Asyrp uses 79 of them).
"""

from dataclasses import dataclass

from ..models.cards import EmbeddedClip, ModelCard

CAPTION_TEMPLATES = ("{}", "a {}", "a photo of a {}", "a drawing of a {}", "the {}")


def templates(card: ModelCard) -> tuple[str, ...]:
    """Format strings with one place, suited to the image-text model of a card."""
    if isinstance(card.clip, EmbeddedClip):
        return CAPTION_TEMPLATES
    from open_clip import OPENAI_IMAGENET_TEMPLATES  # slow to import, and only Hub models need it

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def without_article(text: str) -> str:
    """A prompt as templates take it, which have an article of their own: "a face" -> "face"."""
    first, _, rest = text.strip().partition(" ")
    return rest.strip() if rest.strip() and first.lower() in ("a", "an", "the") else text.strip()


@dataclass(frozen=True)
class Coefficients:
    """l_clip; l_recon = 3 x the CLIP similarity of the two texts where it is None; from random latents or not."""

    l_clip: float = 0.8
    l_recon: float | None = None
    from_random: bool = False


def _table(rows: str) -> dict[tuple[str, str], Coefficients]:
    table = {}
    for row in rows.strip().splitlines():
        source, target, l_clip, l_recon, random = (cell.strip() for cell in row.split("|"))
        table[source, target] = Coefficients(float(l_clip), float(l_recon), random == "O")
    return table


# Asyrp, Table 3: source | target | l_clip | l_recon | trained from random noise. 0.905 * 3 is written out as 2.715.
# The portrait by Frida Kahlo is printed as "0.4433", where all other rows have three digits "* 3". By the rule of the
# table's own caption, l_recon = 3 x the similarity, and with the 0.443 of Table 2, it is 1.329.
TABLE_3 = _table(
    """
    person | young person | 0.8 | 2.715 | X
    face | smiling face | 0.8 | 2.697 | X
    face | sad face | 0.8 | 2.682 | X
    face | angry face | 0.8 | 2.676 | X
    face | tanned face | 0.8 | 2.658 | X
    face | disgusted face | 0.8 | 2.640 | X
    person | person with makeup | 0.8 | 2.625 | X
    person | person with curly hair | 0.8 | 2.505 | X
    photo | self-portrait by frida kahlo | 0.5 | 1.329 | O
    human | zombie | 0.6 | 2.604 | O
    person | nicolas cage | 0.8 | 2.130 | O
    human | painting in the style of pixar | 0.8 | 2.001 | O
    photo | painting in modigliani style | 0.8 | 1.695 | O
    human | neanderthal | 1.2 | 2.406 | O
    church | gothic church | 0.8 | 2.736 | O
    church | temple | 0.8 | 2.694 | O
    church | department store | 0.8 | 2.523 | O
    church | wooden house | 0.8 | 2.379 | O
    church | ancient traditional asian tower | 0.8 | 2.352 | O
    church | red brick wall church | 0.8 | 2.322 | O
    church | factory | 0.8 | 2.106 | O
    bedroom | princess bedroom | 1.5 | 2.736 | O
    bedroom | hotel bedroom | 1.5 | 2.751 | O
    dog | happy dog | 1.5 | 2.649 | O
    dog | sleepy dog | 1.5 | 2.598 | O
    dog | wolf | 1.7 | 2.550 | O
    dog | yorkshire terrier | 2.0 | 2.070 | O
    painting of a person | painting of a sad person | 1.5 | 2.763 | X
    painting of a person | painting of a smiling person | 1.5 | 2.724 | X
    painting of a person | painting of a disgusted person | 1.5 | 2.637 | X
    """
)

# Asyrp, Table 2: (source, target) of its 33 rows, by data set and in its order; the intervals are in `core.intervals`.
TABLE_2: dict[str, tuple[tuple[str, str], ...]] = {
    "CelebA-HQ": (
        ("person", "young person"),
        ("face", "smiling face"),
        ("face", "sad face"),
        ("face", "angry face"),
        ("face", "tanned face"),
        ("face", "disgusted face"),
        ("person", "person with makeup"),
        ("human", "zombie"),
        ("person", "person with bald head"),
        ("person", "person with curly hair"),
        ("human", "neanderthal"),
        ("person", "mark zuckerberg"),
        ("person", "nicolas cage"),
        ("human", "painting in the style of pixar"),
        ("photo", "painting in modigliani style"),
        ("photo", "self-portrait by frida kahlo"),
    ),
    "LSUN-church": (
        ("church", "gothic church"),
        ("church", "temple"),
        ("church", "department store"),
        ("church", "wooden house"),
        ("church", "ancient traditional asian tower"),
        ("church", "red brick wall church"),
        ("church", "factory"),
    ),
    "LSUN-bedroom": (("bedroom", "princess bedroom"), ("bedroom", "hotel bedroom")),
    "AFHQ": (
        ("dog", "happy dog"),
        ("dog", "sleepy dog"),
        ("dog", "angry dog"),
        ("dog", "wolf"),
        ("dog", "yorkshire terrier"),
    ),
    "METFACES": (
        ("painting of a person", "painting of a sad person"),
        ("painting of a person", "painting of a smiling person"),
        ("painting of a person", "painting of a disgusted person"),
    ),
}


def coefficients(source: str, target: str) -> Coefficients:
    """The paper's coefficients of a text pair (Table 3), or its defaults for a pair that is not there."""
    return TABLE_3.get((source.strip().lower(), target.strip().lower()), Coefficients())


def suggested_name(source: str, target: str) -> str:
    """What the target says beyond the source: face, smiling face -> Smiling; face, face with red lips -> Red lips."""
    known = source.lower().split()
    words = [word for word in target.split() if word.lower() not in known]
    while len(words) > 1 and words[0].lower() in ("a", "an", "the", "with", "of", "in", "wearing"):
        words = words[1:]
    name = " ".join(words)[:60] or target[:60]
    return name[:1].upper() + name[1:]
