"""What the commands print, and the files that they write."""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..errors import ImageError, PresetError, RequestError, ResourceError

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..presets import About
    from ..progress import Job

T = TypeVar("T")

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

FORMATS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
PROMPT = "of a text-to-image model: what the pictures show"
WHICH_PRESET = (
    "a direction that comes with the app, a preset file, or OWNER/NAME/PATH.safetensors[@REVISION] on the Hub"
)


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], about: str
) -> argparse.ArgumentParser:
    """A new command, whose options are for the caller to add."""
    parser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(run=run)
    return parser


def add_force(parser: argparse.ArgumentParser, what: str = "replace a file that is there") -> None:
    parser.add_argument("--force", action="store_true", help=what)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns of equal width; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip())


def print_note(text: str) -> None:
    """Something on the side. What a stranger wrote cannot steer the terminal."""
    print("".join(c if c.isprintable() else "?" for c in text), file=sys.stderr)


def about_as_json(about: About) -> dict[str, Any]:
    """What a preset says of itself; of the thumbnail only its size."""
    from ..presets import About

    said = {key: value for key, value in vars(about).items() if key in About.__dataclass_fields__}
    picture = about.picture()
    return {**said, "thumbnail": None if picture is None else f"{picture.width}x{picture.height}"}


def follow(job: Job[T]) -> T:
    """Run a job to its end, with its progress on a terminal, and return its result."""
    from ..progress import Running

    running, on_terminal = Running(job), sys.stderr.isatty()
    for event in running:
        if on_terminal:
            print(f"\r\033[K{event.note} {event.step}/{event.total}", end="", file=sys.stderr, flush=True)
    if on_terminal:
        print(file=sys.stderr)
    return running.result


@contextmanager
def naming(file: Path | str) -> Iterator[None]:
    """Within the block, what is wrong with a file is said with the file's name. Raises ImageError, PresetError."""
    try:
        yield
    except (ImageError, PresetError) as error:
        words = error.message[0].lower() + error.message[1:]
        raise type(error)(f"{file}: {words}") from error


def require_writable(path: Path, force: bool, endings: Sequence[str] = ()) -> None:
    """Refuses before any work is done. Raises RequestError."""
    if endings and path.suffix.lower() not in endings:
        raise RequestError(f"{path} cannot be written: its name has to end in {' or '.join(endings)}.")
    if path.exists() and not force:
        raise RequestError(f"{path} is there already. Choose another name, or add --force to replace it.")


def write_picture(picture: Image, path: Path) -> None:
    """Whole or not at all. Raises ResourceError."""
    encoded = io.BytesIO()
    picture.save(encoded, FORMATS[path.suffix.lower()], quality=95)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".hspace-") as folder:
            unfinished = Path(folder) / path.name
            unfinished.write_bytes(encoded.getvalue())
            unfinished.replace(path)
    except OSError as error:
        raise ResourceError(f"{path} could not be written ({error.strerror}).") from error


def login() -> str | None:
    """The token of whoever is logged in on this machine (HF_TOKEN, or `hf auth login`)."""
    import huggingface_hub

    return huggingface_hub.get_token()
