"""The picture that a tab works on: an example, one of the visitor's own, or a new one that the model imagines.

Every tab has this chooser, and all of them choose the one `session.picture`: a picture chosen in one tab is there when
another is opened.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr
from PIL import Image

from core.errors import RequestError, VisitorError
from core.imaging import Crop, to_pil
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.photo.placement import FIELDS, Placement, from_crop
from core.photo.record import token_in
from core.progress import Progress, Running
from core.studio import library
from core.studio.invert.suggesting import suggestion
from core.studio.known_models import known_card, takes_prompt, usual_prompt
from core.studio.photographs import cut_out, look_for_faces, open_photo
from core.studio.sample import remarks, sample_picture
from core.studio.second_opinion import captioner
from core.studio.visit.session import Session
from core.studio.words import remark
from tabs.notices import inform, warn
from tabs.opened_link import restore
from tabs.shell import QUIET, Shell, in_words
from tabs.visit import current_picture, example_items, message, notes, status
from tabs.widgets import Cards, Cropper, PictureInput, data_url

MAX_SHOWN_SIDE = 1600  # of a photograph while its square is placed
LOOKING = "Looking for faces …"
IN_USE = "This square is in use. Move it and use it again whenever you like."
CARRIED = "This file says what made it: model, directions, strengths, steps and seed. Restore them in Compose."
DESCRIBED = "an old face with glasses and gray hair"

# Properties of the examples' cards: an update replaces all of them.
EXAMPLES: dict[str, Any] = {
    "columns": 4,
    "title": "Example pictures",
    "nothing": "This model has no examples: upload a picture, or let it imagine one.",
}

Values = Iterator[tuple[Any, ...]]


class PictureChooser:
    """The widgets of a tab for choosing a picture. `connect` says what the tab does with it.

    name: of the tab, to remember which picture it shows. tab: on opening it, a picture chosen elsewhere is taken over.
    """

    def __init__(self, shell: Shell, tab: gr.Tab, name: str) -> None:
        self.shell, self.tab, self.name = shell, tab, name
        model_id = shell.model.value
        first = library.examples(model_id)[:1]
        with gr.Column(elem_classes="section"):
            gr.HTML("<h3>Picture</h3>")
            with gr.Tabs(elem_classes="pills") as self.panels:
                with gr.Tab("Examples", id="examples"):
                    self.examples = Cards(
                        example_items(model_id),
                        first[0].stem if first else None,
                        elem_classes="examples",
                        **EXAMPLES,
                    )
                with gr.Tab("Your own", id="own"):
                    self.upload = PictureInput(
                        type="filepath",
                        image_mode=None,
                        sources=["upload", "webcam", "clipboard"],
                        show_label=False,
                        height=220,
                        elem_classes="upload",
                        buttons=[],
                    )
                    self.cropper = Cropper()
                    self.restore = gr.Button("Restore what made it", visible=False, elem_classes="restore")
                    self.another = gr.Button("Choose another picture", visible=False, size="sm")
                    self.message = gr.HTML(elem_classes="upload-message")
                with gr.Tab("New", id="new"):
                    gr.HTML('<p class="words">Let the model imagine a picture. The same seed gives the same one.</p>')
                    self.words = gr.Textbox(
                        label="What it shows",
                        info="or leave it to chance",
                        placeholder=DESCRIBED,
                        max_lines=2,
                        visible=takes_words(model_id),
                        elem_classes="described",
                    )
                    with gr.Row(elem_classes="seed"):
                        self.seed = gr.Number(1, label="Seed", precision=0, min_width=90, elem_classes="seed-number")
                        self.sample = gr.Button("Imagine", variant="secondary", min_width=60, elem_classes="imagine")
                        self.surprise = gr.Button("Surprise me", variant="secondary", min_width=60)
                    self.told = gr.HTML(elem_classes="told-of-words")  # below: buttons do not move under the pointer
            with gr.Column(visible=takes_prompt(model_id), elem_classes="shows") as self.shows:
                self.prompt = gr.Textbox(
                    label="What the picture shows (prompt)",
                    info="The model is told this with every step.",
                    lines=2,
                    max_lines=4,
                    elem_classes="prompt",
                )
                self.suggest = gr.Button("Suggest one from the picture", size="sm", elem_classes="suggest")
                self.unknown = gr.HTML(elem_classes="told-of-words")
        self.widgets = [self.examples, self.upload, self.cropper, self.another, self.message, self.words, self.restore]
        self.widgets += [self.shows, self.prompt]

    @property
    def choosing(self) -> list[Any]:
        """Events by which a visitor chooses another picture, or says that it shows something else."""
        imagined = [self.sample.click, self.surprise.click, self.seed.submit, self.words.submit]
        own = [self.cropper.release, self.restore.click, self.prompt.submit, self.suggest.click]
        return [self.examples.input, *own, *imagined]

    def connect(
        self,
        show: Callable[..., Values],
        given: Sequence[Any],
        shown: Sequence[Any],
        working: Callable[[Progress], tuple[Any, ...]],
        settings: dict[str, Any],
    ) -> None:
        """Make every way of choosing work.

        show: called with the session and the values of `given` once there is another picture, and yields values for
        `shown`. working: values for `shown` while a picture is being imagined. settings: of the events.
        """
        untouched = (gr.skip(),) * len(self.widgets)
        unseen = (gr.skip(),) * len(shown)

        def showing(session: Session, values: tuple[Any, ...]) -> Values:
            session.seen[self.name] = session.picture
            for shows in show(session, *values):
                yield *untouched, *shows

        @in_words
        def choose_example(session: Session, example: str | None, *values: Any) -> Values:
            paths = {path.stem: path for path in library.examples(session.model_id)}
            if example not in paths:
                raise RequestError("This example does not belong to the chosen model. Choose another one.")
            session.picture = session.as_described(library.open_example(paths[example], session.model_id))
            if takes_prompt(session.model_id):
                yield *untouched[:-2], *shows_widgets(session), *unseen
            yield from showing(session, values)

        @in_words
        def imagine(session: Session, seed: float | None, words: str | None, *values: Any) -> Values:
            if seed is None:
                raise RequestError("Write a seed, a whole number from 0 on, or take “Surprise me”.")
            turn = session.edits.begin()
            model = session.model()
            asked = (words or "") if takes_words(session.model_id) else ""
            job = sample_picture(model, int(seed), words=asked)
            running = Running(turn.follow(job))
            for event in running:
                if event.preview is not None:
                    yield *untouched, *working(event)
            session.picture = running.result
            yield *own_widgets(session), *unseen
            yield from showing(session, values)

        @in_words
        def take_upload(session: Session, path: str | None) -> Values:
            """A visitor's file: checked, looked at for faces, and shown with a square. Nothing is edited yet."""
            if path is None:
                return
            try:
                photo = open_photo(path)
            except VisitorError as error:
                yield gr.skip(), None, gr.skip(), gr.skip(), message(error), *untouched[5:]
                return
            session.upload = photo
            offered = session.placement = from_crop(Crop(), *photo.size)
            session.carried = token_in(path)
            yield own_widgets(session, LOOKING)
            uploaded = session.uploaded
            found = look_for_faces(photo, session.model_id)
            if session.uploaded is not uploaded:  # another one has come meanwhile
                return
            session.faces = found
            used = session.placement is not offered  # the visitor did not wait for it
            if found.placements and not used:
                session.placement = found.placements[0]
            if found.placements or not used:
                yield own_widgets(session)

        @in_words
        def take_square(event: gr.EventData, session: Session, *values: Any) -> Values:
            """The square that the visitor wants to use."""
            if session.uploaded is None:
                return
            given = [getattr(event, name, None) for name in FIELDS]
            numbers = [float(number) for number in given if isinstance(number, int | float)]
            if len(numbers) != len(given):
                raise RequestError("This square is not understood. Place it again.")
            height, width = session.uploaded.shape[:2]
            x, y, side, angle = numbers
            placement = Placement(x, y, side, angle, width, height)
            session.picture = session.as_described(cut_out(session.uploaded, placement, session.model_id))
            session.placement = placement
            yield gr.update(value=None), *untouched[1:-2], *shows_widgets(session), *unseen
            yield from showing(session, values)

        @in_words
        def forget_upload(session: Session) -> tuple[Any, ...]:
            session.upload = None
            return own_widgets(session)

        @in_words
        def restore_edit(request: gr.Request, session: Session, *values: Any) -> Values:
            """The composition that a picture's file names, in Compose. A picture that the file cannot name stays."""
            picture = session.picture
            model_id = restore(session, session.carried, request)
            if session.picture is None and picture is not None and picture.model_id == model_id:
                session.picture = picture
            yield gr.Tabs(selected="Compose"), model_id, *own_widgets(session), *unseen
            for shows in showing(session, values):
                yield gr.skip(), gr.skip(), *shows

        @in_words
        def describe(session: Session, prompt: str | None, *values: Any) -> Values:
            """What the picture shows: for the model it is another picture then."""
            current_picture(session)
            try:
                if not session.describe(prompt or ""):
                    return
            except RequestError as error:
                warn(f"{error.message} What it was before stays.")
                yield *own_widgets(session), *unseen
                return
            yield from showing(session, values)

        @in_words
        def suggest(session: Session, *values: Any) -> Values:
            """The model's instruments say what the picture shows, or what describes photographs."""
            picture = current_picture(session)
            if picture is None or not takes_prompt(session.model_id):
                return
            said = suggestion(TEXT_TO_IMAGE[session.model_id], picture.pixels) or captioner()(to_pil(picture.pixels)[0])
            if not said:
                inform("Nothing can be said of this picture: describe it in your own words.")
            elif session.describe(said):
                yield *own_widgets(session), *unseen
                yield from showing(session, values)

        @in_words
        def take_over(session: Session, *values: Any) -> Values:
            """The tab was opened: show what was chosen elsewhere since it was left."""
            if session.seen.get(self.name) is session.picture:
                return
            yield panel_of(session), *own_widgets(session), *unseen
            if session.seen.get(self.name) is not session.picture:  # else a job that shows it has begun meanwhile
                for shows in showing(session, values):
                    yield gr.skip(), *shows

        session, outputs = self.shell.session, [*self.widgets, *shown]
        self.examples.input(choose_example, [session, self.examples, *given], outputs, **settings)
        wanted, written = [session, self.seed, self.words, *given], [session, self.words]
        # Before the picture is asked for: the page begins events of one click one after the other.
        asked = [self.words.blur, self.words.submit, self.sample.click, self.surprise.click]
        gr.on(asked, unknown_note, written, self.told, queue=False, **QUIET)
        imagined = (
            gr.on([self.sample.click, self.seed.submit, self.words.submit], imagine, wanted, outputs, **settings),
            self.surprise.click(new_seed, None, self.seed, **QUIET).then(imagine, wanted, outputs, **settings),
        )
        for event in imagined:
            event.then(drawn_note, written, self.told, **QUIET)
        self.shell.model.change(lambda: "", None, self.told, **QUIET)
        self.upload.input(take_upload, [session, self.upload], self.widgets, **settings)
        self.cropper.release(take_square, [session, *given], outputs, **settings)
        assert self.tab.parent is not None  # the page's tabs
        restored = [self.tab.parent, self.shell.model, *outputs]
        self.restore.click(restore_edit, [session, *given], restored, **settings)
        told = gr.on(
            [self.prompt.blur, self.prompt.submit], describe, [session, self.prompt, *given], outputs, **settings
        )
        told.then(prompt_note, [session, self.prompt], self.unknown, **QUIET)
        self.suggest.click(suggest, [session, *given], outputs, **settings)
        self.another.click(forget_upload, session, self.widgets, **QUIET)
        self.tab.select(take_over, [session, *given], [self.panels, *outputs], **settings)

    def for_model(self, session: Session) -> tuple[Any, ...]:
        """Values of `widgets` for a model that was just chosen."""
        if takes_prompt(session.model_id):
            current_picture(session)
        session.seen[self.name] = session.picture
        paths = library.examples(session.model_id)
        chosen = paths[0].stem if paths else None
        if session.picture is not None:
            chosen = session.picture.example
        return Cards(example_items(session.model_id), chosen, **EXAMPLES), *own_widgets(session)[1:]


