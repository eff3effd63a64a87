"""The optional instruments for photographs: computed rightly where they are, words where they are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core import captioner
from core.errors import ModelUnavailable
from core.models import placing
from core.models.cards import MODELS
from core.photo import sface, weights, yunet
from core.photo.faces import Face
from core.photo.placement import Landmarks
from core.photo.readouts import ATTRIBUTES, read_out
from core.photo.sface import SFace
from core.studio import jobs, measuring, second_opinion
from core.studio.frames import Picture
from core.studio.keeping import Shown
from core.studio.second_opinion import opinion
from training.dataset import to_pixels
from training.portraits import render, sample

MARKS = Landmarks((140.0, 150.0), (180.0, 150.0), (160.0, 195.0))
POINTS = ((140.0, 150.0), (180.0, 150.0), (160.0, 172.0), (145.0, 195.0), (175.0, 195.0))
# Where ArcFace's training pictures (112, 112), and so SFace's, have these five points.
ARCFACE = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])


def detector(picture: np.ndarray) -> list[Face]:
    return [Face(MARKS, 0.9, POINTS)]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> SFace:
    """A file in SFace's form whose embedding is the mean colour of 8 x 8 parts, minus middle gray."""
    pytest.importorskip("cv2")
    from onnx import TensorProto, helper, numpy_helper, save_model

    gray = numpy_helper.from_array(np.array(127.5, np.float32), "gray")
    nodes = [
        helper.make_node("Sub", ["data", "gray"], ["centred"]),
        helper.make_node("AveragePool", ["centred"], ["parts"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["parts"], ["fc1"]),
    ]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])
    fc1 = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 192])
    graph = helper.make_graph(nodes, "sface", [data], [fc1], [gray])
    path = tmp_path_factory.mktemp("sface") / "sface.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return SFace(path)


def test_identity_is_the_cosine_of_what_the_network_gives(comparison: SFace) -> None:
    """Of two plain colours by hand, and of a picture with itself."""
    red, blue = (np.full((320, 320, 3), c, np.uint8) for c in ((227, 77, 27), (27, 77, 227)))
    a, b = (np.array(c) - 127.5 for c in ((227, 77, 27), (27, 77, 227)))
    expected = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert comparison.similarity(red, blue, detector) == pytest.approx(expected, abs=1e-3)
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    assert comparison.similarity(noise, noise, detector) == pytest.approx(1, abs=1e-5)


def test_what_lies_outside_the_aligned_face_does_not_count(comparison: SFace) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    other = noise.copy()
    other[260:] = 0
    assert comparison.similarity(noise, other, detector) == pytest.approx(1, abs=1e-5)
    other[160:180, 150:170] = 0
    assert comparison.similarity(noise, other, detector) < 0.99


