"""The networks that divide photographs: small ones of the real classes with random weights, in the Hub's form."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import ModelUnavailable, RequestError
from core.models.cards import MODELS
from core.photo import face_parsing, segment_anything, snapshots
from core.studio import measuring, regions
from core.studio.regions import at_place, knowledge, part_named, parts_of
from training.dataset import HELD_OUT, to_pixels
from training.portraits import render, sample

FACES = "ddpm-ema-celebahq-256"
SIDE = 64


@pytest.fixture(scope="module")
def parsing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SegFormer, its tensors under the names that the Hub's file has."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    folder = tmp_path_factory.mktemp("segformer")
    labels = dict(enumerate(face_parsing.LABELS))
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 2, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=labels,
        label2id={name: index for index, name in labels.items()},
    )
    torch.manual_seed(0)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    names = set(load_file(folder / "model.safetensors"))
    assert {
        "segformer.encoder.patch_embeddings.0.proj.weight",
        "segformer.encoder.block.1.1.attention.self.query.weight",
        "segformer.encoder.block.0.0.attention.self.sr.weight",
        "segformer.encoder.block.0.0.mlp.dense1.weight",
        "segformer.encoder.layer_norm.3.weight",
        "decode_head.linear_c.0.proj.weight",
    } <= names
    # As it was written in 2022, for an older version of the library.
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_normalize": True,
                "do_resize": True,
                "feature_extractor_type": "SegformerFeatureExtractor",
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
                "reduce_labels": False,
                "resample": 2,
                "size": 128,
            }
        )
    )
    return folder


@pytest.fixture(scope="module")
def anything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SAM."""
    from transformers import SamConfig, SamImageProcessor, SamModel

    folder = tmp_path_factory.mktemp("sam")
    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 16}
    vision |= {"image_size": SIDE, "patch_size": 16, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 8}
    prompts = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    torch.manual_seed(0)
    SamModel(
        SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    ).save_pretrained(folder)
    SamImageProcessor(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


@pytest.fixture
def fresh() -> object:
    """Nothing loaded, before and after."""
    for cache in (measuring._KEPT, regions._SEGMENTED, measuring._failed):
        cache.clear()
    yield
    for cache in (measuring._KEPT, regions._SEGMENTED, measuring._failed):
        cache.clear()


def picture(side: int = 48) -> Tensor:
    return to_pixels(np.asarray(render(sample(HELD_OUT), side))[None])


# -------------------------------------------------------------------------------------------------------- face parsing


def test_every_label_of_face_parsing_has_a_name() -> None:
    """The 18 of CelebAMask-HQ and the background, of which lips and sides are put together."""
    assert len(face_parsing.LABELS) == len(face_parsing.NAMES) == len(set(face_parsing.LABELS)) == 19
    names = dict(zip(face_parsing.LABELS, face_parsing.NAMES, strict=True))
    assert {names[f"{side}_eye"] for side in "lr"} == {"Eyes"}
    assert {names[label] for label in ("mouth", "u_lip", "l_lip")} == {"Mouth"}
    assert (names["eye_g"], names["ear_r"], names["neck_l"], names["cloth"]) == (
        "Glasses",
        "Earrings",
        "Necklace",
        "Clothes",
    )


def test_face_parsing_computes_what_the_library_does(parsing: Path) -> None:
    """Its labels are those of `from_pretrained` and the library's own post-processing; its masks are of these."""
    from transformers import SegformerForSemanticSegmentation, SegformerImageProcessor

    ours, pixels = face_parsing.read(parsing), picture()
    theirs = SegformerForSemanticSegmentation.from_pretrained(parsing).eval()
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.network.state_dict()[name]), name
    processor = SegformerImageProcessor.from_pretrained(parsing)
    image = render(sample(HELD_OUT), 48)
    with torch.no_grad():
        output = theirs(**processor(images=image, return_tensors="pt"))
    [expected] = processor.post_process_semantic_segmentation(output, target_sizes=[(48, 48)])
    np.testing.assert_array_equal(ours.label_map(pixels), expected.numpy())
    found = ours.found(pixels)
    assert found
    assert sum(mask.astype(int) for mask in found.values()).max() == 1, "each pixel is of one part"
    [(name, mask)] = list(found.items())[:1]
    y, x = (int(v[0]) for v in np.nonzero(mask))
    at = ours.at(pixels, ((x + 0.5) / 48, (y + 0.5) / 48))
    assert at is not None
    assert mask[y, x]
    assert at[1].sum() <= mask.sum()


def test_other_labels_are_not_guessed(parsing: Path, tmp_path: Path) -> None:
    for path in parsing.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"]["3"], config["id2label"]["4"] = "l_eye", "eye_g"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="labels of CelebAMask-HQ"):
        face_parsing.read(tmp_path)


# --------------------------------------------------------------------------------------------------- segment anything


def test_segment_anything_computes_what_the_library_does(anything: Path) -> None:
    """For a point the proposal with the highest score, for a box the one mask; the picture is embedded once."""
    from transformers import SamImageProcessor, SamModel, SamProcessor

    ours, pixels, image = segment_anything.read(anything), picture(), render(sample(HELD_OUT), 48)
    theirs = SamModel.from_pretrained(anything).eval()
    processor = SamProcessor(SamImageProcessor.from_pretrained(anything))
    embedding = ours.embedding(pixels)
    for place, asked in (
        ((0.25, 0.75), {"input_points": [[[12.0, 36.0]]]}),
        ((0.25, 0.5, 0.75, 1.0), {"input_boxes": [[[12.0, 24.0, 36.0, 48.0]]]}),
    ):
        inputs = processor(images=image, return_tensors="pt", **asked)
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        prompt = {name: inputs[name].float() for name in asked}
        with torch.no_grad():
            made = theirs(pixel_values=inputs["pixel_values"], multimask_output=len(place) == 2, **prompt)
        [masks] = processor.post_process_masks(made.pred_masks, *sizes)
        expected = masks[0, int(made.iou_scores[0, 0].argmax())].numpy()
        for known in (None, embedding):
            found = ours.at(pixels, place, known)  # type: ignore[arg-type]
            assert found is not None
            assert found[0] == "Object"
            np.testing.assert_array_equal(found[1], expected)
    assert ours.found(pixels) == {}


