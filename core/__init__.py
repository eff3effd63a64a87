"""Editing in the h-space of frozen diffusion models. Nothing in here imports gradio.

What is listed below is imported when it is asked for, so `import hspace` is quick. An installed package is called
`hspace`; in the repository this folder is `core`, and `hspace.py` gives it that name.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import between_prompts, discover, edit, find_faces, find_parts, load_model, load_preset, wrap_model
    from .errors import (
        HubError,
        ImageError,
        ModelUnavailable,
        NumberError,
        PresetError,
        RequestError,
        ResourceError,
        VisitorError,
    )
    from .imaging import Crop
    from .photo.placement import Placement
    from .presets import Preset
    from .progress import Progress

__version__ = "0.3.0"

__all__ = [
    "Crop",
    "HubError",
    "ImageError",
    "ModelUnavailable",
    "NumberError",
    "Placement",
    "Preset",
    "PresetError",
    "Progress",
    "RequestError",
    "ResourceError",
    "VisitorError",
    "between_prompts",
    "discover",
    "edit",
    "find_faces",
    "find_parts",
    "load_model",
    "load_preset",
    "wrap_model",
]

_MODULES = {
    **dict.fromkeys(
        ["between_prompts", "discover", "edit", "find_faces", "find_parts", "load_model", "load_preset", "wrap_model"],
        "api",
    ),
    **dict.fromkeys([name for name in __all__ if name.endswith("Error") or name == "ModelUnavailable"], "errors"),
    **{"Crop": "imaging", "Placement": "photo.placement", "Preset": "presets", "Progress": "progress"},
}


def __getattr__(name: str) -> Any:
    """PEP 562: what is listed above, from its module, once."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
