"""A composition as a few characters in an address, and back.

    2~avatars~portrait-3~8~0~smiling:1.2~old:-0.5:m~someone/directions@<revision>/beard.safetensors:1:s

Version, model, picture (an example, seed-7 for a sampled one, or nothing), steps (with an l if the total is locked, a p
where the process is the paper's, an a where it is the authors'), seed of the boosting noise, components with their
marks: m muted, s solo. Only what every visitor can get travels: listed models, and those of the Hub as OWNER/NAME or
OWNER/NAME@REVISION; shipped directions by their file's name, those of the Hub by repository, 40-digit revision and
file. Everything in a link is matched against a pattern before it is used; a link names things and carries none of them.
Links of version 1 know one process only, in 40 steps as a rule: they open with today's, in which a strength means the
same. Version 3 has what the picture shows after the seed, in the letters of base64, for text-to-image models; links of
others are of version 2.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from ...errors import RequestError
from ...models.cards import MODELS, Folder, InMemory
from ...process import Process
from ..frames import EditOptions, Picture
from .composition import MAX_COMPONENTS, Component, Composition

VERSION, WITH_PROMPT = "2", "3"
KNOWN = ("1", VERSION, WITH_PROMPT)
MAX_LENGTH = 2000
MAX_PROMPT = 400  # bytes
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
SHIPPED = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
HUB = re.compile(
    rf"(?P<repo>{_NAME}/{_NAME})@(?P<revision>[0-9a-f]{{40}})/(?P<file>(?:{_NAME}/){{0,3}}{_NAME}\.safetensors)"
)
_MODEL = re.compile(rf"{SHIPPED.pattern}|{_NAME}/{_NAME}(?:@[A-Za-z0-9_][A-Za-z0-9._-]{{0,95}})?")
_COMPONENT = re.compile(r"([^~:]+):(-?\d{1,3}(?:\.\d{1,3})?)(?:,(\d{1,3}(?:\.\d{1,3})?))?(?::(m?s?))?")
_PICTURE = re.compile(r"seed-\d{1,10}|[a-z0-9][a-z0-9-]{0,79}|")
_STEPS = re.compile(r"(\d{1,4})(l?)([pa]?)")
_PROMPT = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_PROMPT * 4 // 3 + 2}}}")
_MARKS: dict[Process, str] = {"anchored": "", "paper": "p", "published": "a"}


@dataclass(frozen=True)
class Restored:
    """What a link says. picture: an example's name, seed-N, or empty. steps: None is what the process needs. prompt:
    what the picture shows, if the model is a text-to-image one."""

    model_id: str
    picture: str
    composition: Composition
    steps: int | None
    seed: int
    process: Process = "anchored"
    prompt: str = ""


def travels(key: str) -> bool:
    """Whether a direction can be part of a link: shipped, or on the Hub."""
    return not key.startswith("own-") and bool(SHIPPED.fullmatch(key) or HUB.fullmatch(key))


def model_travels(model_id: str) -> bool:
    """Whether others get the same model by its id: it is in no folder, and has no word of the visitor's own."""
    card = MODELS.get(model_id)
    local = card is not None and isinstance(card.source, Folder | InMemory)
    return not local and bool(_MODEL.fullmatch(model_id))


def hub_key(repository: str, revision: str, path: str) -> str:
    """The key of a direction on the Hub."""
    return f"{repository}@{revision}/{path}"


def picture_name(picture: Picture | None) -> str:
    """What a link calls a picture: an example by its name, a sampled one by its seed, one's own not at all."""
    if picture is None:
        return ""
    return picture.example or (f"seed-{picture.seed}" if picture.seed is not None else "")


def prompt_travels(picture: Picture | None) -> bool:
    """Whether a link can say what a picture shows, if its model has to be told."""
    return picture is None or len(picture.conditioning.encode()) <= MAX_PROMPT


