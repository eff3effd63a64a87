"""Invert without the page: what is done is kept, what was stopped goes on, memory runs short, files come back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from torch import Tensor

from core.errors import ModelUnavailable, PresetError, RequestError, ResourceError
from core.imaging import Crop, to_pil, to_pixels
from core.inversion import saved
from core.inversion.editing import PromptEditSettings
from core.inversion.methods import METHODS
from core.inversion.solution import InversionSettings
from core.models.cards import Embedded
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.photo.placement import from_crop
from core.progress import Progress, finish
from core.studio import library
from core.studio.invert import meter, targets
from core.studio.invert.automatic import choose
from core.studio.invert.captions import STATEMENTS, caption
from core.studio.invert.meter import Meter
from core.studio.invert.robustness_study import fill_study, variants
from core.studio.invert.run_methods import SHORT_OF_MEMORY, error_map, run_methods
from core.studio.invert.state import MAX_KEPT, InvertState
from core.studio.invert.trial import Trial, begin_trial, check_methods
from core.studio.photographs import cut_out
from core.studio.visit.invert import last_trial, open_inversion, pixels_for
from core.studio.visit.session import Session
from core.text_to_image import TextToImage, load_text_to_image, text_to_image_card
from tabs.invert import edit as edit_panel
from training.phrases import RULES
from training.portraits import Portrait

QUICK = InversionSettings(steps=5, iterations=1, starts=2)
PROMPT = "a smiling face with glasses"


@pytest.fixture(scope="module")
def model(text_model: Path) -> TextToImage:
    return load_text_to_image(TEXT_TO_IMAGE["stand-in"])


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return library.open_picture(library.examples("avatars")[0], "avatars").pixels


@pytest.fixture
def trial(model: TextToImage, pixels: Tensor) -> Trial:
    return begin_trial(model, pixels, PROMPT, QUICK)


@pytest.fixture(scope="module")
def inverted(model: TextToImage, pixels: Tensor) -> Trial:
    made = begin_trial(model, pixels, PROMPT, QUICK)
    return finish(run_methods(made, model, ["anchored"]))


class Fails:
    """The network, which runs out of memory with more than `most` rows."""

    def __init__(self, model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most, self.calls = 10**6, []
        real = TextToImage._eps

        def eps(one: TextToImage, x: Tensor, *arguments: Any) -> Tensor:
            self.calls.append(len(x))
            if len(x) > self.most:
                raise torch.OutOfMemoryError
            return real(one, x, *arguments)

        monkeypatch.setattr(TextToImage, "_eps", eps)


@pytest.fixture
def network(model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> Fails:
    return Fails(model, monkeypatch)


# ------------------------------------------------------------------------------------------------------------- trials


def test_methods_that_are_done_are_not_done_again(trial: Trial, model: TextToImage, network: Fails) -> None:
    finish(run_methods(trial, model, ["DDIM"]))
    first, calls = trial.results["DDIM"], len(network.calls)
    again = begin_trial(model, trial.pixels.clone(), f"  {PROMPT} ", QUICK, [trial])
    assert again is trial
    assert again.missing(["DDIM", "anchored"]) == ["anchored"]
    finish(run_methods(again, model, ["DDIM"]))
    assert len(network.calls) == calls
    finish(run_methods(again, model, ["DDIM", "anchored"]))
    assert again.results["DDIM"] is first
    assert list(again.results) == ["DDIM", "anchored"]
    for other in (
        begin_trial(model, -trial.pixels, PROMPT, QUICK, [trial]),
        begin_trial(model, trial.pixels, "a face", QUICK, [trial]),
        begin_trial(model, trial.pixels, PROMPT, replace(QUICK, steps=6), [trial]),
    ):
        assert other is not trial
        assert not other.results


def test_trials_of_a_visit_are_kept(model: TextToImage, pixels: Tensor) -> None:
    """Another prompt, another picture and back: what was made is there again; the oldest go."""
    session, state = Session(), InvertState()
    session.invert = state
    examples = [library.open_picture(path, "avatars") for path in library.examples("avatars")]
    pictures = [*examples, *(replace(picture, pixels=-picture.pixels) for picture in examples)][: MAX_KEPT + 1]
    trials = []
    for picture in pictures:
        trials.append(begin_trial(model, picture.pixels, PROMPT, QUICK, state.kept))
        state.show(trials[-1])
    card = trials[0].card
    session.picture = pictures[3]
    assert last_trial(session, card) is trials[3]
    assert begin_trial(model, pictures[3].pixels, PROMPT, QUICK, state.kept) is trials[3]
    session.picture = pictures[0]
    assert last_trial(session, card) is None
    state.chosen, state.edits = "DDIM", "something"
    state.show(trials[3])
    assert (state.chosen, state.edits) == (None, None)
    assert state.kept == [*trials[1:3], *trials[4:], trials[3]]
    state.show(trials[-1])
    assert (state.chosen, state.edits) == ("DDIM", "something"), "its edits are there again with their picture"


def test_a_stopped_method_goes_on_where_it_was(model: TextToImage, pixels: Tensor, network: Fails) -> None:
    whole = finish(run_methods(begin_trial(model, pixels, PROMPT, QUICK), model, ["null-text"]))
    expected = len(network.calls)
    trial = begin_trial(model, pixels, PROMPT, QUICK)
    network.calls.clear()
    job = run_methods(trial, model, ["null-text"])
    for _ in range(7):
        next(job)
    job.close()
    done = len(network.calls)
    assert 0 < done < expected
    assert not trial.results
    assert trial.checkpoints["null-text"].seconds > 0
    again = begin_trial(model, pixels, PROMPT, QUICK, [trial])
    finish(run_methods(again, model, ["null-text"]))
    assert len(network.calls) <= expected + 3
    made, other = (one.results["null-text"].inversion for one in (again, whole))
    assert torch.equal(made.solution.trajectory, other.solution.trajectory)
    assert made.measures["evaluations"] >= other.measures["evaluations"]
    assert not again.checkpoints


def test_out_of_time_is_done_again_with_more_time_only(model: TextToImage, pixels: Tensor) -> None:
    hurried = replace(QUICK, budget=1e-6)
    trial = finish(run_methods(begin_trial(model, pixels, PROMPT, hurried), model, ["null-text"]))
    assert trial.results["null-text"].out_of_time
    assert begin_trial(model, pixels, PROMPT, hurried, [trial]).missing(["null-text"]) == []
    assert begin_trial(model, pixels, PROMPT, QUICK, [trial]).missing(["null-text"]) == ["null-text"]
    finish(run_methods(trial, model, ["null-text"]))
    assert not trial.results["null-text"].out_of_time
    assert trial.results["null-text"].inversion.measures["gradients"] > 0


def test_memory_that_runs_short(trial: Trial, model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: smaller batches, and words that say so. Always: the method is left out, the others are run."""
    from core.inversion import methods

    listed, rows = methods.METHODS, []
    real = listed["teacher-forced"]

    def short(task: Any) -> Any:
        rows.append(task.model.rows)
        if task.model.rows > 2:
            raise ResourceError("out of memory")
        return (yield from real.invert(task))

    def never(task: Any) -> Iterator[Progress]:
        yield Progress(0, 1)
        raise ResourceError("out of memory, whatever is done")

    monkeypatch.setitem(listed, "teacher-forced", replace(real, invert=short))
    monkeypatch.setitem(listed, "EDICT", replace(listed["EDICT"], invert=never))
    finish(run_methods(trial, model, ["EDICT", "teacher-forced", "DDIM"]))
    assert rows == [8, 2]
    assert trial.results["teacher-forced"].note == SHORT_OF_MEMORY
    assert trial.results["DDIM"].note == ""
    assert trial.failed == {"EDICT": "out of memory, whatever is done"}
    assert begin_trial(model, trial.pixels, PROMPT, QUICK, [trial]).failed == {}


