"""The error types a visitor can cause. Raised where the fault is known; turned into words on the page in one place."""


class VisitorError(Exception):
    """An error whose `message` is written for a visitor: what went wrong and what to do about it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ImageError(VisitorError):
    """The picture cannot be used: too large, too small, broken, or not a picture."""


class ModelUnavailable(VisitorError):
    """A model, or a file that belongs to it, is not here and cannot be fetched."""


class HubError(VisitorError):
    """The Hub cannot be reached, refuses, or does not have what was asked for."""


class PresetError(VisitorError):
    """A preset file is corrupt, incomplete, or made for another model."""


class RequestError(VisitorError):
    """A prompt or a setting is outside what the app can do."""


class RecipeError(VisitorError):
    """A recipe file has mistakes: a line of the message for each, with the line of the file and the field."""


class DeviceRefused(VisitorError):
    """There is no GPU for this request now.

    message: with what to do about it. reason: without. left: seconds of GPU time that the visitor has, if it is known.
    """

    def __init__(self, message: str, reason: str = "", left: float | None = None) -> None:
        super().__init__(message)
        self.reason, self.left = reason or message, left

    def __reduce__(self) -> tuple[object, ...]:
        return DeviceRefused, (self.message, self.reason, self.left)


class NumberError(VisitorError):
    """A network computed values that are not numbers (NaN or infinite)."""


class ResourceError(VisitorError):
    """The machine ran out of memory or disk."""


MAX_QUOTED = 60  # characters


def quoted(text: str) -> str:
    """A visitor's own words in a message: enough of them to tell which are meant, on one line."""
    return f"“{shortened(text)}”"


def shortened(text: str, most: int = MAX_QUOTED) -> str:
    """The beginning of a text on one line, up to so many characters of it: whole words, if they are not endless."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    whole = text[: most + 1].rpartition(" ")[0]
    return f"{whole if len(whole) > most // 2 else text[:most]} …"
