"""What the page and its API do, on a small model with random weights."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.directions import GlobalDirection, ImplicitDirection
from core.errors import ModelUnavailable, PresetError, RequestError
from core.imaging import Crop
from core.intervals import Intervals, PublishedTable
from core.models.cards import MODELS
from core.models.loader import DiffusionModel, models
from core.presets import Preset, file_name, save
from core.process import Kept, Process
from core.progress import Job, Progress, Running, finish
from core.studio import latents, library, measuring
from core.studio.compose import applying
from core.studio.device import DEVICE, exclusively
from core.studio.edit import edit_frames, intervals_for, intervals_in_words, strip_strengths
from core.studio.frames import EditOptions, Picture
from core.studio.sample import sample_picture
from core.studio.turns import Outdated
from core.studio.visit.session import Session
from core.unet import SplitUNet
from tests.unit.small_models import small_model, trained_block


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DiffusionModel:
    """A model without image-text model, probe or distance, in an otherwise empty house."""

    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(library, "PRESETS", tmp_path / "presets")
    monkeypatch.setattr(measuring, "_image_text", missing)
    monkeypatch.setattr(measuring, "_lpips", missing)
    monkeypatch.setattr(latents, "KEPT", Kept())
    made = small_model()
    monkeypatch.setitem(MODELS, made.card.id, made.card)
    return made


def preset(made_for: DiffusionModel, **values: object) -> Preset:
    generator = torch.Generator().manual_seed(0)
    direction = GlobalDirection(torch.randn(1, *made_for.card.h_shape, generator=generator), 10)
    known = {"name": "Wider", "model": made_for.card.id, "fingerprint": made_for.fingerprint}
    known |= {"t_edit": 300, "t_boost": 0}
    return Preset(**{"direction": direction, **known, **values})


def picture(model: DiffusionModel) -> Picture:
    side = model.card.resolution
    return Picture(torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1, model.card.id)


# ------------------------------------------------------------------------------------------------ turns on the device


def test_jobs_take_turns_and_free_the_device() -> None:
    holder: list[str] = []

    def job(name: str) -> Job[str]:
        for step in range(50):
            assert not holder, "somebody else is at work"
            holder.append(name)
            holder.remove(name)
            yield Progress(step, 50)
        return name

    done: list[str] = []
    workers = [threading.Thread(target=lambda n=n: done.append(finish(exclusively(job(n))))) for n in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(done) == ["a", "b", "c"]
    assert not DEVICE.busy


def test_a_job_that_is_left_or_fails_frees_the_device() -> None:
    ended = []

    def endless() -> Job[None]:
        try:
            while True:
                yield Progress(0, 1)
        finally:
            ended.append(True)

    def failing() -> Job[None]:
        yield Progress(0, 1)
        raise RequestError("no")

    left = exclusively(endless())
    next(left)
    left.close()
    assert ended == [True]
    with pytest.raises(RequestError):
        list(exclusively(failing()))
    assert not DEVICE.busy


# ------------------------------------------------------------------------------------------------------------ editing


@pytest.mark.parametrize(
    ("span", "strengths"),
    [
        ((-1.0, 2.0), [-1, -0.5, 0, 0.5, 1, 1.5, 2]),
        ((0.0, 1.0), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((-1.5, 1.5), [-1.5, -1, -0.5, 0, 0.5, 1, 1.5]),
        ((-50.0, 50.0), [-50, -25, 0, 25, 50]),
        ((-0.3, 0.25), [-0.3, -0.2, -0.1, 0, 0.1, 0.2]),
    ],
)
def test_strips_have_round_strengths(model: DiffusionModel, span: tuple[float, float], strengths: list[float]) -> None:
    assert strip_strengths(preset(model, strength_range=span)) == strengths


@pytest.mark.parametrize(("process", "total"), [("anchored", 12), ("paper", 12)])
def test_edit_frames(model: DiffusionModel, process: Process, total: int) -> None:
    asked = [0.0, 0.2, -2.0]
    job = edit_frames(model, picture(model), preset(model), asked, EditOptions(steps=6, process=process))
    running = Running(job)
    events = list(running)
    assert [event.step for event in events] == sorted(event.step for event in events)
    assert {event.total for event in events} == {total}
    frames = running.result
    assert [frame.strength for frame in frames] == asked
    assert frames[0].pixels.shape == (3, 32, 32)
    change = [(frame.pixels - frames[0].pixels).abs().mean() for frame in frames]
    assert 0 == change[0] < change[1] < change[2]
    measures = frames[0].measures.as_json()
    [missing] = measures.pop("missing")
    assert measures == {"s_dir": None, "distance": None, "identity": None, "attributes": (), "in_domain": None}
    assert "how visible the change" in missing.lower()


@pytest.mark.parametrize(("process", "rows"), [("anchored", 6), ("paper", 7)])
def test_a_second_edit_has_nothing_to_read_again(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch, process: Process, rows: int
) -> None:
    """What the network is asked of the picture alone, it is asked once: its path, or its noise."""
    asked: list[int] = []
    encode = SplitUNet.encode
    monkeypatch.setattr(SplitUNet, "encode", lambda self, x, t: asked.append(len(x)) or encode(self, x, t))
    shown, costs = picture(model), []
    for strength in (1.0, 2.0):
        asked.clear()
        finish(edit_frames(model, shown, preset(model), [strength], EditOptions(steps=6, process=process)))
        costs.append(sum(asked))
    assert costs[0] - costs[1] == rows


def test_an_imagined_picture_knows_its_seed(model: DiffusionModel) -> None:
    made = finish(sample_picture(model, seed=3, steps=6))
    assert made.seed == 3
    assert made.pixels.shape == (1, 3, 32, 32)
    with pytest.raises(RequestError, match="seed"):
        finish(sample_picture(model, seed=-1))
    with pytest.raises(RequestError, match="Leave the description empty"):
        finish(sample_picture(model, seed=3, words="a red cat"))


@pytest.mark.slow
def test_words_say_what_an_imagined_portrait_shows() -> None:
    """By the probe; without words the seed decides, and a picture drawn from words is none of its seed's."""
    model = models.get("avatars")
    instruments = measuring.probe(model.card)
    wanted = {"a smiling face with glasses": (0.4, 0.5), "a sad face with a beard": (-2.0, -0.5)}
    for words, (smile, glasses) in wanted.items():
        made = [finish(sample_picture(model, seed, 12, words)) for seed in range(4)]
        assert {picture.prompt for picture in made} == {words}
        assert {picture.seed for picture in made} == {None}
        read = instruments.attributes(torch.cat([picture.pixels for picture in made]))
        assert ((read["smile"] > 0.2) == (smile > 0)).sum() >= 3
        assert ((read["glasses"] > 0.5) == (glasses > 0)).sum() >= 3
    left_to_chance = [finish(sample_picture(model, seed, 4)) for seed in (5, 5, 6)]
    assert torch.equal(left_to_chance[0].pixels, left_to_chance[1].pixels)
    assert left_to_chance[0].prompt != left_to_chance[2].prompt
    assert [picture.seed for picture in left_to_chance] == [5, 5, 6]
    with pytest.raises(RequestError, match="characters"):
        finish(sample_picture(model, 0, words="face " * 1000))


