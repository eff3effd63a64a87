"""The figures of Asyrp (Kwon, Jeong, Uh: Diffusion models already have a semantic latent space, ICLR 2023)."""

from . import asyrp_edits, asyrp_process, asyrp_spaces, asyrp_tables

_ALL = {
    figure.name: figure for part in (asyrp_edits, asyrp_spaces, asyrp_process, asyrp_tables) for figure in part.FIGURES
}
_FIRST = ("4", "6", "homogeneity", "7", "8", "9", "10", "13", "15", "17", "19", "22", "23", "L1", "31", "33")
_ORDER = [f"asyrp-{name}" for name in _FIRST]

FIGURES = tuple(_ALL[name] for name in (*_ORDER, *(name for name in _ALL if name not in _ORDER)))
