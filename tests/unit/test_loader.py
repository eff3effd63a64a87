"""Loading models: embedded ones from disk, Hub ones from the cache, and plain words when neither can be had."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from hub_stand_in import StandIn, point_client_at, stand_in
from model_folders import cached, modules_made_meanwhile, names_of_2022
from small_models import small_card, small_unet

from core.errors import ModelUnavailable, RequestError
from core.models import folders, loader
from core.models.cards import MODELS, Hub, ModelCard
from core.models.loader import DiffusionModel, Loader, load
from core.models.placing import best_dtype
from core.models.reading import read_pipeline


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An embedded model as training leaves it: v-prediction, half precision on disk."""
    small_unet().half().save_pretrained(tmp_path / "model" / "unet")
    DDIMScheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "model" / "scheduler")
    return tmp_path / "model"


def cards(folder: Path, *ids: str) -> dict[str, ModelCard]:
    return {model_id: small_card(model_id, str(folder)) for model_id in ids}


def test_an_embedded_model(folder: Path) -> None:
    card = small_card("small", str(folder))
    model = load(card, device="cpu", dtype=torch.float32)
    assert model.card is card
    assert model.x_shape == (12, 16, 16)
    assert model.schedule.prediction_type == "v_prediction"
    assert model.unet.dtype == torch.float32
    assert not any(p.requires_grad for p in model.unet.unet.parameters())

    x = torch.randn(2, *model.x_shape, generator=torch.Generator().manual_seed(0))
    features = model.features(x, 300)
    assert tuple(features.h.shape[1:]) == card.h_shape
    a = model.schedule.alpha(300)
    v = small_unet().half().float()(x, 300).sample
    assert torch.allclose(model.eps(features, x, 300), (1 - a) ** 0.5 * x + a**0.5 * v, atol=1e-4)


def test_the_precision_of_use_does_not_change_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    card = small_card("small", str(folder))
    half, full = (load(card, device="cpu", dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    assert half.unet.dtype == torch.bfloat16
    assert half.nbytes * 2 == full.nbytes
    assert half.fingerprint == full.fingerprint
    small_unet(seed=1).save_pretrained(tmp_path / "other" / "unet")
    DDIMScheduler().save_pretrained(tmp_path / "other" / "scheduler")
    assert load(small_card("other", str(tmp_path / "other"))).fingerprint != full.fingerprint


def test_half_precision_is_the_cards_and_the_machines_choice(folder: Path) -> None:
    card = small_card("small", str(folder))
    assert load(card, device="cpu").dtype == best_dtype(torch.device("cpu"))
    assert load(replace(card, half=False), device="cpu").dtype == torch.float32


def test_a_learned_variance_is_dropped(tmp_path: Path) -> None:
    unet = small_unet()
    unet.register_to_config(out_channels=24)
    unet.conv_out = torch.nn.Conv2d(16, 24, 3, padding=1)
    unet.save_pretrained(tmp_path / "unet")
    DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    model = load(small_card("small", str(tmp_path)), device="cpu", dtype=torch.float32)
    x = torch.randn(1, 12, 16, 16)
    assert torch.allclose(model.eps(model.features(x, 7), x, 7), unet(x, 7).sample[:, :12], atol=1e-5)


@pytest.mark.parametrize("fault", ["folder", "weights", "scheduler", "damaged"])
def test_an_incomplete_embedded_model(folder: Path, fault: str) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    match fault:
        case "folder":
            folder = folder / "elsewhere"
        case "weights":
            weights.unlink()
        case "scheduler":
            (folder / "scheduler" / "scheduler_config.json").unlink()
        case "damaged":
            weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelUnavailable, match="missing or damaged"):
        load(small_card("small", str(folder)))


def test_the_layout_and_the_names_of_2022(tmp_path: Path) -> None:
    """All files in one folder, a .bin, attention called query, key, value: read as `from_pretrained` reads it."""
    unet = small_unet(channels=3)
    unet.save_config(tmp_path)
    DDPMScheduler().save_config(tmp_path)
    state = names_of_2022(unet.state_dict())
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")

    ours, schedule = read_pipeline(tmp_path)
    theirs = UNet2DModel.from_pretrained(tmp_path)
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(ours.eval()(x, 5).sample, theirs.eval()(x, 5).sample)
    assert torch.equal(ours(x, 5).sample, unet(x, 5).sample)
    assert torch.equal(schedule.alphas_cumprod, DDPMScheduler().alphas_cumprod.double())


def test_loading_leaves_other_threads_alone(folder: Path) -> None:
    with modules_made_meanwhile(), ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: load(small_card("small", str(folder))), range(12)))
    assert not torch.nn.Linear(4, 4).weight.is_meta


def test_simultaneous_requests_load_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, together = [], threading.Barrier(8)

    def slow_load(*args: object) -> DiffusionModel:
        calls.append(args)
        time.sleep(0.2)
        return load(*args)

    monkeypatch.setattr(loader, "load", slow_load)
    models = Loader(cards(folder, "a", "b"), device="cpu")

    def ask(i: int) -> DiffusionModel:
        together.wait()
        return models.get("ab"[i % 2])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(calls) == 2
    assert len({id(model) for model in found}) == 2
    assert models.get("a") is found[0]


def test_a_failure_reaches_everyone_and_can_be_retried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4)

    def broken(*args: object) -> DiffusionModel:
        time.sleep(0.2)
        raise ModelUnavailable("not today")

    monkeypatch.setattr(loader, "load", broken)
    models = Loader(cards(folder, "a"))

    def ask(_: int) -> str:
        together.wait()
        with pytest.raises(ModelUnavailable) as caught:
            models.get("a")
        return caught.value.message

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == ["not today"] * 4
    monkeypatch.undo()
    assert models.get("a").card.id == "a"


