"""What a visit has found and made is of use as before when it comes back from disk."""

from pathlib import Path

import pytest
import torch
from small_models import small_model

from core.directions import ImplicitDirection
from core.discovery.interface import DiscoverySettings
from core.editing import EditSettings, edit, sample_latent
from core.errors import ModelUnavailable
from core.inversion import saved
from core.inversion.editing import PromptEditSettings
from core.inversion.inversion import Inversion
from core.inversion.solution import InversionSettings
from core.memory import bytes_of
from core.models.loader import DiffusionModel
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.presets import Preset
from core.process import Kept
from core.progress import finish
from core.regions import parse_regions
from core.studio import edit as studio_edit
from core.studio import latents, library, measuring
from core.studio.discover import analysis, pictures
from core.studio.discover.analysis import AnalysisCache
from core.studio.discover.exploration import Exploration
from core.studio.discover.preset import as_preset
from core.studio.discover.search import explore, find_rows
from core.studio.discover.spectrum import spectra
from core.studio.frames import EditOptions, Picture
from core.studio.invert import targets
from core.studio.invert.run_methods import run_methods
from core.studio.invert.trial import begin_trial
from core.studio.visit.compose import analysis_of
from core.studio.visit.session import Session
from core.text_to_image import load_text_to_image
from tests.unit.small_models import trained_block

SMALL_REST = 8 * 1024  # bytes: texts and small tensors


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> DiffusionModel:
    """A small model without instruments; nothing is kept yet."""

    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(analysis, "ANALYSES", AnalysisCache())
    monkeypatch.setattr(latents, "KEPT", Kept())
    monkeypatch.setattr(pictures, "STEPS", 6)
    monkeypatch.setattr(measuring, "_lpips", missing)
    return small_model()


@pytest.fixture
def picture(model: DiffusionModel) -> Picture:
    return Picture(finish(edit(model, sample_latent(model, 3), settings=EditSettings(6))), model.card.id)


def test_a_search(model: DiffusionModel, picture: Picture) -> None:
    regions = parse_regions([{"label": "Left", "boxes": [[0.1, 0.2, 0.45, 0.8]]}], 32)
    exploration = Exploration(model, picture, regions, settings=DiscoverySettings(count=2), size=16)
    finish(explore(exploration, False))
    session = Session(picture=picture)
    session.discover.exploration = exploration
    rows, plot = list(exploration.rows), spectra(exploration)
    assert session.nbytes > 300_000

    assert session.rest()
    assert session.nbytes < SMALL_REST
    assert analysis_of(session, session.picture) is exploration.analysis
    for before, after, again in zip(rows, exploration.rows, find_rows(exploration), strict=True):
        assert torch.equal(before.found.direction.delta, after.found.direction.delta)
        assert torch.equal(before.frames, after.frames)
        assert torch.equal(before.heat, after.heat)
        assert torch.allclose(before.found.direction.delta, again.found.direction.delta)
    assert str(spectra(exploration)) == str(plot)
    exploration.pin(0)
    assert as_preset(exploration, exploration.rename(1, "Mine")).name == "Mine"
    assert bytes_of(analysis.ANALYSES._kept) > 300_000, "what is kept for all visitors stays in memory"
    assert finish(explore(exploration)).refined


def test_an_averaged_direction(model: DiffusionModel, picture: Picture) -> None:
    session = Session(picture=picture)
    direction = ImplicitDirection(trained_block(64), 10)
    known = {"model": model.card.id, "fingerprint": model.fingerprint, "t_edit": 300, "t_boost": 0}
    key = session.keep(Preset(direction, name="Wider", **known))
    options, forms = EditOptions(8, "per_timestep"), session.text_edit.forms

    def frames() -> torch.Tensor:
        [frame] = finish(studio_edit.edit_frames(model, picture, session.own[key], [1.0], options, forms))
        return frame.pixels

    before = frames()
    assert forms
    assert session.rest()
    assert not forms, "they are soon there again"
    assert session.nbytes < 16 * 1024
    assert torch.allclose(frames(), before, atol=1e-5)
    assert session.write(session.own[key]).exists()


def test_an_inversion(text_model: Path) -> None:
    model = load_text_to_image(TEXT_TO_IMAGE["stand-in"])
    pixels = library.open_picture(library.examples("avatars")[0], "avatars").pixels
    trial = begin_trial(model, pixels, "a smiling face", InversionSettings(steps=5, iterations=1, starts=2))
    finish(run_methods(trial, model, ["null-text", "EDICT"]))
    session = Session()
    state = session.invert
    state.show(trial)
    state.chosen = "EDICT"
    inversion = state.inversion
    edits = targets.begin_edits(trial.card, inversion, ["a sad face"], PromptEditSettings(), {})
    state.edits = finish(targets.run(edits, model))
    kept = {name: tensors_of(result.inversion) for name, result in trial.results.items()}
    strip = [frame.pixels.clone() for frame in edits.frames["a sad face"]]
    assert session.nbytes > 1_000_000

    assert session.rest()
    assert session.nbytes < SMALL_REST
    assert state.trial is trial is state.kept[0]
    assert state.inversion is edits.inversion, "what was one object still is one"
    for name, result in trial.results.items():
        opened = saved.from_bytes(saved.to_bytes(result.inversion))
        for inversion in (result.inversion, opened):
            pairs = zip(tensors_of(inversion)[:-1], kept[name][:-1], strict=True)
            assert all(torch.equal(new, old) for new, old in pairs)
        assert torch.equal(tensors_of(result.inversion)[-1], kept[name][-1])
    assert all(torch.equal(frame.pixels, old) for frame, old in zip(edits.frames["a sad face"], strip, strict=True))
    again = finish(targets.at_strength(edits, model, 1.0))
    assert torch.allclose(again[0].pixels, strip[targets.STRENGTHS.index(1.0)], atol=1e-5)
    assert begin_trial(model, pixels, "a smiling face", trial.settings, state.kept) is trial


def tensors_of(inversion: Inversion) -> list[torch.Tensor]:
    """Copies of what it is made of; the last is rounded to 8 bits in a file."""
    solution = inversion.solution
    own = [getattr(solution.decoder, name) for name in solution.decoder.tensors]
    return [x.clone() for x in (solution.trajectory, solution.unconditional, *own, inversion.reconstruction)]
