"""Editing an inverted picture: word correspondences, strengths, regions, batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_text_models import LENGTH, small_text_model, toy_text_model
from torch import Tensor

from core.errors import RequestError
from core.inversion.alignment import absence, align, scales, suited
from core.inversion.editing import PromptEditSettings, Target, attention_control, edit, reconstruct
from core.inversion.inversion import Inversion
from core.inversion.methods import METHODS, invert
from core.inversion.solution import InversionSettings
from core.progress import Running, finish
from core.regions import Region
from core.text_to_image import TextToImage

PROMPT, TARGET = "a photo of a cat", "a photo of a dog"
QUICK = InversionSettings(steps=6, iterations=2, late=1.0, starts=2, solver_iterations=3, guidance=3.0)
FREE = PromptEditSettings(attention="none")
KINDS = ("none", "swap", "refine")


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return small_text_model()


@pytest.fixture(scope="module")
def toy() -> TextToImage:
    return toy_text_model()


def picture(seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def inversions(toy: TextToImage) -> dict[str, Inversion]:
    return {method: finish(invert(toy, picture(), PROMPT, method, QUICK)) for method in METHODS}


@pytest.fixture(scope="module")
def inversion(model: TextToImage) -> Inversion:
    return finish(invert(model, picture(), PROMPT, "anchored", QUICK))


# --------------------------------------------------------------------------------------------------------- alignment


def correspondences(model: TextToImage, source: str, target: str, kind: str) -> dict[int, dict[int, float]]:
    """Target token -> source tokens with their weights, where the source has a say."""
    mapping, share = align(model, source, target, kind)
    assert set(share.tolist()) <= {0.0, 1.0}
    rows = {j: {i: round(w, 3) for i, w in enumerate(mapping[:, j].tolist()) if w} for j in range(LENGTH)}
    assert all(bool(rows[j]) == bool(share[j]) for j in rows)
    return {j: row for j, row in rows.items() if row}


def test_the_same_prompt_corresponds_to_itself(model: TextToImage) -> None:
    for kind in ("swap", "refine"):
        mapping, share = align(model, "a red cat", "a red cat", kind)
        assert torch.equal(mapping, torch.eye(LENGTH))
        assert torch.equal(share, torch.ones(LENGTH))


def test_swapped_words(model: TextToImage) -> None:
    """Positions: 0 the beginning, then words, then the end and padding."""
    found = correspondences(model, "a cat, it's sitting", "a Dog it's sitting", "swap")
    assert (found[2], found[3], found[5]) == ({2: 1.0, 3: 1.0}, {4: 1.0}, {6: 1.0})
    refined = correspondences(model, "a cat sitting", "a dog sitting", "refine")
    assert 2 not in refined
    assert refined[3] == {3: 1.0}


def test_swapped_words_of_different_length(model: TextToImage) -> None:
    """ "zoo" has three tokens here; the end and the padding move along."""
    found = correspondences(model, "a cat sitting", "a zoo sitting", "swap")
    assert [found[j] for j in (2, 3, 4, 5, 6)] == [{2: 0.333}] * 3 + [{3: 1.0}, {4: 1.0}]
    found = correspondences(model, "a zoo sitting", "a cat sitting", "swap")
    assert found[2] == {2: 1.0, 3: 1.0, 4: 1.0}
    assert (found[3], found[4], found[LENGTH - 1]) == ({5: 1.0}, {6: 1.0}, {LENGTH - 1: 1.0})


def test_added_and_removed_words(model: TextToImage) -> None:
    for kind in ("swap", "refine"):
        found = correspondences(model, "a cat", "a red cat sitting", kind)
        assert set(range(LENGTH)) - set(found) == {2, 4}
        assert (found[3], found[5]) == ({2: 1.0}, {3: 1.0})
        found = correspondences(model, "a red cat", "a cat", kind)
        assert (found[2], found[3]) == ({3: 1.0}, {4: 1.0})


def test_prompts_that_are_cut_or_empty_still_align(model: TextToImage) -> None:
    for source, target in ((" ".join(["zebra"] * 9), "a cat"), ("a cat", " ".join(["zebra"] * 9)), ("", "a cat")):
        for kind in ("swap", "refine"):
            mapping, share = align(model, source, target, kind)
            assert share[0] == share[LENGTH - 1] == 1
            assert mapping.isfinite().all()


def test_scales(model: TextToImage) -> None:
    scale = scales(model, "a zoo cat, a Cat", {"zoo": 0.5, "cat": 2.0})
    assert scale.tolist() == [1, 1, 0.5, 0.5, 0.5, 2, 1, 1, 2] + [1] * (LENGTH - 9)
    with pytest.raises(RequestError, match="“horse” is not a word of “a cat”"):
        scales(model, "a cat", {"horse": 2.0})
    with pytest.raises(RequestError, match="between -5 and 5"):
        scales(model, "a cat", {"cat": 50.0})


# ------------------------------------------------------------------------------------------------- strength and rows


@pytest.mark.parametrize("method", METHODS)
def test_at_strength_zero_an_edit_is_the_reconstruction(
    toy: TextToImage, inversions: dict[str, Inversion], method: str
) -> None:
    """The target row goes its own way through the sampler; only its conditioning is the source's."""
    made = inversions[method]
    edited = finish(edit(toy, made, [Target(TARGET, 0.0), Target(TARGET, 1.0)], FREE))
    assert torch.allclose(edited[:1], made.reconstruction, atol=1e-4)
    assert (edited[1:] - made.reconstruction).abs().mean() > 1e-3


