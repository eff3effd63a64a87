"""The measures of edits and their statistics, each against a plain reference in float64."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from held_out import people, pixels
from scipy.stats import spearmanr
from small_models import small_card
from torch import Tensor

from core.discovery import locality
from core.errors import ModelUnavailable, RequestError
from core.evaluation import gauges as gauging
from core.evaluation.gauges import Embedding, Gauges, gauges_of
from core.evaluation.measures import MEASURES, lacking, largest_other, measure, require_known
from core.evaluation.statistics import FeatureSums, Moments, frechet_distance, rank_correlation
from core.evaluation.subject import SEEN_IN, Subject, purpose_of, with_zero
from core.models.cards import MODELS
from core.studio import library

STRENGTHS = (-1.0, 0.0, 1.0, 2.0)
R = 128


# --------------------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("sizes", [[10], [1, 1, 8], [3, 7], [5, 0, 5]])
def test_moments_are_those_of_all_rows_at_once(sizes: list[int]) -> None:
    rows = np.random.default_rng(0).normal(1e3, 2, (10, 4, 3))
    rows[2, 1, 0] = np.nan
    rows[3:, 2, 2], rows[:, 3, 1] = np.inf, np.nan
    moments, first = Moments((4, 3)), 0
    for size in sizes:
        moments.add(rows[first : first + size])
        first += size
    known = np.where(np.isfinite(rows), rows, np.nan)
    with warnings.catch_warnings(action="ignore"):  # of the place that has no value at all
        mean = np.nanmean(known, 0)
        error = np.nanstd(known, 0, ddof=1) / np.sqrt(np.isfinite(rows).sum(0))
    np.testing.assert_allclose(moments.means, mean, rtol=1e-13)
    np.testing.assert_allclose(moments.errors, error, rtol=1e-9)
    assert np.isnan(moments.means[3, 1])
    assert np.isnan(moments.errors[3, 1])


def test_moments_of_one_row_have_no_error() -> None:
    moments = Moments()
    assert np.isnan(moments.means)
    moments.add(np.array([2.0]))
    assert moments.means == 2
    assert np.isnan(moments.errors)


def sums(features: np.ndarray, size: int) -> FeatureSums:
    made = FeatureSums()
    for first in range(0, len(features), size):
        made.add(features[first : first + size].astype(np.float32))
    return made


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("offset", [0.0, 300.0], ids=["centred", "far from 0"])
def test_the_frechet_distance_of_running_sums_is_that_of_a_matrix_root(size: int, offset: float) -> None:
    """Heusel et al. 2017, Eq. 6, with scipy's root of the matrix of all features at once in float64."""
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(9, 9))
    a = (rng.normal(size=(64, 9)) @ mixing + offset).astype(np.float32).astype(np.float64)
    b = (rng.normal(size=(50, 9)) @ mixing * 1.4 + offset + 0.3).astype(np.float32).astype(np.float64)
    S_a, S_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(S_a @ S_b).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(S_a + S_b - 2 * root)
    made = sums(a, size), sums(b, size)
    np.testing.assert_allclose(made[0].mean, a.mean(0), rtol=1e-12)
    np.testing.assert_allclose(made[0].covariance, S_a, rtol=1e-9, atol=1e-9)
    assert frechet_distance(*made) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(made[0], made[0]) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_of_fewer_pictures_than_features() -> None:
    """Both covariances are singular: S_a = u u^T and S_b = v v^T have tr (S_a S_b)^(1/2) = |u . v|."""
    u, v = np.array([1.0, 2, 0, 0]), np.array([0.5, 0, 3, 0])
    a, b = (FeatureSums() for _ in range(2))
    a.add(np.stack([u, -u]) / np.sqrt(2)), b.add(np.stack([v, -v]) / np.sqrt(2) + 1)
    assert frechet_distance(a, b) == pytest.approx(4 + u @ u + v @ v - 2 * abs(u @ v), rel=1e-9)
    assert np.isnan(frechet_distance(a, FeatureSums()))


def test_rank_correlation_is_scipys() -> None:
    values = np.random.default_rng(2).normal(size=(6, 4))
    values[1, 2] = values[1, 0]  # a tie
    values[2] = 0.5  # no change at all
    values[3, 1] = np.nan
    values[4] = [1, 2, 3, 4]
    found = rank_correlation(STRENGTHS, values)
    for row in (0, 1, 4, 5):
        assert found[row] == pytest.approx(spearmanr(STRENGTHS, values[row]).statistic, abs=1e-12)
    assert np.isnan(found[2:4]).all()
    assert found[4] == 1


# ----------------------------------------------------------------------------------------------------------- measures


@pytest.fixture(scope="module")
def gauges() -> Gauges:
    return gauges_of(MODELS["avatars"])


