"""Pictures as files that say what made them, if their maker wants that: a composition's link, inside PNG or JPEG.

Nothing else of a photograph is kept in the file: no camera, no place, no date.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import ImageError
from ..imaging import FORMATS

Kind = Literal["JPEG", "PNG"]

KEY = "h-space studio"
VERSION = 1
MAX_LENGTH = 4000
QUALITY = 94  # of JPEG
SUFFIX: dict[str, str] = {"JPEG": ".jpg", "PNG": ".png"}
_TOKEN = re.compile(r"[A-Za-z0-9~:.,@/_-]{1,2000}")


def to_file(picture: Image.Image, kind: Kind, token: str = "") -> bytes:
    """An RGB picture as a file. token: of `core.studio.compose.link`, to be kept in it; empty for none.

    Raises:
        ImageError: there is no such kind of file.
    """
    if kind not in SUFFIX:
        raise ImageError(f"Pictures are saved as JPEG or PNG, not as {kind!r}.")
    said = json.dumps({"made by": KEY, "version": VERSION, "composition": token}) if token else ""
    buffer, clean = io.BytesIO(), picture.convert("RGB")
    clean.info = {}
    if kind == "PNG":
        about = PngInfo()
        if said:
            about.add_itxt(KEY, said)
        clean.save(buffer, "PNG", pnginfo=about, compress_level=4)
    else:
        clean.save(buffer, "JPEG", quality=QUALITY, subsampling=0, comment=said.encode() or None)
    return buffer.getvalue()


def token_in(source: Path | str | bytes) -> str:
    """The composition that a picture's file names, or "" for any other file: a stranger's file is never an error
    here. What comes back matches a link's letters and length; whoever uses it has `link.decode` check the rest."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture:
            said = picture.info.get(KEY) or picture.info.get("comment") or ""
        if isinstance(said, bytes):
            said = said.decode("utf-8", "strict")
        if not isinstance(said, str) or len(said) > MAX_LENGTH or KEY not in said:
            return ""
        about = json.loads(said)
        token = about["composition"] if about["made by"] == KEY and about["version"] == VERSION else ""
        return token if isinstance(token, str) and _TOKEN.fullmatch(token) else ""
    except Exception:  # Pillow's decoders raise almost anything, and the rest is a stranger's text
        return ""