def test_strength_leads_from_the_source_to_the_target(toy: TextToImage, inversions: dict[str, Inversion]) -> None:
    for method in ("anchored", "latent-TOP", "direct", "edit-friendly DDPM"):
        made = inversions[method]
        strengths = (0.0, 0.01, 0.25, 0.5, 0.75, 1.0)
        edited = finish(edit(toy, made, [Target(TARGET, s) for s in strengths], FREE))
        changes = (edited - made.reconstruction).square().mean((1, 2, 3)).sqrt().tolist()
        assert changes == sorted(changes)
        assert changes[1] < 0.2 * changes[-1]


def test_attention_control_at_strength_zero_is_the_source(model: TextToImage, inversion: Inversion) -> None:
    """Also with prompts that do not align one to one, and with re-weighted words."""
    targets = [Target("a photo of a zoo", 0.0, {"zoo": 3.0}), Target("a photo of a red cat", 0.0), Target(TARGET)]
    for attention in ("swap", "refine"):
        edited = finish(edit(model, inversion, targets, PromptEditSettings(attention=attention)))
        for row in edited[:2]:
            assert torch.allclose(row, inversion.reconstruction[0], atol=1e-3)
        assert (edited[2] - inversion.reconstruction[0]).abs().max() > 1e-3


def test_targets_of_a_batch_do_not_see_one_another(model: TextToImage, inversion: Inversion) -> None:
    targets = [Target(TARGET), Target("a red cat", 0.6), Target("a photo of a smiling cat", 1.0, {"smiling": 2.0})]
    together = finish(edit(model, inversion, targets))
    for target, row in zip(targets, together, strict=True):
        assert torch.allclose(finish(edit(model, inversion, [target]))[0], row, atol=1e-3)


def test_attention_control_and_weights_act(model: TextToImage, inversion: Inversion) -> None:
    """Each kind of control gives another picture of the same target; words keep or take over their maps."""
    target = Target("a photo of a red dog")
    pictures = [finish(edit(model, inversion, [target], PromptEditSettings(attention=kind))) for kind in KINDS]
    pictures.append(finish(edit(model, inversion, [replace(target, weights={"dog": 4.0})])))
    for i, one in enumerate(pictures):
        assert all((one - other).abs().max() > 1e-6 for other in pictures[:i])


def test_many_targets_are_done_in_groups(model: TextToImage, inversion: Inversion) -> None:
    """Each with the source, three at a time in calls of eight rows; the pictures are those of single edits."""
    targets = [Target(TARGET, s) for s in (0.2, 0.4, 0.6, 0.8, 1.0)]
    whole = PromptEditSettings(skip=0.0)
    editing = Running(edit(model, inversion, targets, whole))
    events = list(editing)
    assert len(events) == events[-1].total == 12
    assert [event.step for event in events] == list(range(1, 13))
    assert editing.result.shape == (5, 3, 16, 16)
    assert max(len(event.preview) for event in events if event.preview is not None) == 5
    for target, row in zip(targets[::4], editing.result[::4], strict=True):
        assert torch.allclose(finish(edit(model, inversion, [target], whole))[0], row, atol=1e-3)