def panel_of(session: Session) -> Any:
    """The way by which the visit's picture was chosen, open, as far as that can be told."""
    picture = session.picture
    if picture is None or (picture.example is None and picture.placement is None):
        return gr.skip()
    return gr.Tabs(selected="own" if picture.placement is not None else "examples")


def own_widgets(session: Session, words: str | None = None) -> tuple[Any, ...]:
    """Values of a chooser's widgets for what the visit has: the chosen example, the photograph and its square. words:
    about the photograph; those about its faces by default."""
    example = session.picture.example if session.picture else None
    given = session.upload is not None
    upload = gr.update(value=None, visible=not given)
    described = gr.update(visible=takes_words(session.model_id))
    carried = gr.update(visible=bool(session.carried))
    said = status(CARRIED) if session.carried else ""
    shown = photo_value(session, words), gr.update(visible=given)
    return gr.update(value=example), upload, *shown, said, described, carried, *shows_widgets(session)


def shows_widgets(session: Session) -> tuple[Any, Any]:
    """Values of the panel that says what the picture shows, and of the prompt in it."""
    picture = session.picture
    told = gr.update(value="" if picture is None else picture.conditioning, placeholder=usual_prompt(session.model_id))
    return gr.update(visible=takes_prompt(session.model_id)), told


