"""Text-to-image models: a pipeline's folder read as diffusers reads it, the Hub's layout, words when there is none."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hub_stand_in import stand_in
from layouts import files_below
from model_folders import REVISION, cached, modules_made_meanwhile, names_of_2022
from safetensors.torch import load_file, save_file
from small_text_models import END, LENGTH, START, small_pipeline
from torch import Tensor

from core.errors import ModelUnavailable, RequestError
from core.inversion.alignment import align, scales
from core.models import folders, pipelines
from core.models.cards import Embedded, Hub
from core.models.pipelines import PipelineLoader, load, read_pipeline
from core.models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from core.text_to_image import TextToImage


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


# Stable Diffusion 2.1's tokenizer


@pytest.fixture(scope="module")
def padded_with_a_mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline in the layout of Stable Diffusion 2.1: half precision beside nothing else, a tokenizer in the files of
    2022 that pads with "!", whose id is 0. At the end of a word an exclamation mark is another token."""
    folder = tmp_path_factory.mktemp("sd21")
    pipeline = small_pipeline("v_prediction")
    known = pipeline.tokenizer.get_vocab()
    words = sorted(known, key=known.__getitem__)
    ids = {token: n for n, token in enumerate(["!", *words, "!</w>"])}
    pipeline.text_encoder.resize_token_embeddings(len(ids))
    pipeline.text_encoder.config.eos_token_id, pipeline.text_encoder.config.bos_token_id = ids[END], ids[START]
    with torch.no_grad():
        torch.nn.init.normal_(pipeline.text_encoder.get_input_embeddings().weight, std=0.5)
    pipeline.save_pretrained(folder, variant="fp16")
    place = folder / "tokenizer"
    merges = json.loads((place / "tokenizer.json").read_text())["model"]["merges"]
    for path in place.iterdir():
        path.unlink()
    (place / "vocab.json").write_text(json.dumps(ids))
    (place / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": "!"}
    (place / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True, **special}
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_an_exclamation_mark_is_no_padding(padded_with_a_mark: Path) -> None:
    """Embeddings are those of transformers, for prompts without the mark by its own tokenizer and pipeline, for others
    by its text encoder on the ids that the files name; and words keep their places."""
    pipeline = read_pipeline(padded_with_a_mark, "fp16")
    model = TextToImage.from_pipeline(pipeline, "small", "0" * 16)
    theirs = StableDiffusionPipeline.from_pretrained(padded_with_a_mark, variant="fp16")
    ids = json.loads((padded_with_a_mark / "tokenizer" / "vocab.json").read_text())
    assert (theirs.tokenizer.pad_token, theirs.tokenizer.pad_token_id) == ("!", 0)

    plain = theirs.encode_prompt("a red cat", "cpu", 1, False)[0]
    torch.testing.assert_close(model.embed(["a red cat"]), plain)

    def by_hand(*tokens: str) -> Tensor:
        row = [ids[token] for token in (START, *tokens, END)]
        row += [0] * (LENGTH - len(row))
        return theirs.text_encoder(torch.tensor([row]))[0]

    marked = model.embed(["a red cat!", "a red! cat"])
    expected = torch.cat(
        [by_hand("a</w>", "red</w>", "cat</w>", "!</w>"), by_hand("a</w>", "red</w>", "!</w>", "cat</w>")]
    )
    torch.testing.assert_close(marked, expected)
    swallowed = theirs.encode_prompt("a red cat!", "cpu", 1, False)[0]
    assert (marked[:1] - swallowed).abs().max() > 1e-3, "transformers alone reads the mark as padding"

    assert model.token_counts(["red", "!", "<|endoftext|>"])[:2] == [1, 1]
    mapping, _ = align(model, "a red cat!", "a red dog!", "swap")
    assert all(mapping[i, i] == 1 for i in range(LENGTH))
    assert scales(model, "a cat! dog", {"!": 3.0, "dog": 2.0}).tolist()[:6] == [1, 1, 1, 3, 2, 1]
    assert model.words_cut("! " * 14 + "cat dog") == "cat dog"


def test_a_text_to_image_repository_of_the_hub(
    padded_with_a_mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downloaded at its pinned commit, one precision, no safety checker; then loaded without asking the Hub."""
    files = files_below(padded_with_a_mark)
    extra = {"safety_checker/model.safetensors": b"0" * 50, "unet/diffusion_pytorch_model.safetensors": b"0" * 50}
    with stand_in(monkeypatch) as hub:
        commit = hub.repository("sd2/stand-in", files | extra).head
        hub.repositories["sd2/stand-in"].commit({"unet/config.json": b"{}"})  # what came later is of no interest
        card = small("", source=Hub("sd2/stand-in", commit), variant="fp16")
        model = load(card, "cpu", torch.float32, tmp_path / "cache")
        taken = {request.path for request in hub.asked("/resolve/")}
        assert not any(part in path for path in taken for part in ("safety_checker", "pytorch_model.safetensors"))
        assert all(commit in path for path in taken)
        hub.requests.clear()
        again = load(card, "cpu", torch.float32, tmp_path / "cache")
        assert not hub.requests
    assert again.fingerprint == model.fingerprint
    assert model.pipeline.tokenizer.pad_token_id == 0