def test_controls_follow_the_steps(model: TextToImage, inversion: Inversion) -> None:
    """cross 0.5 and self 0.25 of 8 steps: the first four and the first two; self-attention up to 2x2 of 8x8 latents."""
    at = attention_control(model, inversion, [Target(TARGET)], PromptEditSettings(cross_steps=0.5, self_steps=0.25))
    controls = [at(i, 8) for i in range(7, -1, -1)]
    assert [control is not None and control.mapping is not None for control in controls] == [True] * 4 + [False] * 4
    assert [control.self_tokens if control else 0 for control in controls] == [4, 4] + [0] * 6


def test_words_may_be_weighted_in_some_steps_and_self_attention_kept_in_larger_maps(
    model: TextToImage, inversion: Inversion
) -> None:
    """As in PnPInversion: as long as cross-attention is the source's, and up to half of the latents' side."""
    settings = PromptEditSettings(cross_steps=0.5, self_steps=0.25, weight_steps=0.5, self_side=2)
    at = attention_control(model, inversion, [Target(TARGET, weights={"dog": 3.0})], settings)
    controls = [at(i, 8) for i in range(7, -1, -1)]
    assert [control.self_tokens if control else 0 for control in controls] == [16, 16] + [0] * 6
    assert [control is not None for control in controls] == [True] * 4 + [False] * 4
    longer = attention_control(
        model, inversion, [Target(TARGET, weights={"dog": 3.0})], replace(settings, cross_steps=1)
    )
    largest = [control.scale.max().item() for i in range(7, -1, -1) if (control := longer(i, 8))]
    assert largest == [3.0] * 4 + [1.0] * 4
    with pytest.raises(RequestError, match="divided by 1 or more"):
        PromptEditSettings(self_side=0)


def test_steps_of_attention_count_from_where_an_edit_begins(model: TextToImage, inversion: Inversion) -> None:
    """A share smaller than that of the skipped steps still acts."""
    shares = [PromptEditSettings(skip=0.5, cross_steps=share, self_steps=0.0) for share in (0.0, 0.3)]
    free, kept = (finish(edit(model, inversion, [Target(TARGET)], settings)) for settings in shares)
    assert (free - kept).abs().max() > 1e-6


def test_weights_act_where_no_maps_are_kept(model: TextToImage, inversion: Inversion) -> None:
    """At every step: the map of a word times its weight, and the other rows as they were."""
    settings = PromptEditSettings(cross_steps=0.0, self_steps=0.0)
    targets = [Target(TARGET), Target(TARGET, weights={"dog": 1.0}), Target(TARGET, weights={"dog": 4.0})]
    plain, one, four = finish(edit(model, inversion, targets, settings))
    assert torch.allclose(one, plain, atol=1e-4)
    assert (four - plain).abs().max() > 1e-6
    assert torch.allclose(finish(edit(model, inversion, targets[:1], settings))[0], plain, atol=1e-3)


def test_working_guidance_and_skipped_steps(toy: TextToImage, inversions: dict[str, Inversion]) -> None:
    made = inversions["anchored"]
    default, same, weak = (
        finish(edit(toy, made, [Target(TARGET)], replace(FREE, guidance=guidance))) for guidance in (None, 3.0, 1.0)
    )
    assert torch.equal(default, same)
    assert (weak - made.reconstruction).norm() < (default - made.reconstruction).norm()
    friendly = inversions["edit-friendly DDPM"]
    editing = Running(edit(toy, friendly, [Target(TARGET)], FREE))
    events = list(editing)
    assert events[-1].total == len(events) == 4  # 36% of 6 steps are skipped
    nearly = finish(edit(toy, friendly, [Target(TARGET)], replace(FREE, skip=0.8)))
    assert (nearly - made.reconstruction).norm() < (editing.result - made.reconstruction).norm()


def test_what_holds_the_source_can_be_carried_to_targets(toy: TextToImage, inversions: dict[str, Inversion]) -> None:
    """Of direct inversion, which by itself lets targets go: with all of it the source's own prompt is the source."""
    made = inversions["direct"]
    errors = []
    for carry in (None, 0.0, 0.5, 1.0):
        edited = finish(edit(toy, made, [Target(PROMPT)], replace(FREE, carry=carry)))
        errors.append((edited - made.reconstruction).norm().item())
    assert errors[0] == errors[1] > errors[2] > errors[3]
    assert errors[3] < 1e-3


