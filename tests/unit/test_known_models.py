"""Models of both families by their ids, and what a text-to-image one is bound to for each picture."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_text_models import list_small_model, small_text_model
from torch import Tensor

from core.directions import GlobalDirection
from core.errors import RequestError
from core.models.cards import MODELS
from core.models.loader import DiffusionModel
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.presets import Preset, of_prompt
from core.progress import finish
from core.prompted import h_space_card, listed_h_space, with_prompt
from core.regions import parse_regions
from core.studio import known_models, library
from core.studio.discover.exploration import Exploration
from core.studio.discover.pictures import apply_to_others
from core.studio.discover.preset import as_preset
from core.studio.discover.search import explore
from core.studio.domain import UNKNOWN, domain_of
from core.studio.edit import edit_frames
from core.studio.frames import EditOptions, Picture
from core.studio.known_models import bound_model, described, is_known, known_card, model_of, takes_prompt
from core.studio.strips import strip_key
from core.studio.visit import session as visits
from core.studio.visit.compose import analysis_of
from core.studio.visit.session import Session
from core.text_to_image import TextToImage, load_text_to_image
from tabs.endpoints import given_picture

SMALL = "small"
LEFT = parse_regions([{"label": "Left", "boxes": [[0.1, 0.2, 0.45, 0.8]]}], 16)


@pytest.fixture(scope="module")
def text_model() -> TextToImage:
    return small_text_model("v_prediction")


@pytest.fixture(autouse=True)
def listed(text_model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    list_small_model(monkeypatch, text_model)


def pixels(seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def test_cards_of_both_families() -> None:
    assert known_card("avatars") is MODELS["avatars"]
    card = known_card("avatars-t2i")
    assert (card.framing, card.parts, card.domain_word) == (
        MODELS["avatars"].framing,
        MODELS["avatars"].parts,
        "face",
    )
    assert takes_prompt("avatars-t2i")
    assert not takes_prompt("avatars")
    assert not takes_prompt("nothing")
    assert is_known(SMALL)
    assert not is_known("nothing")
    for ask in (known_card, bound_model):
        with pytest.raises(RequestError, match="no model"):
            ask("nothing")
    ids = [one.id for one in known_models.known_models()]
    assert sorted(ids) == sorted([*MODELS, *TEXT_TO_IMAGE])
    assert set(ids[:2]) == {"avatars", "avatars-t2i"}, "those that come with the app come first"
    assert library.examples("avatars-t2i") == library.examples("avatars")
    assert library.examples(SMALL) == []


def test_a_listed_card_says_what_the_network_is() -> None:
    model = load_text_to_image(TEXT_TO_IMAGE["avatars-t2i"])
    assert h_space_card(model) == listed_h_space(TEXT_TO_IMAGE["avatars-t2i"])


def test_the_network_is_bound_to_what_the_picture_shows(text_model: TextToImage) -> None:
    seen = Picture(pixels(), SMALL, prompt="a red cat")
    model = model_of(seen)
    assert model.key == with_prompt(text_model, "a red cat").key
    assert bound_model(SMALL).unet.prompt.words == "a picture"
    other = replace(seen, prompt="a dog")
    assert model_of(other).key != model.key
    assert other.key != seen.key
    preset_key = ("smile", _preset(model), EditOptions())
    assert strip_key(seen, *preset_key) != strip_key(other, *preset_key)
    # What the words of an unconditional model's picture were is no part of it.
    drawn = Picture(pixels(), "avatars", prompt="an old face")
    assert drawn.key == replace(drawn, prompt="").key


def _preset(model: DiffusionModel) -> Preset:

    delta = torch.randn(1, *model.card.h_shape, generator=torch.Generator().manual_seed(1))
    about = {"name": "P", "model": model.card.id, "fingerprint": model.fingerprint, "t_edit": 0, "t_boost": 0}
    return Preset(GlobalDirection(5 * delta, 6), **about, injection="symmetric", **of_prompt(model))


def test_pictures_say_what_they_show(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (80, 60), (200, 30, 30)).save(photo)
    assert library.open_picture(photo, SMALL).prompt == "a picture", "what every picture shows, without instruments"
    assert library.open_picture(photo, SMALL, prompt=" a  red\ncat ").prompt == "a red cat"
    assert library.open_picture(photo, "avatars").prompt == ""
    assert given_picture(str(photo), SMALL, None, "a red cat").prompt == "a red cat"
    with pytest.raises(RequestError, match="takes no prompt"):
        given_picture(str(photo), "avatars", None, "a face")
    with pytest.raises(RequestError, match="no model"):
        given_picture(str(photo), "nothing", None, "a face")
    with pytest.raises(RequestError, match="characters"):
        described(Picture(pixels(), SMALL), "x" * 3000)


def test_a_portrait_is_read_by_the_instruments() -> None:
    example = library.open_example(library.examples("avatars-t2i")[0], "avatars-t2i")
    assert example.prompt.startswith(("a ", "an "))
    assert "face" in example.prompt.split()


def test_what_a_visitor_writes_is_kept_with_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(SMALL)
    assert not session.describe("a cat"), "there is no picture"
    first, second = (described(Picture(pixels(seed), SMALL)) for seed in (1, 2))
    session.picture = first
    assert session.describe(" a  red cat ")
    assert not session.describe("a red cat")
    assert session.model().unet.prompt.words == "a red cat"
    for nothing in ("", "  \n", "[]"):
        with pytest.raises(RequestError, match="Say what the picture shows"):
            session.describe(nothing)
    assert session.picture.prompt == "a red cat"
    session.picture = second
    assert session.picture.prompt == "a picture"
    assert session.as_described(first).prompt == "a red cat"
    assert session.as_described(second) is second
    monkeypatch.setattr(visits, "MAX_PROMPTS", 1)
    session.describe("a dog")
    assert session.as_described(first) is first
    assert session.as_described(second).prompt == "a dog"
    plain = Session("avatars")
    plain.picture = Picture(torch.zeros(1, 3, 128, 128), "avatars")
    assert not plain.describe("a cat")
    assert plain.picture.prompt == ""


def test_another_prompt_is_another_search_and_the_first_is_found_again() -> None:
    session = Session(SMALL)
    session.picture = described(Picture(pixels(), SMALL), "a cat")
    one = Exploration(session.model(), session.picture, LEFT, size=8)
    finish(explore(one, refining=False))
    state = session.discover
    state.exploration = one
    assert analysis_of(session, session.picture) is one.analysis
    session.describe("a red cat")
    assert analysis_of(session, session.picture) is None
    state.show(session.picture)
    assert state.exploration is None
    assert state.kept == [one]
    session.describe("a cat")
    state.show(session.picture)
    assert state.exploration is one
    preset = as_preset(one, one.rows[0])
    assert (preset.family, preset.prompt, preset.model) == ("text-to-image", "a cat", SMALL)


def test_a_direction_elsewhere_is_decoded_with_what_each_picture_shows() -> None:
    here = Picture(pixels(), SMALL, prompt="a cat")
    one = Exploration(model_of(here), here, LEFT, size=8)
    finish(explore(one, refining=False))
    others = [Picture(pixels(s), SMALL, prompt=words) for s, words in ((3, "a dog"), (4, "a red cat"), (5, "a dog"))]
    row = one.rows[0]
    made = finish(apply_to_others(one, row, others, 20.0))
    assert made.shape == (2, 3, 3, 16, 16)
    preset = as_preset(one, row)
    for i, other in enumerate(others):
        torch.testing.assert_close(made[0, i], other.pixels[0])
        [frame] = finish(edit_frames(model_of(other), other, preset, [20.0]))
        torch.testing.assert_close(made[1, i], frame.pixels, rtol=0, atol=1e-4)
    [elsewhere] = finish(edit_frames(model_of(here), others[0], preset, [20.0]))
    assert (made[1, 0] - elsewhere.pixels).abs().max() > 1e-4, "the prompt matters"


def test_whether_it_knows_a_picture_is_said_by_who_has_learned_the_same() -> None:
    assert finish(domain_of(bound_model(SMALL), Picture(pixels(), SMALL))) is UNKNOWN