def test_forms_of_an_implicit_direction(model: DiffusionModel) -> None:
    f_t = trained_block(model.unet.unet.time_embedding.linear_2.out_features)
    implicit = preset(model, direction=ImplicitDirection(f_t, 10))
    forms: dict = {}
    results = {}
    for form in ("trained", "per_timestep", "global"):
        options = EditOptions(steps=6, form=form)
        [frame] = finish(edit_frames(model, picture(model), implicit, [1.0], options, forms))
        results[form] = frame.pixels
    assert len(forms) == 1, "both means come from one pass over the pictures"
    assert not torch.equal(results["trained"], results["per_timestep"])
    assert not torch.equal(results["per_timestep"], results["global"])


def test_intervals_are_the_visitors_then_the_presets_then_the_models(model: DiffusionModel) -> None:
    made = preset(model)
    assert intervals_for(model.card, made, EditOptions()) == Intervals(300, 0)
    assert intervals_for(model.card, made, EditOptions(t_edit=400, t_boost=100)) == Intervals(400, 100)
    words = intervals_in_words(made, EditOptions(), Intervals(300, 0))
    assert words == f"In force: editing down to t = 300, no boosting; as “{made.name}” suggests."
    words = intervals_in_words(made, EditOptions(t_edit=950), Intervals(950, 0))
    assert words.endswith("suggests. Only the noisiest levels are edited: expect little change.")
    assert "expect little" not in intervals_in_words(made, EditOptions(t_edit=850), Intervals(850, 0))
    assert "expect little" in intervals_in_words(made, EditOptions(t_edit=95), Intervals(95, 0), last=99)
    words = intervals_in_words(made, EditOptions(source="curves"), Intervals(500, 150))
    assert words == "In force: editing down to t = 500, quality boosted below t = 150; by the model's curves."
    card = replace(model.card, curves=PublishedTable(((0.5, 400), (1.0, 500)), 150))
    assert intervals_for(card, preset(model, t_edit=None, t_boost=None), EditOptions()) == Intervals(500, 150)
    curves = EditOptions(source="curves")
    assert intervals_for(card, made, curves) == Intervals(500, 150), "curves instead of what the preset brings"
    assert applying.intervals_of(card, [made, made], curves).t_boost == 150, "a mix keeps its boosting"


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 3},
        {"steps": 1001},
        {"seed": -1},
        {"t_edit": 1001},
        {"form": "odd"},
        {"injection": "odd"},
        {"steps": "9"},
    ],
)
def test_options_out_of_range(values: dict) -> None:
    with pytest.raises(RequestError):
        EditOptions(**values)


