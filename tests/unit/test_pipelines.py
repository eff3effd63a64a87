"""Text-to-image models: a pipeline's folder read as diffusers reads it, the Hub's layout, words when there is none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from model_folders import REVISION, cached, modules_made_meanwhile, names_of_2022
from safetensors.torch import load_file, save_file
from small_text_models import small_pipeline

from core.errors import ModelUnavailable, RequestError
from core.models import folders, pipelines
from core.models.cards import Embedded, Hub
from core.models.pipelines import PipelineLoader, load, read_pipeline
from core.models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline")
    small_pipeline("v_prediction").save_pretrained(path)
    return path


def small(folder: Path | str, **changes: object) -> TextToImageCard:
    return replace(TEXT_TO_IMAGE["avatars-t2i"], **{"id": "small", "source": Embedded(str(folder)), **changes})


def assert_equal_weights(one: StableDiffusionPipeline, other: StableDiffusionPipeline) -> None:
    for part in ("vae", "unet", "text_encoder"):
        a, b = (getattr(pipeline, part).state_dict() for pipeline in (one, other))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_folder_is_read_as_diffusers_reads_it(folder: Path) -> None:
    ours, theirs = read_pipeline(folder), StableDiffusionPipeline.from_pretrained(folder)
    assert_equal_weights(ours, theirs)
    assert not any(value.is_meta for part in (ours.unet, ours.vae, ours.text_encoder) for value in part.buffers())
    made = [
        pipeline(
            "a red cat", num_inference_steps=2, output_type="pt", generator=torch.Generator().manual_seed(0)
        ).images
        for pipeline in (ours, theirs)
    ]
    torch.testing.assert_close(*made)
    assert ours.scheduler.config.prediction_type == "v_prediction"


def test_files_of_2022_under_their_old_names(folder: Path, tmp_path: Path) -> None:
    """As in the repositories of Stable Diffusion: a variant, a deeper text encoder with positions, old attention."""
    pipeline = small_pipeline("v_prediction")
    pipeline.save_pretrained(tmp_path, variant="fp16")
    text, vae = tmp_path / "text_encoder" / "model.fp16.safetensors", tmp_path / "vae"
    state = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(text).items()}
    save_file(state | {"text_model.embeddings.position_ids": torch.arange(16)[None]}, text)
    weights = vae / "diffusion_pytorch_model.fp16.safetensors"
    save_file(names_of_2022(load_file(weights)), weights)
    assert_equal_weights(read_pipeline(tmp_path, "fp16"), read_pipeline(folder))


def test_a_loaded_model_is_frozen_and_in_the_precision_asked_for(folder: Path) -> None:
    model, full = (load(small(folder), "cpu", dtype) for dtype in (torch.bfloat16, torch.float32))
    for network in (model.pipeline.vae, model.pipeline.unet, model.pipeline.text_encoder):
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
    assert model.nbytes * 2 == full.nbytes
    assert len(full.fingerprint) == 16


def test_loading_leaves_other_threads_alone(folder: Path) -> None:
    with modules_made_meanwhile():
        for _ in range(3):
            load(small(folder), "cpu")


def test_models_are_kept_by_id(folder: Path) -> None:
    loader = PipelineLoader({"small": small(folder)}, device="cpu")
    assert loader.get("small") is loader.get("small")
    with pytest.raises(RequestError, match="small"):
        loader.get("nonesuch")


@pytest.mark.parametrize("damage", ["nothing there", "half a file", "another network"])
def test_damage_in_plain_words(folder: Path, tmp_path: Path, damage: str) -> None:
    if damage != "nothing there":
        small_pipeline().save_pretrained(tmp_path)
        weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
        if damage == "half a file":
            weights.write_bytes(weights.read_bytes()[:1000])
        else:
            save_file({"conv_in.weight": torch.zeros(1)}, weights)
    with pytest.raises(ModelUnavailable, match="missing or damaged"):
        load(small(tmp_path))


# The Hub


def test_a_cached_revision_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "hub_answers", lambda: pytest.fail("asked the Hub"))
    small_pipeline().save_pretrained(cached(tmp_path, "someone/pipeline"))
    model = load(small("", source=Hub("someone/pipeline", REVISION)), "cpu", torch.float32, tmp_path)
    assert_equal_weights(model.pipeline, small_pipeline())


def test_a_repository_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, local_files_only: bool, **__: object) -> str:
        if local_files_only:
            raise OSError("not in the cache")
        return str(tmp_path)

    monkeypatch.setattr(folders, "hub_answers", lambda: True)
    monkeypatch.setattr(pipelines, "snapshot_download", download)
    with pytest.raises(ModelUnavailable, match="does not hold a model of the kind"):
        load(small("", source=Hub("someone/else", REVISION)))


def test_the_registry() -> None:
    for model_id, card in TEXT_TO_IMAGE.items():
        assert card.id == model_id
        if isinstance(card.source, Hub):
            assert len(card.source.revision) == 40  # such a revision in the cache needs no request
            assert card.variant == "fp16"
    assert isinstance(next(iter(TEXT_TO_IMAGE.values())).source, Embedded)