def smiling(**changes: object) -> Subject:
    preset = replace(library.named_preset("avatars", "smiling"), thumbnail=None)
    return replace(Subject(preset, STRENGTHS, "smile", 1, part="Mouth"), **changes)


@pytest.fixture(scope="module")
def edited() -> tuple[Tensor, Tensor]:
    """Three portraits, and something at each strength that is 0 at no strength: (3, 3, R, R), (3, 4, 3, R, R)."""
    originals = pixels(people(3))
    noise = torch.randn(3, 1, 3, R, R, generator=torch.Generator().manual_seed(0))
    others = originals.roll(1, 0)[:, None] - originals[:, None]
    c = torch.tensor(STRENGTHS)[None, :, None, None, None]
    return originals, (originals[:, None] + 0.02 + c * (0.2 * others + 0.03 * noise)).clamp(-1, 1)


def test_every_measure_against_a_plain_reference(gauges: Gauges, edited: tuple[Tensor, Tensor]) -> None:
    """Picture by picture, in float64, by the formulas of the papers."""
    originals, rows = edited
    subject = smiling()
    table, said = measure(gauges, subject, originals, rows)
    assert said == []
    assert set(MEASURES) <= table.keys()
    assert gauges.probe is not None
    assert gauges.parts is not None
    assert gauges.image_text is not None
    texts = [gauges.image_text.embed_texts([t.format(text) for t in gauges.templates]).double().mean(0)
             for text in ("face", "smiling face")]  # fmt: skip
    dT = texts[1] / texts[1].norm() - texts[0] / texts[0].norm()
    for n in range(3):
        for k in range(4):
            before, after = rows[n, 1][None], rows[n, k][None]
            change = (after - before).double().numpy()[0]
            cell = {key: table[key][n, k] for key in MEASURES}
            assert cell["mse"] == pytest.approx(np.square(change).mean(), rel=1e-5, abs=1e-12)
            off = (after - originals[n][None]).double().numpy()
            assert cell["reconstruction"] == pytest.approx(10 * np.log10(4 / np.square(off).mean()), rel=1e-5)

            labels = [gauges.parts.label_map(picture) for picture in (before, after)]
            assert cell["parts_kept"] == pytest.approx((labels[0] == labels[1]).mean())
            ious = [
                ((labels[0] == part) & (labels[1] == part)).sum() / ((labels[0] == part) | (labels[1] == part)).sum()
                for part in np.union1d(*labels)
            ]
            assert cell["parts_iou"] == pytest.approx(np.mean(ious))
            mouth = gauges.parts.names.index("Mouth")
            M = (labels[0] == mouth) | (labels[1] == mouth)
            assert cell["mse_inside"] == pytest.approx(np.square(change[:, M]).mean(), rel=1e-5, abs=1e-12)
            assert cell["mse_outside"] == pytest.approx(np.square(change[:, ~M]).mean(), rel=1e-5, abs=1e-12)

            values = [gauges.probe.attributes(picture)["smile"].item() for picture in (before, after)]
            own = (values[1] - values[0]) / gauges.probe.known["smile"].spread
            assert cell["own"] == pytest.approx(own, abs=1e-4)
            assert cell["identity"] == pytest.approx(
                (gauges.probe.identity(before) * gauges.probe.identity(after)).sum().item(), abs=1e-5
            )
            assert cell["distance"] == pytest.approx(gauges.probe.distance(before, after).item(), abs=1e-5)
            dI = (gauges.image_text.embed_images(after) - gauges.image_text.embed_images(before)).double()[0]
            assert cell["clip"] == pytest.approx((dI @ dT / dT.norm()).item(), abs=1e-6)
            if k == 1:
                assert [cell["own"], cell["mse"], cell["parts_kept"], cell["parts_iou"]] == [0, 0, 1, 1]
                assert np.isnan([cell["s_dir"], cell["roir"]]).all(), "nothing has changed: both are 0 / 0"
                continue
            assert cell["s_dir"] == pytest.approx((dI @ dT / dI.norm() / dT.norm()).item(), abs=1e-3)
            outside, inside = (np.linalg.norm(change[:, m]) for m in (~M, M))
            assert cell["roir"] == pytest.approx(outside / inside, rel=1e-4)
            assert cell["psnr_outside"] == pytest.approx(10 * np.log10(4 / np.square(change[:, ~M]).mean()), rel=1e-4)
        assert table["rank_correlation"][n] == pytest.approx(spearmanr(STRENGTHS, table["own"][n]).statistic)
    features = gauges.probe.features(rows[2]).numpy()
    np.testing.assert_allclose(table["features"][2], features, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(table["original_features"], gauges.probe.features(originals).numpy(), 1e-3, 1e-4)


def test_pictures_that_lack_what_a_direction_is_for(gauges: Gauges) -> None:
    """Smiles below the population's mean, or above it for the opposite; all of them if it is not asked for."""
    assert gauges.probe is not None
    faces = pixels(people(6))
    below = (gauges.probe.attributes(faces)["smile"] < gauges.probe.known["smile"].mean).tolist()
    assert 0 < sum(below) < 6
    for sign in (1, -1):
        rows = lacking(gauges, smiling(sign=sign, lacking=True), faces).tolist()
        assert rows == [n for n in range(6) if below[n] == (sign == 1)]
    assert lacking(gauges, smiling(), faces).tolist() == list(range(6))
    assert lacking(gauges, smiling(attribute="", lacking=True), faces).tolist() == list(range(6))


def test_what_goes_down_counts_the_other_way(gauges: Gauges, edited: tuple[Tensor, Tensor]) -> None:
    up, _ = measure(gauges, smiling(), *edited)
    down, _ = measure(gauges, smiling(sign=-1), *edited)
    np.testing.assert_array_equal(down["own"], -up["own"])
    np.testing.assert_allclose(down["rank_correlation"], -up["rank_correlation"], atol=1e-12)


def test_a_part_counts_where_it_comes_too() -> None:
    """Glasses that were not there: the mask is where they are now."""
    from core.evaluation.measures import _masks
    from core.parts import Parts

    class Known:
        names = ("Background", "Glasses")

    labels = np.zeros((1, 2, 4, 4), int)
    labels[0, 1, 1, 1:3] = 1
    subject = smiling(strengths=(0.0, 1.0), part="Glasses")
    parts: Parts = Known()  # type: ignore[assignment]
    masks = _masks(subject, labels, parts, 1, 2, 8)
    assert masks is not None
    assert not masks[0].any()
    expected = np.zeros((8, 8), bool)
    expected[2:4, 2:6] = True
    np.testing.assert_array_equal(masks[1], expected)


def test_a_presets_region_is_where_it_should_act(edited: tuple[Tensor, Tensor]) -> None:
    region = [{"label": "mouth", "boxes": [[0.25, 0.5, 0.75, 1.0]]}]
    subject = smiling(preset=replace(smiling().preset, region=region), part="")
    table, _ = measure(Gauges(), subject, *edited)
    M = np.zeros((R, R), bool)
    M[64:, 32:96] = True
    change = (edited[1][1, 3] - edited[1][1, 1]).double().numpy()
    assert table["mse_inside"][1, 3] == pytest.approx(np.square(change[:, M]).mean(), rel=1e-5)
    assert table["roir"][1, 3] == pytest.approx(np.linalg.norm(change[:, ~M]) / np.linalg.norm(change[:, M]), rel=1e-5)
    assert "own" not in table, "there is neither probe nor CLIP"


def test_what_cannot_be_measured_is_left_out(edited: tuple[Tensor, Tensor], gauges: Gauges) -> None:
    bare = replace(smiling().preset, source_text="", target_text="")
    table, _ = measure(gauges, smiling(preset=bare, attribute="", part=""), *edited)
    assert not {"own", "clip", "s_dir", "roir", "rank_correlation"} & table.keys()
    assert {"identity", "distance", "mse", "parts_kept", "attributes"} <= table.keys()
    same = replace(smiling().preset, source_text="face", target_text="face")
    table, _ = measure(gauges, smiling(preset=same, attribute=""), *edited)
    assert not {"own", "clip", "s_dir"} & table.keys()

    def broken(a: Tensor, b: Tensor) -> Tensor:
        raise ModelUnavailable("It is broken.")

    table, said = measure(replace(gauges, identity=broken), smiling(), *edited)
    assert said == ["identity is not measured. It is broken."]
    assert "identity" not in table
    assert "own" in table


def test_masks_of_each_picture() -> None:
    generator = np.random.default_rng(3)
    before, after = (torch.from_numpy(generator.normal(size=(3, 3, 8, 8))).float() for _ in range(2))
    masks = generator.random((3, 8, 8)) < 0.3
    masks[2] = False
    ratios = locality.roir(before, after, masks)
    inside, outside = locality.mean_squares(before, after, masks)
    for n in range(3):
        assert ratios[n] == pytest.approx(locality.roir(before[n : n + 1], after[n : n + 1], masks[n]).item())
        one = locality.mean_squares(before[n : n + 1], after[n : n + 1], masks[n])
        assert (inside[n].item(), outside[n].item()) == pytest.approx((one[0].item(), one[1].item()))
    assert ratios[2] == torch.inf


# ------------------------------------------------------------------------------------------------------ what it is for


def test_what_the_shipped_directions_are_for(gauges: Gauges) -> None:
    assert gauges.probe is not None
    shipped = library.shipped("avatars").values()
    purposes = {preset.name: purpose_of(preset, gauges.probe.known, gauges.parts) for preset in shipped}
    assert purposes["Smiling"] == ("smile", 1, "Mouth")
    assert purposes["Closed eyes"] == ("eye_open", -1, "Eyes")
    assert purposes["Glasses"] == ("glasses", 1, "Glasses")
    assert all(attribute for attribute, _, _ in purposes.values())
    assert gauges.parts is not None
    assert set(SEEN_IN) == set(gauges.probe.known)
    assert set(SEEN_IN.values()) <= set(gauges.parts.names)


def test_what_a_direction_is_for_by_its_text_and_by_nothing(gauges: Gauges) -> None:
    assert gauges.probe is not None
    preset = replace(smiling().preset, measured={}, target_text="young face")
    assert purpose_of(preset, gauges.probe.known, gauges.parts) == ("age", -1, "Skin")
    assert purpose_of(replace(preset, target_text="green face"), gauges.probe.known, gauges.parts) == ("", 1, "")
    assert purpose_of(preset, {}, None) == ("", 1, "")
    region = [{"label": "a", "box": [0, 0, 0.5, 0.5]}]
    assert purpose_of(replace(preset, region=region), gauges.probe.known, gauges.parts) == ("age", -1, "")
    assert with_zero([1, -1, 1]) == (-1.0, 0.0, 1.0)


def test_the_largest_other_change() -> None:
    change = {"smile": 3.0, "age": -0.5, "beard": 0.4, "blush": -1.0}
    assert largest_other(change, "smile") == ("blush", 1.0)
    assert largest_other(change, "smile", ("blush",)) == ("age", 0.5)
    assert largest_other(change, "") == ("smile", 3.0)


@pytest.mark.parametrize(
    ("changes", "words"), [({"attribute": "smlie"}, "attribute “smlie”"), ({"part": "Tail"}, "“Tail”")]
)
def test_unknown_attributes_and_parts_are_refused(gauges: Gauges, changes: dict[str, str], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        require_known(gauges, smiling(**changes))


# ------------------------------------------------------------------------------------------------------------- gauges


def test_what_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModelUnavailable("It is not here.")

    monkeypatch.setattr(gauging.measuring, "image_text", missing)
    monkeypatch.setattr(gauging.measuring, "distance", missing)
    monkeypatch.setattr(gauging.measuring, "probe", lambda card: None)
    monkeypatch.setattr(gauging, "inception", missing)
    found = gauges_of(small_card())
    assert found.image_text is found.distance is found.probe is found.parts is found.identity is found.features is None
    assert found.missing == (
        "Nothing is measured by CLIP. It is not here.",
        "No perceptual distance is measured. It is not here.",
        gauging.NO_PARTS,
        gauging.NO_FACES,
        "It is not here.",
    )


def test_inception_needs_packages_that_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchmetrics", None)
    with pytest.raises(ModelUnavailable, match=r"pip install torchmetrics\[image\]"):
        gauging.inception()


def test_an_embedding_from_a_file(tmp_path: Path) -> None:
    """A network that averages the channels over the picture: its cosine is computed by hand."""
    path = save_embedding(tmp_path / "mean.onnx")
    embedding = Embedding.load(path)
    before, after = pixels(people(2)), pixels(people(2)).flip(0)
    found = embedding(before, after)
    assert found.shape == (2,)
    top, bottom, left, right = (round(edge / 2) for edge in gauging.CROP)
    a, b = (x[:, :, top:bottom, left:right].double().mean((2, 3)) for x in (before, after))
    expected = (a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1)
    torch.testing.assert_close(found.double(), expected, atol=2e-3, rtol=0)
    assert gauges_of(MODELS["avatars"], embedding=path).identity is not None
    with pytest.raises(ModelUnavailable, match="no file"):
        Embedding.load(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        Embedding.load(tmp_path / "text.onnx")


def save_embedding(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper

    shapes = {"x": [1, 3, 112, 112], "y": [1, 3, 1, 1]}
    ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    graph = helper.make_graph([helper.make_node("GlobalAveragePool", ["x"], ["y"])], "mean", [ends["x"]], [ends["y"]])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_identity_of_faces_that_are_not_found_has_no_number() -> None:
    class Network:
        def similarity(self, before: np.ndarray, after: np.ndarray, detector: object) -> float:
            if before.max() == 0:
                raise ModelUnavailable("no face")
            return 0.5

    compare = gauging._BySFace(Network(), lambda picture: [])  # type: ignore[arg-type]
    before = torch.stack([torch.ones(3, 64, 64), -torch.ones(3, 64, 64)])
    found = compare(before, before)
    assert found[0] == 0.5
    assert torch.isnan(found[1])