def umeyama(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(2, 3): the similarity that takes points (N, 2) to their reference with least squared error (Umeyama 1991)."""
    a, b = points - points.mean(0), reference - reference.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    signs = np.array([1, np.sign(np.linalg.det(u @ vt))])
    turn = u * signs @ vt
    scale = (s * signs).sum() / (a**2).sum()
    return np.column_stack([scale * turn, reference.mean(0) - scale * turn @ points.mean(0)])


@pytest.mark.parametrize("seed", range(5))
def test_faces_are_aligned_by_all_five_points(comparison: SFace, seed: int) -> None:
    """As the closed form does, with points that no similarity takes exactly to their places."""
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(seed)
    before, after = (
        np.asarray(Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((320, 320)))
        for _ in range(2)
    )
    a = np.radians(rng.uniform(-40, 40))
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    points = (ARCFACE - 56) * rng.uniform(0.9, 2) @ turn.T + 160 + rng.normal(0, 4, (5, 2))
    left, right, nose, *corners = map(tuple, points.tolist())
    mouth = tuple(np.mean(corners, 0).tolist())

    def found(picture: np.ndarray) -> list[Face]:
        return [Face(Landmarks(left, right, mouth), 0.9, (left, right, nose, *corners))]

    first, second = (
        # The mean colour of 8 x 8 parts of the aligned picture, minus middle gray, as the file computes it.
        cv2.warpAffine(picture, umeyama(points, ARCFACE), (112, 112)).reshape(8, 14, 8, 14, 3).mean((1, 3)).ravel()
        - 127.5
        for picture in (before, after)
    )
    expected = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert comparison.similarity(before, after, found) == pytest.approx(expected, abs=1e-3)


def test_no_face_is_not_compared(comparison: SFace) -> None:
    with pytest.raises(ModelUnavailable, match="No face was found"):
        comparison.similarity(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8), lambda picture: [])
    one_point = [Face(Landmarks((9, 9), (9, 9), (9, 9)), 0.9, ((9, 9),) * 5)]
    with pytest.raises(ModelUnavailable, match="No face was found"):
        comparison.similarity(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8), lambda _: one_point)


def test_read_outs_follow_the_picture() -> None:
    """The embedded image-text model sees a smile come and glasses go."""
    plain = replace(sample(5), tilt=0.0, yaw=0.0, smile=-0.6, glasses=1.0, beard=0.0, mouth_open=0.0)
    edited = replace(plain, smile=1.0, glasses=0.0)
    before, after = (to_pixels(np.asarray(render(p, 128))[None]) for p in (plain, edited))
    read = {one.name: one for one in read_out(measuring.image_text(MODELS["avatars"]), before, after)}
    assert read.keys() == ATTRIBUTES.keys()
    assert read["Smiling"].after > read["Smiling"].before + 0.1
    assert read["Glasses"].after < read["Glasses"].before - 0.1
    assert all(0 <= value <= 1 for one in read.values() for value in (one.before, one.after))


def shown() -> Shown:
    pixels = to_pixels(np.asarray(render(sample(2), 128))[None])
    return Shown(Picture(pixels, "avatars"), pixels, pixels[0], "nothing")


def test_without_a_network_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_here", lambda wanted: None)
    monkeypatch.setattr(weights, "hub_answers", lambda: False)
    found = opinion(shown())
    assert (found.identity, found.read_outs) == (None, ()), "its own probe has said more, and better"
    monkeypatch.setitem(MODELS, "avatars", replace(MODELS["avatars"], instruments=None))
    found = opinion(shown())
    assert found.identity is None
    assert len(found.read_outs) == len(ATTRIBUTES)
    [words] = found.words
    assert "SFace, 37 MB) has to be downloaded once" in words


def test_all_instruments(monkeypatch: pytest.MonkeyPatch, comparison: SFace) -> None:
    monkeypatch.setattr(sface, "load", lambda: comparison)
    monkeypatch.setattr(yunet, "load", lambda: detector)
    found = opinion(shown())
    assert found.identity == pytest.approx(1, abs=1e-5)
    assert found.words == ()


def test_they_ask_for_no_gpu(monkeypatch: pytest.MonkeyPatch, comparison: SFace, blip: Path) -> None:
    """Where jobs run elsewhere, these stay: why, says `second_opinion`."""
    monkeypatch.setattr(sface, "load", lambda: comparison)
    monkeypatch.setattr(yunet, "load", lambda: detector)
    monkeypatch.setattr(captioner, "snapshot_download", lambda *a, **k: str(blip))
    jobs.run_elsewhere(lambda job, arguments: pytest.fail(f"{job.name} was sent away"))
    placing.keep_to("cpu")
    try:
        assert opinion(shown()).identity is not None
        measuring._KEPT.clear()
        describing = second_opinion.captioner()
        assert describing.network.device.type == "cpu"
        assert isinstance(describing(Image.new("RGB", (64, 64), (200, 90, 60))), str)
    finally:
        jobs.run_elsewhere(None)
        placing.keep_to(None)
        measuring._KEPT.clear()


# ------------------------------------------------------------------------------------------------------------ captions


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BLIP with random weights, as `save_pretrained` writes one."""
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "face", "with", "glasses", "smiling"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    text = {"vocab_size": len(words), "hidden_size": 16, "encoder_hidden_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "intermediate_size": 32, "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3}
    text |= {"pad_token_id": 0, "projection_dim": 16}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vision |= {"image_size": 32, "patch_size": 16, "projection_dim": 16}
    torch.manual_seed(0)
    network = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=16))
    network.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def test_the_captioner_reads_blip(blip: Path) -> None:
    """Its network is the one that `from_pretrained` makes, and a picture becomes words."""
    from transformers import BlipForConditionalGeneration

    made = captioner.read(blip)
    theirs = BlipForConditionalGeneration.from_pretrained(blip).eval()
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, made.network.state_dict()[name]), name
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert isinstance(made(picture), str)
    inputs = made.processor(images=picture, return_tensors="pt")
    expected = theirs.generate(**inputs, max_new_tokens=captioner.MAX_TOKENS)
    assert made(picture) == " ".join(made.processor.decode(expected[0], skip_special_tokens=True).split())


def test_other_weights_are_no_blip(blip: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(blip, tmp_path / "blip")
    kept = dict(list(load_file(folder / "model.safetensors").items())[5:])
    save_file(kept, folder / "model.safetensors")
    with pytest.raises(ValueError, match="not BLIP"):
        captioner.read(folder)


def test_no_captioner_says_what_to_do(monkeypatch: pytest.MonkeyPatch, blip: Path) -> None:
    def absent(*arguments: object, **settings: object) -> str:
        raise OSError("not in the cache")

    monkeypatch.setattr(captioner, "snapshot_download", absent)
    monkeypatch.setattr(captioner, "hub_answers", lambda: False)
    with pytest.raises(ModelUnavailable, match="BLIP, 990 MB.*own words"):
        captioner.load()
    monkeypatch.setattr(captioner, "hub_answers", lambda: True)
    with pytest.raises(ModelUnavailable, match="could not be loaded"):
        captioner.load()
    monkeypatch.setattr(captioner, "snapshot_download", lambda *a, **k: str(blip))
    assert captioner.load().network is not None