def test_the_least_recently_used_model_makes_room(folder: Path) -> None:
    one = load(small_card("a", str(folder)), device="cpu", dtype=torch.float32).nbytes
    models = Loader(cards(folder, "a", "b", "c"), capacity=2 * one, device="cpu", dtype=torch.float32)
    first = models.get("a")
    models.get("b")
    assert models.get("a") is first
    models.get("c")
    assert models.loaded() == ["a", "c"]
    models.capacity = 1
    models.get("b")  # the one that is asked for stays, however large
    assert models.loaded() == ["b"]


def test_unknown_models() -> None:
    with pytest.raises(RequestError, match="avatars"):
        Loader().get("nonesuch")


def test_pictures_per_call(folder: Path) -> None:
    model = load(small_card("small", str(folder)), device="cpu", dtype=torch.float32)
    assert model.rows_per_call(budget=1) == 1
    assert model.rows_per_call(2**30) == pytest.approx(2 * model.rows_per_call(2**29), abs=1)
    assert model.rows_per_call() > 100


# The Hub


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """A cache with a DDPM in it."""
    pipeline = DDPMPipeline(small_unet(channels=3), DDPMScheduler(beta_schedule="linear", clip_sample=True))
    pipeline.save_pretrained(cached(tmp_path / "hub", "someone/ddpm"))
    return tmp_path / "hub"


def hub_card(repo: str) -> ModelCard:
    return replace(small_card("hub", codec="identity"), source=Hub(repo))


def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that refuses connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        point_client_at(f"http://127.0.0.1:{unused.getsockname()[1]}", monkeypatch)


def test_a_cached_hub_model_needs_no_network(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "hub_answers", lambda: pytest.fail("asked the Hub"))
    model = load(hub_card("someone/ddpm"), "cpu", torch.float32, hub_cache)
    assert model.schedule.prediction_type == "epsilon"
    x = torch.randn(1, *model.x_shape)
    assert torch.allclose(model.eps(model.features(x, 9), x, 9), small_unet(channels=3)(x, 9).sample, atol=1e-5)


def test_a_hub_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere(monkeypatch)
    with pytest.raises(ModelUnavailable, match="cannot be reached") as caught:
        load(hub_card("someone/else"), cache_dir=tmp_path)
    assert "someone/else" in caught.value.message
    assert "choose the built-in model" in caught.value.message


def test_a_hub_that_keeps_silent_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are accepted and never answered."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        point_client_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            load(hub_card("someone/else"), cache_dir=tmp_path)
        silent.settimeout(0.1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in(monkeypatch) as running:
        yield running


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", ["today", "2022"])
def test_a_hub_model_is_downloaded_once(
    served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """Through the client and diffusers, in subfolders or with all files in one and weights as .bin."""
    unet = small_unet(channels=3)
    pipeline = DDPMPipeline(unet, DDPMScheduler(beta_schedule="linear", clip_sample=True))
    pipeline.save_pretrained(tmp_path / "made")
    if layout == "2022":
        unet.save_config(tmp_path / "made")
        pipeline.scheduler.save_config(tmp_path / "made")
        torch.save(unet.state_dict(), tmp_path / "made" / "diffusion_pytorch_model.bin")
        shutil.rmtree(tmp_path / "made" / "unet")
        shutil.rmtree(tmp_path / "made" / "scheduler")
    served.repository("someone/ddpm", files_below(tmp_path / "made"))
    card, cache = hub_card("someone/ddpm"), tmp_path / "cache"
    first = load(card, "cpu", torch.float32, cache)
    x = torch.randn(1, *first.x_shape)
    assert torch.allclose(first.eps(first.features(x, 9), x, 9), unet(x, 9).sample, atol=1e-5)

    nowhere(monkeypatch)
    served.requests.clear()
    assert load(card, "cpu", torch.float32, cache).fingerprint == first.fingerprint
    assert not served.requests


def test_a_hub_model_that_cannot_be_had(served: StandIn, tmp_path: Path) -> None:
    def words(repo: str, revision: str = "main") -> str:
        with pytest.raises(ModelUnavailable) as caught:
            load(replace(hub_card(repo), source=Hub(repo, revision)), cache_dir=tmp_path / repo)
        assert "built-in model" in caught.value.message
        return caught.value.message

    assert "There is no someone/nothing on the Hub" in words("someone/nothing")
    served.repository("someone/texts", {"README.md": b"nothing but words"})
    assert "does not hold a diffusion model of the kind" in words("someone/texts")
    assert "no revision “v2”" in words("someone/texts", "v2")
    served.repository("someone/gated", {"model_index.json": b"{}"}, gated=True)
    assert "is gated" in words("someone/gated")
    served.repository("someone/other", {"model_index.json": b'{"_class_name": "DDPMPipeline"}', "config.json": b"{}"})
    assert "does not hold a diffusion model of the kind" in words("someone/other")
    served.status, served.headers = 503, {}
    assert "fault of its own at the moment" in words("someone/texts")


def test_the_registry() -> None:
    for model_id, card in MODELS.items():
        assert card.id == model_id
    hub = {card.source.repo for card in MODELS.values() if isinstance(card.source, Hub)}
    assert hub == {
        *(f"google/ddpm-ema-{name}-256" for name in ("celebahq", "church", "bedroom", "cat")),
        "CompVis/ldm-celebahq-256",
    }
