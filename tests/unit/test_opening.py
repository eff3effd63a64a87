"""Models that visitors open: what is read from their configuration, what is downloaded, and what is refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDPMPipeline, DDPMScheduler, UNet2DConditionModel, UNet2DModel
from hub_stand_in import StandIn, point_client_at, stand_in
from layouts import LAYOUTS, files_below, make, small_vq
from model_folders import opened_models_closed
from small_models import small_unet

from core.api import load_model
from core.errors import ModelUnavailable, RequestError, ResourceError, VisitorError
from core.intervals import PUBLISHED
from core.kept_on_disk import recall
from core.models import opening
from core.models.cards import MODELS, Hub
from core.models.codec import VQ
from core.models.loader import Loader
from core.models.opening import describe, open_model, shapes
from core.models.reading import needed, read_autoencoder
from core.photo.placement import CELEBA_HQ
from core.progress import Running, finish


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with opened_models_closed():
        yield


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in(monkeypatch) as running:
        yield running


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(device="cpu", dtype=torch.float32, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_repository(layout: str, hub: StandIn, tmp_path: Path, loader: Loader) -> None:
    """Downloaded once, one set of weights, pinned to a commit; then known, and loaded without the Hub."""
    files = files_below(make(layout, tmp_path / "made"))
    hub.repository("someone/Model", files)
    running = Running(open_model("someone/Model", "dog", loader=loader, cache_dir=tmp_path / "cache"))
    notes = [event.note for event in running]
    card = running.result
    assert MODELS["someone/Model"] is card
    assert card.source == Hub("someone/Model", hub.repositories["someone/Model"].head)
    assert (card.resolution, card.domain_word) == (32, "dog")
    assert notes[0] == "Asking the Hub"
    model = loader.get(card.id)
    assert tuple(model.features(torch.zeros(1, *model.x_shape), 5).h.shape[1:]) == card.h_shape
    taken = {request.path for request in hub.asked("/resolve/")}
    weights = {path for path in taken if path.endswith((".bin", ".safetensors"))}
    assert len(weights) == (2 if layout == "latent, VQ" else 1) or ("shards" in layout and len(weights) > 1)
    assert not any(path.endswith(("optimizer.bin", ".png")) for path in taken)
    if layout == "converted ADM":
        assert card.curves == PUBLISHED["AFHQ"]

    hub.requests.clear()
    again = Loader(device="cpu", dtype=torch.float32, cache_dir=tmp_path / "cache")
    assert again.get(card.id).fingerprint == model.fingerprint
    assert not hub.requests


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder(layout: str, tmp_path: Path, loader: Loader) -> None:
    folder = make(layout, tmp_path / "my models" / "cats")
    card = finish(open_model(str(folder), "", loader=loader))
    assert card.id.startswith("folder-cats-")
    assert "/" not in card.id
    assert card.domain_word == ("dog" if layout == "converted ADM" else "picture")
    assert loader.get(card.id).fingerprint == load_model(folder, device="cpu").fingerprint
    with pytest.raises(RequestError, match="no repository of the Hub"):
        finish(open_model(str(folder), folders=False, loader=loader))


def test_a_latent_model_is_what_diffusers_makes_of_its_parts(tmp_path: Path) -> None:
    folder = make("latent, VQ", tmp_path / "latent")
    codec, vq = read_autoencoder(folder), small_vq()
    assert isinstance(codec, VQ)
    assert codec.scale == 1.0  # and not 0.18215
    pixels = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        z = vq.encode(pixels).latents
        assert torch.allclose(codec.encode(pixels), z, atol=1e-5)
        assert torch.allclose(codec.decode(z), vq.decode(z, force_not_quantize=True).sample, atol=1e-5)

    # The derivative, against a difference quotient in float64 (but for the softmax, which diffusers has in float32).
    codec.network.double()
    z, dz = z[:1].double(), torch.randn(2, *z.shape[1:], dtype=torch.float64)
    quotient = (codec.decode(z + 1e-3 * dz) - codec.decode(z - 1e-3 * dz)) / 2e-3
    assert torch.allclose(codec.derivative(z)(dz), quotient, atol=1e-3)
    dz.requires_grad_()
    Y = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    (back,) = torch.autograd.grad(codec.derivative(z)(dz), dz, Y)
    assert torch.allclose((back * dz).sum(), (Y * codec.derivative(z)(dz)).sum(), rtol=1e-5)

    config = json.loads((folder / "vqvae" / "config.json").read_text()) | {"scaling_factor": 0.5}
    (folder / "vqvae" / "config.json").write_text(json.dumps(config))
    scaled = read_autoencoder(folder)
    assert scaled is not None
    assert torch.allclose(scaled.encode(pixels), vq.encode(pixels).latents / 2, atol=1e-5)


def test_the_shapes_are_those_that_a_pass_gives() -> None:
    unet = small_unet(channels=3, size=32)
    assert shapes(dict(unet.config)) == (3, 32, (32, 8, 8))


def test_one_of_several_files_is_needed() -> None:
    assert needed(["config.json", "scheduler_config.json", "diffusion_pytorch_model.bin", "README.md"]) == [
        "config.json",
        "diffusion_pytorch_model.bin",
        "scheduler_config.json",
    ]
    both = ["unet/config.json", *(f"unet/diffusion_pytorch_model{v}" for v in (".fp16.safetensors", ".bin"))]
    for index in ("safetensors.index.fp16.json", "fp16.safetensors.index.json"):
        half = ["config.json", *(f"diffusion_pytorch_model.{n}" for n in (index, "fp16-00001-of-00001.safetensors"))]
        assert sorted(needed([*half, "diffusion_pytorch_model.md"])) == sorted(half)
    assert needed(both) == ["unet/config.json", "unet/diffusion_pytorch_model.bin"]


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "name", ["", "nothing", "a/b/c", "../../etc", "/etc/passwd", "so me/one", "x" * 400, "a/b@../c", "a\n/b"]
)
def test_names_that_cannot_be_one(name: str, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError):
        finish(open_model(name, loader=loader))


@pytest.mark.parametrize("word", ["x" * 41, "face {0}", "<b>face</b>"])
def test_words_that_cannot_be_one(word: str, loader: Loader) -> None:
    with pytest.raises(RequestError, match="one or two words"):
        finish(open_model("avatars", word, loader=loader))


def save(folder: Path, unet: UNet2DModel, scheduler: DDPMScheduler | None = None) -> Path:
    DDPMPipeline(unet, scheduler or DDPMScheduler()).save_pretrained(folder)
    return folder


def test_networks_of_another_kind_are_refused_in_words(tmp_path: Path, loader: Loader) -> None:
    def words(folder: Path) -> str:
        before = dict(MODELS)
        with pytest.raises(VisitorError) as caught:
            finish(open_model(str(folder), loader=loader))
        assert before == MODELS
        return caught.value.message

    conditional = small_unet(channels=3, size=32)
    conditional.register_to_config(num_class_embeds=10)
    assert "of a class" in words(save(tmp_path / "classes", conditional))
    assert "4 channels" in words(save(tmp_path / "four", small_unet(channels=4, size=32)))
    unknown = small_unet(channels=3, size=32)
    unknown.register_to_config(sample_size=None)
    assert "sample_size" in words(save(tmp_path / "unknown", unknown))
    wide = small_unet(channels=3, size=(32, 64))
    assert "64x32 pixels; squares" in words(save(tmp_path / "wide", wide))
    endless = DDPMScheduler(rescale_betas_zero_snr=True)
    assert "cannot be inverted" in words(save(tmp_path / "endless", small_unet(channels=3, size=32), endless))

    for kind in ("ScoreSdeVeScheduler", "FlowMatchEulerDiscreteScheduler", "KarrasVeScheduler"):
        other = save(tmp_path / kind, small_unet(channels=3, size=32))
        (other / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": kind}))
        assert f"noise levels of a {kind} are not those of a DDPM" in words(other)
        with pytest.raises(RequestError, match="not those of a DDPM"):
            load_model(other, device="cpu")
    told = save(tmp_path / "told", small_unet(channels=3, size=32))
    config = json.loads((told / "unet" / "config.json").read_text())
    (told / "unet" / "config.json").write_text(json.dumps(config | {"time_embedding_type": "fourier"}))
    assert "in place of a timestep" in words(told)
    with pytest.raises(RequestError, match="in place of a timestep"):
        load_model(told, device="cpu")

    text = tmp_path / "text"
    save(text, small_unet(channels=3, size=32))
    config = json.loads((text / "unet" / "config.json").read_text())
    (text / "unet" / "config.json").write_text(json.dumps(config | {"_class_name": UNet2DConditionModel.__name__}))
    assert "makes pictures from text" in words(text)

    kl = save(tmp_path / "kl", small_unet(channels=3, size=32))
    AutoencoderKL(norm_num_groups=8, block_out_channels=(8,)).save_pretrained(kl / "vae")
    assert "AutoencoderKL" in words(kl)

    damaged = save(tmp_path / "damaged", small_unet(channels=3, size=32))
    weights = damaged / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "damaged" in words(damaged)
    (damaged / "unet" / "config.json").write_text("[1, 2]")
    assert "damaged" in words(damaged)
    (damaged / "scheduler" / "scheduler_config.json").unlink()
    assert "does not hold" in words(damaged)


class Evil:
    def __reduce__(self) -> tuple:
        return exec, ("import pathlib; pathlib.Path('executed').write_text('')",)


def test_nothing_in_a_file_is_executed(tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = save(tmp_path / "evil", small_unet(channels=3, size=32))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": Evil()}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="damaged"):
        finish(open_model(str(folder), loader=loader))
    assert not (tmp_path / "executed").exists()


# --------------------------------------------------------------------------------------------------------- the registry


def test_another_word_is_another_card(tmp_path: Path, loader: Loader) -> None:
    folder = make("subfolders", tmp_path / "model")
    first = finish(open_model(str(folder), "cat", loader=loader))
    assert finish(open_model(str(folder), "", loader=loader)) is first
    assert finish(open_model(str(folder), "cat", loader=loader)) is first
    second = finish(open_model(str(folder), "tiger", loader=loader))
    assert (second.id, second.domain_word, first.domain_word) == (f"{first.id} (tiger)", "tiger", "cat")
    assert finish(open_model(str(folder), "tiger", loader=loader)) is second


def test_there_is_an_end_to_it(tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make("subfolders", tmp_path / "model")
    monkeypatch.setattr(opening, "MAX_OPENED", 1)
    finish(open_model(str(folder), "cat", loader=loader))
    with pytest.raises(ResourceError, match="Too many"):
        finish(open_model(str(folder), "dog", loader=loader))


def test_large_models_and_full_disks(
    hub: StandIn, tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repository("someone/Model", files_below(make("subfolders", tmp_path / "made")))
    monkeypatch.setattr(opening, "MAX_DOWNLOAD", 1000)
    with pytest.raises(ResourceError, match="up to 0 GB"):
        finish(open_model("someone/Model", loader=loader, cache_dir=tmp_path / "cache"))
    monkeypatch.undo()
    point_client_at(hub.address, monkeypatch)
    monkeypatch.setattr(opening, "MARGIN", 2**60)
    with pytest.raises(ResourceError, match="no room"):
        finish(open_model("someone/Model", loader=loader, cache_dir=tmp_path / "cache"))
    assert not hub.asked("/resolve/")


def test_without_the_hub(hub: StandIn, tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was downloaded can be opened; of the rest it is said that the Hub does not answer."""
    hub.repository("someone/Model", files_below(make("flat, 2022", tmp_path / "made")))
    card = finish(open_model("someone/Model", loader=loader, cache_dir=tmp_path / "cache"))
    MODELS.pop(card.id)
    monkeypatch.setattr(opening, "hub_answers", lambda: False)
    assert finish(open_model("someone/Model", loader=loader, cache_dir=tmp_path / "cache")) == card
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        finish(open_model("someone/Else", loader=loader, cache_dir=tmp_path / "cache"))


