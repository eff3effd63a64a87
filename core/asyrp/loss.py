"""The training loss of Asyrp (Eq. 4 and Eq. 7), and S_dir, which measures an edit by it (Eq. 17)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..clip import ImageText, text_embedding
from ..errors import RequestError, quoted

LossForm = Literal["cosine", "log"]


def require_both(source: str, target: str) -> None:
    """Raises RequestError: a text is empty."""
    if not source.strip() or not target.strip():
        raise RequestError("Write both texts: what the pictures show now, and what they should show.")


def text_direction(image_text: ImageText, source: str, target: str, templates: Sequence[str]) -> Tensor:
    """dT (D,) = E_T(y_target) - E_T(y_source), of unit length (Eq. 4).

    Raises:
        RequestError: a text is empty, or the two mean the same to the model.
    """
    require_both(source, target)
    dT = text_embedding(image_text, target, templates) - text_embedding(image_text, source, templates)
    if dT.norm() < 1e-3:
        pair = f"{quoted(source)} and {quoted(target)}"
        raise RequestError(f"{pair} mean the same to the image-text model. Use other words.")
    return F.normalize(dT, dim=0)


def similarity(image_text: ImageText, source: str, target: str) -> float:
    """Cosine of the two raw texts: the "CLIP similarity" of Table 2 and 3."""
    a, b = image_text.embed_texts([source, target])
    return float(a @ b)


def directional_loss(dI: Tensor, dT: Tensor, form: LossForm = "cosine") -> Tensor:
    """L_direction = 1 - cos(dI, dT) (Eq. 4), one value per row. dI: (B, D), dT: (D,).

    "log" is -log((2 - L_direction) / 2), which the released code uses instead.
    """
    cosine = (dI * dT).sum(-1) / (dI.norm(dim=-1) * dT.norm() + 1e-6)
    return 1 - cosine if form == "cosine" else -torch.log((1 + cosine).clamp(min=1e-4) / 2)


@torch.no_grad()
def s_dir(
    image_text: ImageText, before: Tensor, after: Tensor, source: str, target: str, templates: Sequence[str]
) -> Tensor:
    """Directional CLIP similarity S_dir (Eq. 17): cosine of the change of the pictures' embeddings and of the
    texts'. before: (1, 3, H, W) or (B, 3, H, W), after: (B, 3, H, W). Returns (B,) in [-1, 1].

    Raises:
        RequestError: a text is empty, or both mean the same.
    """
    dI = image_text.embed_images(after) - image_text.embed_images(before)
    return 1 - directional_loss(dI, text_direction(image_text, source, target, templates))


def asyrp_loss(
    P_edit: Tensor,
    P_source: Tensor,
    E_source: Tensor,
    dT: Tensor,
    image_text: ImageText,
    l_clip: float,
    l_recon: float,
    form: LossForm = "cosine",
    seen: Tensor | None = None,
) -> Tensor:
    """L = l_clip L_direction(P_edit, y_target; P_source, y_source) + l_recon |P_edit - P_source| (Eq. 7), mean of rows.

    P_edit, P_source: pixels (B, 3, H, W). E_source: (B, D), the embedding of P_source. dT: (D,). seen: what the
    image-text model sees of P_edit, if that is not P_edit itself (an augmented view).
    """
    dI = image_text.embed_images(P_edit if seen is None else seen) - E_source
    recon = (P_edit - P_source).abs().mean(dim=(1, 2, 3))
    return (l_clip * directional_loss(dI, dT, form) + l_recon * recon).mean()