def test_strengths_and_models_are_checked(model: DiffusionModel) -> None:
    for strength in (float("nan"), float("inf"), 101):
        with pytest.raises(RequestError, match="strength"):
            finish(edit_frames(model, picture(model), preset(model), [strength]))
    with pytest.raises(PresetError, match="made for the model other"):
        finish(edit_frames(model, picture(model), preset(model, model="other", fingerprint="f" * 16), [1.0]))


# ------------------------------------------------------------------------------------------- pictures, presets, words


def test_open_picture_takes_the_crop(model: DiffusionModel) -> None:
    wide = Image.new("RGB", (200, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    left, right = (library.open_picture(wide, "small", Crop(x=x)).pixels[0, 0].mean() for x in (0.0, 1.0))
    assert left > 0.9
    assert right < -0.9


def test_find_direction(model: DiffusionModel, tmp_path: Path) -> None:
    shipped = preset(model, name="Smiling", source_text="face", target_text="smiling face")
    save(shipped, tmp_path / "presets" / "directions" / "small" / file_name("Smiling"))
    session = Session("small")
    session.keep(preset(model, name="Green hair", source_text="face", target_text="face with green hair"))
    session.keep(preset(model, name="Elsewhere", model="other"))

    def find(name: str = "", source: str = "", target: str = "") -> Preset | None:
        return library.find_preset("small", name, source, target, session.own)

    assert find(" smiling ").name == "Smiling"
    assert find("GREEN HAIR").name == "Green hair"
    assert find("", "Face", "smiling  face").name == "Smiling"
    assert find("", "face", "old face") is None
    with pytest.raises(RequestError, match="no direction “Elsewhere” for small. Known ones: Green hair, Smiling"):
        find("Elsewhere")
    with pytest.raises(RequestError, match="Give the name"):
        find("", "face", " ")


def test_a_new_request_makes_older_ones_stale() -> None:
    ended, session = [], Session()

    def job() -> Job[str]:
        try:
            yield Progress(1, 2)
            yield Progress(2, 2)
        finally:
            ended.append(True)
        return "done"

    first = session.edits.begin("strip")
    assert finish(first.follow(job())) == "done"
    assert ended == [True]

    running = Running(first.follow(job()))
    events = iter(running)
    next(events)
    second = session.edits.begin("sweep")
    assert second.is_current
    assert not first.is_current
    assert first.is_last_of_kind, "it still has to say how it ended"
    with pytest.raises(Outdated):
        next(events)
    assert ended == [True, True], "the job is closed"
    session.edits.begin("strip")
    assert not first.is_last_of_kind


def test_a_result_that_comes_too_late_is_dropped() -> None:
    """The visitor asks for something else during a job's last step, after its last event."""
    session = Session()

    def job() -> Job[str]:
        yield Progress(1, 1)
        session.edits.begin()
        return "stale"

    with pytest.raises(Outdated):
        finish(session.edits.begin().follow(job()))


def test_leaving_makes_everything_stale() -> None:
    session = Session()
    turns = [session.edits.begin(), session.discover.searches.begin(), session.invert.jobs.begin()]
    session.end()
    assert not any(turn.is_current for turn in turns)
    assert session.text_edit.stop_training


def test_a_tab_that_shows_an_edit_has_nothing_to_take_over() -> None:
    """Opening a tab shows a picture that was chosen elsewhere. The event of the first opening can come after the first
    edit has begun, which it must not replace."""
    from tabs.text_edit import tab as text_edit

    session = Session()
    values = text_edit.rendering(session, None, 40, "trained", "", True, 500, 0, 0)
    next(values)
    assert session.picture is not None
    assert session.seen[text_edit.TAB] is session.picture