@pytest.mark.parametrize("module", [face_parsing, segment_anything])
def test_other_weights_are_refused(
    module: object, parsing: Path, anything: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = parsing if module is face_parsing else anything
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file(dict(list(load_file(source / "model.safetensors").items())[5:]), tmp_path / "model.safetensors")
    monkeypatch.setattr(snapshots, "folder_of", lambda wanted: tmp_path)
    with pytest.raises(ModelUnavailable, match="cannot be read.*Remove .* from the Hub's cache.*box or the brush"):
        module.load()  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------------ fetching


def test_weights_are_pinned_to_a_commit() -> None:
    for weights in (face_parsing.WEIGHTS, segment_anything.WEIGHTS):
        assert len(weights.revision) == 40
        assert int(weights.revision, 16)
        assert "model.safetensors" in weights.files


def test_without_a_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(*arguments: object, local_files_only: bool = False, **settings: object) -> str:
        if local_files_only:
            return str(tmp_path)  # a download was interrupted: the folder is there, and not all of its files
        raise OSError("not reached")

    monkeypatch.setattr(snapshots, "snapshot_download", absent)
    monkeypatch.setattr(snapshots, "hub_answers", lambda: False)
    for module in (face_parsing, segment_anything):
        with pytest.raises(ModelUnavailable, match=r"\d+ MB\) has to be downloaded once.*box or the brush"):
            module.load()
    monkeypatch.setattr(snapshots, "hub_answers", lambda: True)
    with pytest.raises(ModelUnavailable, match="could not be downloaded.*box or the brush"):
        face_parsing.load()


def test_a_snapshot_that_is_here_asks_nobody(monkeypatch: pytest.MonkeyPatch, parsing: Path) -> None:
    asked: list[dict[str, object]] = []

    def here(*arguments: object, **settings: object) -> str:
        asked.append(settings)
        return str(parsing)

    monkeypatch.setattr(snapshots, "snapshot_download", here)
    monkeypatch.setattr(snapshots, "hub_answers", lambda: pytest.fail("the Hub was asked"))
    assert face_parsing.load().network is not None
    [settings] = asked
    assert settings["local_files_only"]
    assert settings["revision"] == face_parsing.WEIGHTS.revision


# ------------------------------------------------------------------------------------------------------------- studio


def test_photographs_of_faces_have_parts_by_name(fresh: object, monkeypatch: pytest.MonkeyPatch, parsing: Path) -> None:
    monkeypatch.setattr(snapshots, "folder_of", lambda wanted: parsing)
    pixels = picture()
    assert [knowledge(name) for name in (FACES, "avatars", "avatars-t2i")] == ["faces", "own", "own"]
    assert [knowledge(name) for name in ("ddpm-ema-church-256", "stable-diffusion-1-5", "no such model")] == [
        "none"
    ] * 3
    found = parts_of(FACES, pixels)
    assert found
    name = next(iter(found))
    np.testing.assert_array_equal(part_named(FACES, pixels)(name.lower()), found[name])
    assert parts_of(FACES, pixels, by="own") == {}, "where places are meant as well, nothing is fetched"
    assert parts_of("ddpm-ema-church-256", pixels) == {}
    with pytest.raises(RequestError, match="none that is known"):
        part_named("ddpm-ema-church-256", pixels)("mouth")


def test_an_outline_is_found_in_any_photograph_and_the_picture_is_looked_at_once(
    fresh: object, monkeypatch: pytest.MonkeyPatch, anything: Path
) -> None:
    monkeypatch.setattr(snapshots, "folder_of", lambda wanted: anything)
    looked: list[int] = []
    embed = segment_anything.SegmentAnything.embedding
    monkeypatch.setattr(
        segment_anything.SegmentAnything, "embedding", lambda self, pixels: looked.append(1) or embed(self, pixels)
    )
    for place in ((0.2, 0.2), (0.7, 0.7), (0.1, 0.1, 0.6, 0.6)):
        name, mask = at_place("ddpm-ema-church-256", picture(), place)  # type: ignore[arg-type]
        assert (name, mask.shape, mask.dtype) == ("Object", (48, 48), bool)
    assert len(looked) == 1
    name, mask = at_place("avatars", picture(128), (0.515, 0.66))
    assert name == "Mouth", "a model's own network knows better"
    assert len(looked) == 1
    assert regions._SEGMENTED.nbytes > 0


def test_nothing_at_a_place_says_so(fresh: object, monkeypatch: pytest.MonkeyPatch, anything: Path) -> None:
    monkeypatch.setattr(snapshots, "folder_of", lambda wanted: anything)
    monkeypatch.setattr(segment_anything.SegmentAnything, "at", lambda *arguments: None)
    with pytest.raises(RequestError, match="Nothing was found there"):
        at_place(FACES, picture(), (0.5, 0.5))
    assert MODELS[FACES].parts is None