def test_repositories_that_cannot_be_had(hub: StandIn, tmp_path: Path, loader: Loader) -> None:
    def words(name: str) -> str:
        with pytest.raises(ModelUnavailable) as caught:
            finish(open_model(name, loader=loader, cache_dir=tmp_path / "cache"))
        return caught.value.message

    assert "There is no someone/nothing" in words("someone/nothing")
    hub.repository("someone/texts", {"README.md": b"words"})
    assert "does not hold" in words("someone/texts")
    hub.repository("someone/gated", {"config.json": b"{}"}, gated=True)
    assert "gated" in words("someone/gated")
    assert "no revision “v2”" in words("someone/texts@v2")


def test_a_listed_model_is_pinned_to_the_commit_that_was_downloaded(
    hub: StandIn, tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch moves: what was downloaded stays what is loaded, its card and the notes say which commit it is."""
    monkeypatch.setenv("HSPACE_CACHE", str(tmp_path / "kept"))
    files = files_below(make("flat, 2022", tmp_path / "made"))
    first = hub.repository("google/stand-in", files).head
    listed = describe(tmp_path / "made", "listed", Hub("google/stand-in"), "cat")
    MODELS["listed"] = listed
    assert listed.source.revision == "main"
    model = loader.get("listed")
    assert MODELS["listed"].source == model.card.source == Hub("google/stand-in", first)
    assert recall("commit", model.fingerprint) == {"repo": "google/stand-in", "asked": "main", "commit": first}

    hub.repositories["google/stand-in"].commit({"config.json": b"{}"})
    hub.requests.clear()
    again = Loader(device="cpu", dtype=torch.float32, cache_dir=tmp_path / "cache")
    assert again.get("listed").fingerprint == model.fingerprint
    assert not hub.requests, "a commit that is here needs no network"
    del MODELS["listed"]  # the app is started again: its list says main, and so does the cache
    MODELS["listed"] = listed
    afresh = Loader(device="cpu", dtype=torch.float32, cache_dir=tmp_path / "cache")
    assert afresh.get("listed").card.source.revision == first

    pinned = replace(listed, id="pinned", source=Hub("google/stand-in", first))  # a list that names the commit itself
    MODELS["pinned"] = pinned
    elsewhere = Loader(device="cpu", dtype=torch.float32, cache_dir=tmp_path / "other cache")
    assert elsewhere.get("pinned").fingerprint == model.fingerprint
    assert MODELS["pinned"] is pinned


def test_pictures_of_faces_are_framed_as_data_sets_of_faces_are(tmp_path: Path) -> None:
    folder = make("subfolders", tmp_path / "made")
    assert describe(folder, "a", Hub("a/b"), "painted face").framing == CELEBA_HQ
    assert describe(folder, "a", Hub("a/b"), "surface").framing is None
    assert MODELS["ldm-celebahq-256"].framing == CELEBA_HQ
