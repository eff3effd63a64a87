"""Image-text models: the embedded one of the avatars and any open_clip model, behind one small class.

Everything above sees `ImageText` only: pixels and strings go in, unit vectors of one space come out. The embedded model
is a genuine open_clip model (config, weights and a shortened byte-pair merge list in one folder), so open_clip itself
can open it too; see its model card.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from torch import Tensor, nn

from .errors import ModelUnavailable, RequestError

if TYPE_CHECKING:  # imported where it is used: it takes seconds, and the page need not wait for it
    import open_clip

MAX_TEXTS = 1024  # embeddings kept, a few kilobytes each
MERGES = "merges.txt.gz"  # the byte-pair merges beside an embedded model's config and weights
_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # open_clip's names in a Hub repository


class ImageText:
    """A frozen open_clip model with its tokenizer and its picture preparation.

    `size` is the side of the square picture the model looks at; `mean` and `std` normalise pixels in [0, 1].
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: open_clip.SimpleTokenizer,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str = "cpu",
    ) -> None:
        self.model: Any = model.to(device).eval().requires_grad_(False)  # open_clip's models have methods of their own
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.tokenizer = tokenizer
        self.size = size
        self.device = torch.device(device)
        self._texts: dict[str, Tensor] = {}  # embeddings of the last texts: a measure asks for the same ones again
        # (x + 1) / 2, then (. - mean) / std, as one multiplication and one addition.
        mean_, std_ = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self._gain = (0.5 / std_).to(self.device)
        self._offset = ((0.5 - mean_) / std_).to(self.device)

    def to(self, device: torch.device | str) -> ImageText:
        """Moved to another device."""
        self.device, self._texts = torch.device(device), {}
        self.model.to(self.device)
        self._gain, self._offset = self._gain.to(self.device), self._offset.to(self.device)
        return self

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1], any size -> unit vectors (B, D), float32, differentiable in the pixels.

        Raises ValueError for another shape.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"pixels must be (B, 3, H, W), not {tuple(pixels.shape)}")
        x = pixels.to(self.device, torch.float32)
        if x.shape[-2:] != (self.size, self.size):
            x = resized(x, self.size)
        x = (x * self._gain + self._offset).contiguous(memory_format=torch.channels_last)
        return F.normalize(self.model.encode_image(x).float(), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """N texts -> unit vectors (N, D), float32. Text beyond the model's context length is cut off.

        Raises RequestError when there is no text.
        """
        if isinstance(texts, str) or not texts:
            raise RequestError("Please write a description: the text is empty.")
        kept = {text: self._texts[text] for text in texts if text in self._texts}
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        if new:
            tokens = self.tokenizer(new).to(self.device)
            kept |= zip(new, F.normalize(self.model.encode_text(tokens).float(), dim=-1), strict=True)
            self._texts = dict(list(({**self._texts, **kept}).items())[-MAX_TEXTS:])
        return torch.stack([kept[text] for text in texts])

    def words_cut(self, text: str, templates: Sequence[str] = ("{}",)) -> str:
        """The words at the end of a text that the model does not read in the longest of the templates; "" if it reads
        all of them. For models with CLIP's own tokenizer."""
        around = max(len(self.tokenizer.encode(template.format(""))) for template in templates)
        left, words = self.tokenizer.context_length - 2 - around, text.split()
        for i, word in enumerate(words):
            left -= len(self.tokenizer.encode(word))
            if left < 0:
                return " ".join(words[i:])
        return ""


def resized(x: Tensor, size: int) -> Tensor:
    """Pictures (B, C, H, W) at (B, C, size, size), bicubic with antialiasing, as two matrix products: torch's own
    derivative of it is missing on Apple's GPUs."""
    rows, columns = (_resizing(side, size).to(x) for side in x.shape[-2:])
    return rows @ x @ columns.T


def _resizing(side: int, size: int) -> Tensor:
    """(size, side): what each place of a resized line takes of the line's own, on the CPU."""
    unit = torch.eye(side)[None, None]
    return F.interpolate(unit, (size, side), mode="bicubic", antialias=True, align_corners=False)[0, 0]


def text_embedding(image_text: ImageText, text: str, templates: Sequence[str]) -> Tensor:
    """Unit vector (D,): the mean embedding of a text in all templates."""
    text = " ".join(text.split())
    return F.normalize(image_text.embed_texts([t.format(text) for t in templates]).mean(0), dim=0)


def load_embedded(folder: str | Path, device: torch.device | str = "cpu") -> ImageText:
    """The open_clip model of a folder with open_clip_config.json, weights and `MERGES`.

    Raises ModelUnavailable when a file is missing or broken.
    """
    import open_clip

    folder = Path(folder)
    if not (folder / "open_clip_config.json").is_file() or not (folder / MERGES).is_file():
        raise ModelUnavailable(f"The image-text model is missing from {folder}. Please install the app again.")
    source = f"local-dir:{folder}"
    try:
        model = open_clip.create_model(source, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(source, bpe_path=str(folder / MERGES))
    except Exception as error:  # open_clip, safetensors, json and gzip each have errors of their own
        raise ModelUnavailable(
            f"The image-text model in {folder} cannot be read ({error}). Please install the app again."
        ) from error
    prepared = model.visual.preprocess_cfg
    return ImageText(model, tokenizer, _side(model), prepared["mean"], prepared["std"], device)


def load_open_clip(name: str, pretrained: str, device: torch.device | str = "cpu") -> ImageText:
    """A real open_clip model by architecture name and weights tag (or a path to weights), from the local cache if it is
    there, else from the Hub.

    Raises ModelUnavailable when the weights are not here and cannot be fetched, or are not this architecture's.
    """
    import open_clip

    options = open_clip.pretrained.get_pretrained_cfg(name, pretrained)
    if not options and not Path(pretrained).is_file():
        raise ModelUnavailable(f"open_clip knows no weights {pretrained!r} for the model {name!r}.")
    try:
        weights = _fetch(options) if options else pretrained
        model = open_clip.create_model(
            name, pretrained=str(weights), force_quick_gelu=bool(options.get("quick_gelu")), require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # connection, Hub, pickle and shape errors share no base class
        raise ModelUnavailable(
            f"The image-text model {name} ({pretrained}) could not be loaded: {error}. It is downloaded once from the "
            "Hugging Face Hub; please check the connection, or use the built-in avatars, which need none."
        ) from error
    mean, std = options.get("mean") or _OPENAI_MEAN, options.get("std") or _OPENAI_STD
    return ImageText(model, tokenizer, _side(model), mean, std, device)


def _fetch(options: dict) -> str:
    """Path of the weights that an open_clip tag names; the local cache first, because an unreachable Hub is slow."""
    if not options.get("hf_hub"):
        return open_clip.download_pretrained(options)
    repository, _, filename = options["hf_hub"].rpartition("/")
    names = _WEIGHTS if not filename else dict.fromkeys([str(Path(filename).with_suffix(".safetensors")), filename])
    for name in names:
        with suppress(LocalEntryNotFoundError):
            return hf_hub_download(repository, name, local_files_only=True)
    for name in names:
        with suppress(RemoteEntryNotFoundError):
            return hf_hub_download(repository, name)
    raise FileNotFoundError(f"{repository} has none of {', '.join(names)}")


def _side(model: Any) -> int:
    size = model.visual.image_size
    return size if isinstance(size, int) else size[0]