@in_words
def prompt_note(session: Session, prompt: str | None) -> str:
    """Which words of the prompt the model does not know."""
    said = remark(known_card(session.model_id), prompt or "") if takes_prompt(session.model_id) else ""
    return notes([said] if said else [])


@in_words
def unknown_note(session: Session, words: str | None) -> str:
    """Which words of a description the model that draws does not know."""
    return notes(remarks(known_card(session.model_id), words or ""))


@in_words
def drawn_note(session: Session, words: str | None) -> str:
    """The same once it has drawn, and how many of the words it reads."""
    return notes(remarks(known_card(session.model_id), words or "", drawn=True))


def takes_words(model_id: str) -> bool:
    """Whether new pictures of a model can be described."""
    return known_card(model_id).drawn is not None


def photo_value(session: Session, words: str | None = None) -> dict[str, Any] | None:
    """The value of the cropper: the visit's photograph with the square that is used or suggested."""
    photo, placement, found = session.upload, session.placement, session.faces
    if photo is None or placement is None:
        return None
    shown = photo.copy()
    shown.thumbnail((MAX_SHOWN_SIDE, MAX_SHOWN_SIDE), Image.Resampling.LANCZOS)
    card = known_card(session.model_id)
    picture = session.picture
    if words is None and picture is not None and picture.photo is session.uploaded and picture.placement == placement:
        words = IN_USE
    return {
        "id": id(session.uploaded),
        "image": data_url(shown, quality=85),
        "width": photo.width,
        "height": photo.height,
        "resolution": card.resolution,
        "square": placement.as_json(),
        "faces": [face.as_json() for face in found.placements] if found else [],
        "framing": asdict(card.framing) if card.framing else None,
        "words": (found.words if found else "") if words is None else words,
    }


def new_seed() -> int:
    return random.randrange(100_000)