def test_guided_like_its_targets_an_anchored_source_is_its_own_target(
    toy: TextToImage, inversions: dict[str, Inversion]
) -> None:
    """Guided less, as by default, it is not: the target says the words more clearly than the picture."""
    made = inversions["anchored"]
    decoder = replace(made.solution.decoder, share=1.0)
    fully = replace(made, solution=replace(made.solution, decoder=decoder))
    for guidance in (1.0, 3.0, 7.5):
        settings = replace(FREE, guidance=guidance)
        same, other = (finish(edit(toy, inversion, [Target(PROMPT)], settings)) for inversion in (fully, made))
        assert torch.allclose(same, made.reconstruction, atol=1e-4)
        assert ((other - made.reconstruction).abs().max() > 1e-3) == (guidance > 1)


def test_outside_the_region_nothing_changes(toy: TextToImage, inversions: dict[str, Inversion]) -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:20, 4:16] = True
    inside = torch.from_numpy(mask[::2, ::2])
    for method in ("anchored", "EDICT", "latent-TOP"):
        made = inversions[method]
        settings = replace(FREE, region=Region("box", mask), skip=0.0)
        edited = finish(edit(toy, made, [Target(TARGET), Target("red")], settings))
        change = (edited - made.reconstruction).abs().amax(1)
        assert change[:, ~inside].max() < 1e-4
        assert change[:, inside].max(dim=1).values.min() > 1e-2


def test_refusals(toy: TextToImage, model: TextToImage, inversions: dict[str, Inversion]) -> None:
    made = inversions["direct"]
    for targets, words in (
        ([], "between 1 and 16"),
        ([Target(TARGET)] * 17, "between 1 and 16"),
        ([Target(" ")], "Write a target prompt"),
        ([Target("x" * 3000)], "up to 2000 characters"),
        ([Target(TARGET, 9.0)], "strength"),
        ([Target(TARGET, float("nan"))], "strength"),
    ):
        with pytest.raises(RequestError, match=words):
            finish(edit(toy, made, targets))
    with pytest.raises(RequestError, match="with attention control only"):
        finish(edit(toy, made, [Target(TARGET, weights={"dog": 2.0})], FREE))
    for wrong in ({"guidance": 0.0}, {"attention": "magic"}, {"cross_steps": 2.0}, {"skip": 1.0}, {"carry": -1.0}):
        with pytest.raises(RequestError):
            PromptEditSettings(**wrong)
    for other, words in (
        (replace(made, model="another"), "with the model “another”"),
        (replace(made, fingerprint="1" * 16), "other weights"),
        (replace(made, model="small"), "other weights|does not fit"),
    ):
        with pytest.raises(RequestError, match=words):
            finish(reconstruct(model if other.model == "small" else toy, other))


@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        ("a face with glasses", "a face", "none"),
        ("a smiling face with glasses and red lips", "a smiling face with red lips", "none"),
        ("a face", "a smiling face with glasses", "refine"),
        ("a face with black hair", "a face with red hair", "swap"),
        ("an old face", "a young face", "swap"),
    ],
)
def test_the_attention_that_suits_a_change_of_words(source: str, target: str, kind: str) -> None:
    assert suited(source, [target])[0] == kind


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("the face with glasses and red lips", "the face with red lips", "the face with red lips and without glasses"),
        ("an old face with a beard", "an old face", "an old face without a beard"),
        (
            "a face with glasses, a beard and red lips",
            "a face with red lips",
            "a face with red lips and without glasses and without a beard",
        ),
        ("a smiling face with glasses", "a face with glasses", ""),  # what stands before the noun has no such form
        ("a face with glasses", "a face without glasses", ""),  # is said already
        ("a face", "a face with glasses", ""),
        ("a face with black hair", "a face with red hair", ""),
    ],
)
def test_absence_is_put_into_words(source: str, target: str, told: str) -> None:
    assert absence(source, target) == told


def test_only_absences_that_a_model_has_learned_are_said() -> None:
    source, target = "a face with glasses, red lips and long hair", "a face with long hair"
    assert absence(source, target) == f"{target} and without glasses and without red lips"
    assert absence(source, target, "a face without glasses") == f"{target} and without glasses"
    assert absence("a face with glasses and long hair", target, "no glasses") == ""
    assert absence("a face with glasses and long hair", target, "is without glasses").endswith("and without glasses")


def test_a_negation_takes_words_out() -> None:
    assert suited("a face with glasses", ["a face without glasses"])[0] == "none"
    assert suited("a face without glasses", ["an old face without glasses"])[0] == "refine"