def encode(
    composition: Composition,
    model_id: str,
    picture: str,
    steps: int,
    seed: int,
    process: Process = "anchored",
    prompt: str = "",
) -> str:
    """The link's value. prompt: what the picture shows, of text-to-image models.

    Raises:
        RequestError: the model cannot travel, or nothing in the composition, or the prompt is too long.
    """
    if not model_travels(model_id):
        raise RequestError(
            "A link cannot name this model: it is in a folder of yours, or you gave it a word of your own. Save the "
            "composition as a file instead."
        )
    marks = ("l" if composition.locked else "") + _MARKS[process]
    parts = [WITH_PROMPT if prompt else VERSION, model_id, picture, f"{steps}{marks}", str(seed)]
    if prompt:
        if len(prompt.encode()) > MAX_PROMPT:
            raise RequestError("What the picture shows is too long for a link. Say it in fewer words.")
        parts.append(base64.urlsafe_b64encode(prompt.encode()).decode().rstrip("="))
    kept = [component for component in composition.components if travels(component.key)]
    if not kept:
        raise RequestError(
            "There is nothing in this composition that a link can carry. Your own directions stay with you: save the "
            "composition as a file instead."
        )
    for component in kept:
        unit = f",{component.unit:g}" if component.unit != 1 else ""
        marks = ("m" if component.muted else "") + ("s" if component.solo else "")
        parts.append(f"{component.key}:{component.strength:g}{unit}{':' + marks if marks else ''}")
    return "~".join(parts)


def one_direction(key: str, strength: float, picture: Picture, options: EditOptions) -> str:
    """The link of one direction on a picture, "" where it cannot travel."""
    if not (travels(key) and model_travels(picture.model_id) and prompt_travels(picture)):
        return ""
    composition = Composition((Component(key, round(strength, 3)),))
    about = picture_name(picture), options.step_count, options.seed, options.process, picture.conditioning
    return encode(composition, picture.model_id, *about)


def decode(value: str) -> Restored:
    """What `encode` wrote.

    Raises:
        RequestError: anything else.
    """
    damaged = RequestError("This link is damaged: it does not describe a composition. Ask for it again.")
    if not isinstance(value, str) or len(value) > MAX_LENGTH:
        raise damaged
    version, *rest = value.split("~")
    if re.fullmatch(r"[1-9]\d{0,3}", version) and version not in KNOWN:
        raise RequestError("This link was made by a newer version of the app. Update the app to open it.")
    if version not in KNOWN or not 5 <= len(rest) <= 5 + MAX_COMPONENTS:
        raise damaged
    model_id, picture, settings, seed, *listed = rest
    prompt, listed = (_read_prompt(listed[0]), listed[1:]) if version == WITH_PROMPT else ("", listed)
    if prompt is None or not 1 <= len(listed) <= MAX_COMPONENTS:
        raise damaged
    steps = _STEPS.fullmatch(settings)
    if not (steps and _MODEL.fullmatch(model_id) and _PICTURE.fullmatch(picture) and re.fullmatch(r"\d{1,10}", seed)):
        raise damaged
    components: list[Component] = []
    for text in listed:
        match = _COMPONENT.fullmatch(text)
        if match is None or not travels(match[1]) or any(match[1] == c.key for c in components):
            raise damaged
        key, strength, unit, marks = match[1], float(match[2]), float(match[3] or 1), match[4] or ""
        components.append(Component(key, strength, unit or 1.0, "m" in marks, "s" in marks))
    composition = Composition(tuple(components), bool(steps[2]))
    if version == "1" and steps[3]:
        raise damaged
    if version == "1":
        return Restored(model_id, picture, composition, None, int(seed))
    process = next(process for process, mark in _MARKS.items() if mark == steps[3])
    return Restored(model_id, picture, composition, int(steps[1]), int(seed), process, prompt)


def _read_prompt(letters: str) -> str | None:
    """What `encode` has made of a prompt; None if it is damaged."""
    if not _PROMPT.fullmatch(letters):
        return None
    try:
        prompt = base64.urlsafe_b64decode(letters + "=" * (-len(letters) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return prompt if prompt.strip() and prompt.isprintable() else None