def test_the_meter_leaves_waiting_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    measured, seen = Meter(torch.device("cpu")), []

    def job() -> Iterator[Progress]:
        for step in range(3):
            now[0] += 2
            seen.append(measured.clock())
            if step == 1:
                torch.ones(16 * 2**20).sum()  # 64 MB
            yield Progress(step, 3)

    for _ in measured.run(job()):
        now[0] += 50  # somebody else's turn
    assert seen == [2, 4, 6]
    assert measured.seconds == measured.clock() == 6
    # Its own, not the hundreds of MB that the process has.
    assert measured.peak is None or 56 * 2**20 < measured.peak < 96 * 2**20


def test_error_maps() -> None:
    a = torch.zeros(1, 3, 8, 8)
    b = a.clone()
    b[..., :4] = 0.2  # a tenth of the range, five times: half of the scale
    b[..., 7] = 1
    colours = error_map(a, b)
    assert colours.getpixel((0, 0)) == (221, 90, 53)
    assert colours.getpixel((5, 0)) == (20, 16, 12)
    assert colours.getpixel((7, 0)) == (255, 250, 244)


# ----------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("prompt", "settings", "words"),
    [
        ("  \n ", QUICK, "Write a source prompt"),
        ("x" * 3000, QUICK, "up to 2000 characters"),
        (PROMPT, replace(QUICK, steps=3), "steps must lie between 4 and 200"),
        (PROMPT, replace(QUICK, steps=5000), "steps must lie between"),
        (PROMPT, replace(QUICK, budget=1e9), "seconds must lie between"),
        (PROMPT, replace(QUICK, seed=-1), "seed must lie between"),
    ],
)
def test_what_cannot_be_done(
    model: TextToImage, pixels: Tensor, prompt: str, settings: InversionSettings, words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        begin_trial(model, pixels, prompt, settings)


def test_words_that_are_cut(model: TextToImage, pixels: Tensor) -> None:
    trial = begin_trial(model, pixels, "a face " + "with glasses " * 20, QUICK)
    assert trial.words_cut.startswith(("with", "glasses"))
    assert trial.words_cut.count("glasses") < 20


def test_what_is_said_of_a_long_prompt_is_short_and_says_where_it_ends(model: TextToImage, inverted: Trial) -> None:
    """The words that are not read are counted and quoted, none at length; what would not be read is not added."""
    inversion = replace(inverted.results["anchored"].inversion, prompt="a smiling face with glasses and long hair")
    long, short = ("a smiling face with long hair " * 60).strip(), "a smiling face with long hair"
    for target, added in ((long, False), (short, True)):
        chosen = choose(model, inverted.card, inversion, [target])
        assert chosen.worded == ({target: f"{target} and without glasses"} if added else {})
        assert ("also told “without glasses”" in chosen.note) == added
        edits = targets.begin_edits(inverted.card, inversion, [target], chosen.settings(), {})
        edits.note = chosen.note
        said = edit_panel.remarks(edits, model)
        assert len(said) < 500, said
        read = len(target.split()) - len(model.words_cut(target).split())
        told = f"reads the first {read} of its 360 words and ignores the rest, from word {read + 1} on: “"
        assert (told in said) == (target == long)
    assert len(edit_panel.edited(replace(edits, shown=long, frames={long: []}))["name"]) < 130


def test_methods_are_known() -> None:
    assert check_methods(["DDIM", "anchored", "DDIM"]) == ["anchored", "DDIM"]
    for wrong, words in (([], "at least one"), (["magic"], "magic")):
        with pytest.raises(RequestError, match=words):
            check_methods(wrong)


def test_a_model_that_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card = replace(TEXT_TO_IMAGE["avatars-t2i"], source=Embedded(str(tmp_path)))
    with pytest.raises(ModelUnavailable, match="not part of this copy.*Stable Diffusion 1.5.*GPU"):
        load_text_to_image(card)
    with pytest.raises(RequestError, match="no model 'nonesuch'"):
        text_to_image_card("nonesuch")


# ----------------------------------------------------------------------------------------------------------- pictures


def test_the_picture_is_as_sharp_as_what_it_came_from(text_model: Path) -> None:
    """An upload is read again at the text-to-image model's resolution, not enlarged from the other model's."""
    card = replace(TEXT_TO_IMAGE["avatars-t2i"], resolution=512)
    path = library.examples("avatars")[0]
    session = Session()
    session.picture = replace(library.open_picture(path, "avatars"), example=path.stem)
    assert torch.equal(pixels_for(session, card), to_pixels(path, 512))
    fine = torch.rand(1, 3, 600, 600, generator=torch.Generator().manual_seed(0)) * 2 - 1
    session.upload = to_pil(fine)[0]
    session.picture = cut_out(session.uploaded, from_crop(Crop(), 600, 600), "avatars")
    kept = pixels_for(session, card)
    assert kept.shape == (1, 3, 512, 512)
    enlarged = to_pixels(to_pil(session.picture.pixels)[0], 512)
    assert kept.std() > 1.5 * enlarged.std()
    session.picture = replace(session.picture, photo=None)  # imagined: there is nothing sharper
    assert torch.equal(pixels_for(session, card), enlarged)
    session.picture = None
    with pytest.raises(RequestError, match="There is no picture"):
        pixels_for(session, card)


def reading(portrait: Portrait) -> dict[str, float]:
    """What a perfect probe reads off a portrait."""
    names = ("short_hair", "long_hair", "curly_hair", "bald")
    return vars(portrait) | {name: float(portrait.hair_style == i) for i, name in enumerate(names)}


def test_captions_say_what_the_training_captions_say() -> None:
    """Every statement holds of a portrait exactly when the rule that has its words does."""
    from training.portraits import sample

    portraits = [sample(i) for i in range(300)]
    for before, after, holds in STATEMENTS:
        words = before or after
        [rule] = [rule for rule in RULES[:42] if words in (rule.before if before else rule.after)]
        assert [bool(holds(reading(p))) for p in portraits] == [bool(rule.holds(p)) for p in portraits], words


def test_captions_are_sentences() -> None:
    plain = reading(Portrait())
    assert caption(plain).startswith(("a ", "an "))
    glad = plain | {"smile": 0.9, "glasses": 1.0, "lip_red": 0.9, "mouth_open": 0.8, "age": 0.9, "bald": 1.0}
    assert caption(glad) == "a bald smiling face with glasses and red lips"
    assert "an old" in caption(plain | {"age": 0.9, "bald": 0.0, "brow_angle": 0.0, "smile": 0.0})


# -------------------------------------------------------------------------------------------------------------- edits


def test_prompts_and_weights_are_read() -> None:
    assert targets.read_prompts(" a cat \n\n a  dog\na cat") == ["a cat", "a dog"]
    assert targets.read_weights("Smiling 2, glasses: 0.5; beard=-1") == {"smiling": 2.0, "glasses": 0.5, "beard": -1.0}
    assert targets.read_weights("  ") == {}
    for text, words in (("\n", "Write a target prompt"), ("a\nb\nc\nd\ne\nf\ng", "up to 6")):
        with pytest.raises(RequestError, match=words):
            targets.read_prompts(text)
    for text in ("smiling", "2", "smiling lots", "a b 3"):
        with pytest.raises(RequestError, match="is not a word with its weight"):
            targets.read_weights(text)


def test_edits_fill_up(inverted: Trial, model: TextToImage) -> None:
    """Every target first, then all strengths; strength 0 is the reconstruction, and each word weighs where it is."""
    prompts = ["a sad face with glasses", "a smiling old face"]
    inversion = inverted.results["anchored"].inversion
    edits = targets.begin_edits(inverted.card, inversion, prompts, PromptEditSettings(), {"sad": 2.0})
    versions = [(edits.version, [len(frames) for frames in edits.frames.values()]) for _ in targets.run(edits, model)]
    versions.append((edits.version, [len(frames) for frames in edits.frames.values()]))
    assert (1, [2, 2]) in versions
    n = len(targets.STRENGTHS)
    assert versions[-1] == (3, [n, n])
    for frames in edits.frames.values():
        assert [frame.strength for frame in frames] == list(targets.STRENGTHS)
        assert torch.equal(frames[0].pixels, inversion.reconstruction[0])
        assert all(frame.measures.distance is not None for frame in frames)
    plain = targets.begin_edits(inverted.card, inversion, prompts, PromptEditSettings(), {})
    unweighted = finish(targets.at_strength(plain, model, 1.0))
    weighted = [edits.frames[prompt][4] for prompt in prompts]
    assert not torch.allclose(weighted[0].pixels, unweighted[0].pixels, atol=1e-3)
    assert torch.allclose(weighted[1].pixels, unweighted[1].pixels, atol=1e-3)
    finish(targets.add_strength(edits, model, prompts[0], 0.4))
    assert [frame.strength for frame in edits.frames[prompts[0]]][:3] == [0.0, 0.25, 0.4]


def test_edits_that_cannot_be(inverted: Trial, model: TextToImage) -> None:
    inversion = inverted.results["anchored"].inversion

    def begin(settings: PromptEditSettings, weights: dict[str, float]) -> Any:
        return targets.begin_edits(inverted.card, inversion, ["a sad face"], settings, weights)

    with pytest.raises(RequestError, match="“dog” is not a word"):
        begin(PromptEditSettings(), {"dog": 2.0})
    with pytest.raises(RequestError, match="must lie between -5 and 5"):
        begin(PromptEditSettings(), {"sad": 50.0})
    with pytest.raises(RequestError, match="with attention control only"):
        begin(PromptEditSettings(attention="none"), {"sad": 2.0})
    with pytest.raises(RequestError, match="strength must lie between"):
        finish(targets.at_strength(begin(PromptEditSettings(), {}), model, 9.0))


def test_edits_when_memory_runs_short(inverted: Trial, model: TextToImage, network: Fails) -> None:
    """In smaller batches the pictures are the same, and the note says so; one that never fits is an error."""
    prompts = ["a sad face", "an old face", "a bald face"]
    edits = targets.begin_edits(
        inverted.card, inverted.results["anchored"].inversion, prompts, PromptEditSettings(), {}
    )
    whole = finish(targets.at_strength(edits, model, 1.0))
    assert edits.note == ""
    largest = max(network.calls)
    network.calls.clear()
    network.most = largest - 1
    smaller = finish(targets.at_strength(edits, model, 1.0))
    assert edits.note == SHORT_OF_MEMORY
    for one, other in zip(whole, smaller, strict=True):
        assert torch.allclose(one.pixels, other.pixels, atol=0.02)
    network.most = 1
    with pytest.raises(ResourceError, match="ran out of memory"):
        finish(targets.at_strength(edits, model, 1.0))


# ---------------------------------------------------------------------------------------------------------- robustness


def test_a_study_fills_its_cells_and_goes_on(trial: Trial, model: TextToImage) -> None:
    rows = variants(trial, [20, 5.0], ["a dog", "", PROMPT])
    assert rows == [(0.0, PROMPT), (5.0, PROMPT), (20.0, PROMPT), (0.0, "a dog")]
    job = fill_study(trial, model, rows, ["anchored", "DDIM"])
    while len(trial.cells) < 3:
        next(job)
    job.close()
    kept = dict(trial.cells)
    finish(fill_study(trial, model, rows, ["anchored", "DDIM"]))
    assert len(trial.cells) == 8
    assert all(trial.cells[key] is cell for key, cell in kept.items())
    cells = [trial.cells[sigma, PROMPT, "anchored"] for sigma in (0.0, 5.0, 20.0)]
    noise = [(cell.noisy - trial.pixels).std().item() * 127.5 for cell in cells]
    assert noise == pytest.approx([0, 5, 20], rel=0.1)
    assert [cell.measures["psnr"] for cell in cells] == sorted((cell.measures["psnr"] for cell in cells), reverse=True)
    assert all({"ssim", "psnr decoded"} <= cell.measures.keys() for cell in trial.cells.values())


@pytest.mark.parametrize(
    ("sigmas", "prompts", "words"),
    [([-1], [], "noise must lie"), ([1] * 9, [], "up to 6"), ([], ["x"] * 9, "up to 6"), ([], ["x" * 3000], "2000")],
)
def test_a_study_that_cannot_be(trial: Trial, sigmas: list[float], prompts: list[str], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        variants(trial, sigmas, prompts)


# -------------------------------------------------------------------------------------------------------------- files


def test_a_saved_inversion_is_there_again(inverted: Trial, model: TextToImage, tmp_path: Path) -> None:
    made = inverted.results["anchored"].inversion
    path = saved.save(made, tmp_path / "x.safetensors")
    session = Session()
    trial = open_inversion(session, path)
    assert session.invert.inversion.prompt == PROMPT
    assert session.invert.chosen == "anchored"
    assert torch.equal(pixels_for(session, trial.card), trial.pixels)
    assert last_trial(session, trial.card) is trial
    assert begin_trial(model, trial.pixels, PROMPT, trial.settings, [trial]) is trial
    edits = targets.begin_edits(trial.card, session.invert.inversion, ["a sad face"], PromptEditSettings(), {})
    frames = finish(targets.at_strength(edits, model, 1.0))
    before = targets.begin_edits(trial.card, made, ["a sad face"], PromptEditSettings(), {})
    assert torch.allclose(frames[0].pixels, finish(targets.at_strength(before, model, 1.0))[0].pixels, atol=0.02)


def test_files_that_cannot_be_opened(inverted: Trial, tmp_path: Path) -> None:
    session, made = Session(), inverted.results["anchored"].inversion
    path = tmp_path / "x.safetensors"
    for changed, words in (
        (replace(made, model="nonesuch"), "no model 'nonesuch'"),
        (replace(made, fingerprint="f" * 16), "other weights"),
        (replace(made, pixels=made.pixels[..., :64, :64]), "does not fit"),
    ):
        saved.save(changed, path)
        with pytest.raises(RequestError, match=words):
            open_inversion(session, path)
    path.write_bytes(b"not a file of ours")
    with pytest.raises(PresetError, match="not a usable file"):
        open_inversion(session, path)
    assert session.picture is None
    assert session.invert.trial is None


def test_every_method_is_described_on_the_page() -> None:
    from tabs.invert import words as invert_words

    assert all(method.name == name for name, method in METHODS.items())
    labels = [invert_words.label(name) for name in METHODS]
    assert labels == [method.label for method in METHODS.values()]
    assert len(set(labels)) == len(METHODS)
    assert all(method.help.endswith(".") for method in METHODS.values())


def test_the_end_of_a_visit_ends_its_jobs() -> None:
    session = Session()
    turn = session.invert.jobs.begin("invert")
    session.end()
    assert not turn.is_current


ASKED = ("stand-in", ["anchored"], 5, 1, 0, 1, 2, 0)  # a model, methods and settings, as the page gives them


def test_a_job_has_its_picture_from_its_first_moment(text_model: Path) -> None:
    """The tab that is being opened meanwhile finds that its picture is shown, and leaves the job alone."""
    from tabs.invert import tab

    for begin, more in ((tab.run, ()), (tab.run_study, ([5], ""))):
        session = Session()
        session.picture = library.open_example(library.examples("avatars")[1], "avatars")
        job = begin(session, PROMPT, *ASKED, *more)
        next(job)
        assert session.seen[tab.TAB] is session.picture
        job.close()


def test_a_picture_that_comes_late_puts_no_newer_job_away(
    trial: Trial, text_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tabs.invert import tab

    session = Session()
    state = session.invert

    def meanwhile(*_: Any) -> None:
        state.jobs.begin(tab.KIND)
        state.show(trial)

    monkeypatch.setattr(tab, "last_trial", meanwhile)
    [values] = tab.fresh(session, "", "stand-in", ["anchored"])
    assert state.trial is trial
    assert all(value == gr.skip() for value in values)
    monkeypatch.undo()
    session.picture = library.open_example(library.examples("avatars")[1], "avatars")
    [values] = tab.fresh(session, "", "stand-in", ["anchored"])
    assert state.trial is None
    assert len(values) == 13


def test_a_job_that_is_stopped_at_once_leaves_what_was_there(inverted: Trial, text_model: Path) -> None:
    from tabs.invert import tab

    session = Session()
    session.picture = library.open_example(library.examples("avatars")[0], "avatars")
    state = session.invert
    state.show(inverted)
    job = tab.run(session, "a smiling face", *ASKED)
    for _ in job:
        state.jobs.begin()  # Stop is pressed
    assert state.trial is inverted
