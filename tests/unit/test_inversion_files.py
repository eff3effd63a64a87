"""Inverted pictures in files: what is kept comes back, files of version 2 open unchanged, and strangers' files are
checked."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as tensors_to_bytes
from small_text_models import toy_text_model
from torch import Tensor

from core import tensor_file
from core.errors import PresetError, ResourceError
from core.inversion import edict
from core.inversion.anchored import AnchoredStep
from core.inversion.decoding import PlainStep
from core.inversion.editing import PromptEditSettings, Target, edit, reconstruct
from core.inversion.inversion import Inversion
from core.inversion.methods import METHODS, invert
from core.inversion.saved import LIMITS, from_bytes, load, save, to_bytes
from core.inversion.solution import InversionSettings
from core.progress import finish
from core.text_to_image import TextToImage

PROMPT, TARGET = "a photo of a cat", "a photo of a dog"
QUICK = InversionSettings(steps=6, iterations=2, late=1.0, starts=2, solver_iterations=3, guidance=3.0)
FREE = PromptEditSettings(attention="none")


@pytest.fixture(scope="module")
def toy() -> TextToImage:
    return toy_text_model()


def picture(seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def inversions(toy: TextToImage) -> dict[str, Inversion]:
    return {method: finish(invert(toy, picture(), PROMPT, method, QUICK)) for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_reopened_nothing_has_changed(
    toy: TextToImage, inversions: dict[str, Inversion], method: str, tmp_path: Path
) -> None:
    made = replace(inversions[method], pixels=(picture() * 127.5).round() / 127.5)
    read = load(save(made, tmp_path / "new folder" / "cat.safetensors"))
    for name in ("method", "model", "fingerprint", "prompt", "edit_guidance"):
        assert getattr(read, name) == getattr(made, name)
    assert read.measures == pytest.approx(made.measures)
    assert type(read.solution.decoder) is type(made.solution.decoder)
    solution, decoder = vars(made.solution).copy(), vars(made.solution.decoder)
    assert solution.pop("decoder") is made.solution.decoder
    for kept, values in ((read.solution, solution), (read.solution.decoder, decoder)):
        for name, value in values.items():
            again = getattr(kept, name)
            assert torch.equal(again, value) if isinstance(value, Tensor) else again == value, name
    for name in ("pixels", "reconstruction"):
        assert (getattr(read, name) - getattr(made, name).clamp(-1, 1)).abs().max() <= 0.5 / 127.5 + 1e-6
    targets = [Target(TARGET)]
    assert torch.equal(finish(edit(toy, read, targets, FREE)), finish(edit(toy, made, targets, FREE)))


def test_a_full_disk_leaves_what_was_there(
    inversions: dict[str, Inversion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(inversions["direct"], tmp_path / "cat.safetensors")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_file.os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        save(inversions["null-text"], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------------------------------------------------- version 2


def version_2(inversion: Inversion) -> bytes:
    """A file as version 2 laid it out: the numbers of all decoders side by side, and a flag."""
    solution, decoder = inversion.solution, inversion.solution.decoder
    numbers = {"anchored": False, "share": 0.0, "carry": 0.0, "eta": 0.0, "skip": 0.0, "mixing": 0.93}
    numbers |= {"guidance": solution.guidance, "anchored": isinstance(decoder, AnchoredStep)}
    tensors = {"trajectory": solution.trajectory, "unconditional": solution.unconditional}
    for name, value in vars(decoder).items():
        (tensors if isinstance(value, Tensor) else numbers)[name] = value
    for name in ("pixels", "reconstruction"):
        pixels = getattr(inversion, name).clamp(-1, 1)
        tensors[name] = ((pixels + 1) * 127.5).round().to(torch.uint8)
    names = ("method", "model", "fingerprint", "prompt", "edit_guidance", "measures")
    about = {name: getattr(inversion, name) for name in names} | {"solution": numbers}
    metadata = {"format": "inverted-picture", "format_version": "2", "inversion": json.dumps(about)}
    return tensors_to_bytes(tensors, metadata)


def edited_by_flags(
    model: TextToImage, tensors: dict[str, Tensor], about: dict[str, Any], targets: Sequence[Target], guidance: float
) -> Tensor:
    """Pixels of targets (strengths from 0 to 1), by the sampler that there was when version 2 was written, which read
    the flags of the file itself. No attention control."""
    trajectory, unconditional, partner = (tensors.get(name) for name in ("trajectory", "unconditional", "partner"))
    flags, schedule, S = about["solution"], model.schedule, len(trajectory) - 1
    levels, first = [-1, *schedule.timesteps(S)], S - round(flags["skip"] * S)
    strength = torch.tensor([0.0, *(target.strength for target in targets)])[:, None, None, None]
    own = 1 + flags["share"] * (guidance - 1) if flags["share"] else flags["guidance"]
    guidances, carries = own + strength * (guidance - own), 1 + strength[1:] * (flags["carry"] - 1)
    text = model.embed(
        [about["prompt"], *(target.prompt if target.strength else about["prompt"] for target in targets)]
    )
    x = trajectory[first].expand(len(text), -1, -1, -1)
    y = None if partner is None else partner[first].expand_as(x)
    for i in range(first - 1, -1, -1):
        t, t_prev = levels[i + 1], levels[i]
        null = unconditional[i : i + 1] if len(unconditional) > 1 else unconditional

        def eps(z: Tensor, t: int = t, null: Tensor = null) -> Tensor:
            return model.guided(z, t, text, null, guidances.to(z), None, strength)

        if y is not None:
            x, y = edict.denoise(schedule, x, y, t, t_prev, eps, flags["mixing"], x_first=i % 2 == 0)
            continue
        e = eps(x)
        x = schedule.reverse_step(x, e, e, t, t_prev, flags["eta"], noise=torch.zeros(()))
        if flags["anchored"]:
            held = trajectory[i : i + 1]
            x = torch.cat((held, x[1:] + carries * (held - x[:1])))
    return model.decode(x[1:])


@pytest.mark.parametrize("method", METHODS)
def test_files_of_version_2_open_unchanged(toy: TextToImage, inversions: dict[str, Inversion], method: str) -> None:
    """What was written then gives the same edits and the same reconstruction now."""
    made = inversions[method]
    data = version_2(made)
    read, tensors = from_bytes(data), tensor_file.tensors(data)
    about = json.loads(tensor_file.header(data, len(data), LIMITS)["__metadata__"]["inversion"])
    assert type(read.solution.decoder) is type(made.solution.decoder) is METHODS[method].decoder
    assert torch.equal(finish(reconstruct(toy, read)), finish(reconstruct(toy, made)))
    targets = [Target(TARGET), Target("a red dog", 0.4), Target("red", 0.0)]
    for guidance in (None, 5.0):
        edits = finish(edit(toy, read, targets, replace(FREE, guidance=guidance)))
        expected = edited_by_flags(toy, tensors, about, targets, guidance or made.edit_guidance)
        assert torch.allclose(edits, expected, rtol=0, atol=1e-6)
    again = from_bytes(to_bytes(read))  # and it can be kept as a file of today
    assert torch.equal(finish(edit(toy, again, targets, FREE)), finish(edit(toy, read, targets, FREE)))


def test_numbers_of_other_decoders_do_not_count(inversions: dict[str, Inversion]) -> None:
    """A plain solution of version 2 with a share and a carry is a plain one."""
    data = rewritten(version_2(inversions["DDIB"]), {"solution": {"share": 0.5, "carry": 1.0, "mixing": 0.6}})
    assert from_bytes(data).solution.decoder == PlainStep()


# ------------------------------------------------------------------------------------------------------------ damage


def rewritten(data: bytes, about: dict[str, Any] | None = None, **header: Any) -> bytes:
    """The file with other values in its description or in its header."""
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    described = json.loads(head["__metadata__"]["inversion"])
    if about:
        solution = described["solution"] | about.get("solution", {})
        head["__metadata__"]["inversion"] = json.dumps(described | about | {"solution": solution})
    head |= header
    encoded = json.dumps(head).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data[8 + length :]


ANCHORED = {"kind": "anchored", "carry": 0.0, "share": 0.0, "eta": 0.0, "skip": 0.0}
DAMAGED = [
    ({"about": {"prompt": ""}}, "prompt is damaged"),
    ({"about": {"prompt": "x" * 3000}}, "prompt is damaged"),
    ({"about": {"prompt": "a\u202ecat"}}, "prompt is damaged"),
    ({"about": {"method": 7}}, "method is damaged"),
    ({"about": {"edit_guidance": "7.5"}}, "guidance is out of range"),
    ({"about": {"edit_guidance": 1e6}}, "guidance is out of range"),
    ({"about": {"measures": {"psnr": "high"}}}, "measures are damaged"),
    ({"about": {"measures": [1]}}, "measures are damaged"),
    ({"about": {"more": 1}}, "description is incomplete"),
    ({"about": {"solution": {"guidance": 0.0}}}, "guidance is out of range"),
    ({"about": {"solution": {"more": 1}}}, "solution is incomplete"),
    ({"__metadata__": {"format": "h-space-direction"}}, "does not hold an inverted picture"),
    ({"__metadata__": {"format": "inverted-picture", "format_version": "1"}}, "another version"),
    ({"__metadata__": {"format": "inverted-picture", "format_version": "2"}}, "description is damaged"),
    ({"__metadata__": {"format": "inverted-picture", "format_version": "3"}}, "description is damaged"),
    ({"more": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}}, "impossible shape|cut short"),
    ({"more": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, "another kind"),
]
DAMAGED_DECODERS = [
    (ANCHORED | {"eta": 2.0}, "eta is out of range"),
    ({"kind": "coupled", "mixing": 0.0}, "mixing is out of range"),
    ({"kind": "coupled", "mixing": 0.93}, "partner is missing"),
    (ANCHORED | {"skip": True}, "skip is out of range"),
    (ANCHORED | {"kind": 1}, "solution is damaged"),
    (ANCHORED | {"kind": "magic"}, "a method that is not known here"),
    (ANCHORED | {"mixing": 0.93}, "solution is incomplete"),
    ({"kind": "anchored"}, "solution is incomplete"),
    (["anchored"], "solution is damaged"),
]
DAMAGED_OF_VERSION_2 = [
    ({"eta": 2.0}, "eta is out of range"),
    ({"mixing": 0.0}, "mixing is out of range"),
    ({"skip": True}, "skip is out of range"),
    ({"anchored": 1}, "solution is damaged"),
]


def refused(data: bytes, words: str) -> None:
    with pytest.raises(PresetError, match=f"not a usable file of an inverted picture: .*({words})"):
        from_bytes(data)


@pytest.mark.parametrize("write", [to_bytes, version_2], ids=["version 3", "version 2"])
@pytest.mark.parametrize(("changes", "words"), DAMAGED)
def test_damaged_and_hostile_files(
    inversions: dict[str, Inversion], changes: dict[str, Any], words: str, write: Callable[[Inversion], bytes]
) -> None:
    refused(rewritten(write(inversions["direct"]), **changes), words)


@pytest.mark.parametrize(("decoder", "words"), DAMAGED_DECODERS)
def test_damaged_decoders(inversions: dict[str, Inversion], decoder: Any, words: str) -> None:
    refused(rewritten(to_bytes(inversions["direct"]), {"solution": {"decoder": decoder}}), words)


@pytest.mark.parametrize(("solution", "words"), DAMAGED_OF_VERSION_2)
def test_damaged_solutions_of_version_2(inversions: dict[str, Inversion], solution: dict[str, Any], words: str) -> None:
    refused(rewritten(version_2(inversions["direct"]), {"solution": solution}), words)


def test_damaged_tensors(inversions: dict[str, Inversion]) -> None:
    made = inversions["EDICT"]
    solution = made.solution
    shorter = replace(solution.decoder, partner=solution.decoder.partner[1:])
    for wrong, words in (
        (replace(solution, trajectory=solution.trajectory * float("nan")), "trajectory is not finite"),
        (replace(solution, trajectory=solution.trajectory[:2]), "trajectory is damaged"),
        (replace(solution, unconditional=solution.unconditional.repeat(3, 1, 1)), "embeddings are damaged"),
        (replace(solution, decoder=shorter), "second trajectory is damaged"),
    ):
        with pytest.raises(PresetError, match=words):
            to_bytes(replace(made, solution=wrong))


def test_damaged_bytes_anywhere(inversions: dict[str, Inversion]) -> None:
    """Whatever byte is changed, the file is refused or still an inverted picture."""
    data, rng = to_bytes(inversions["DDIM"]), np.random.default_rng(0)
    refused = 0
    for place in (*rng.integers(0, 1500, 200), *rng.integers(1500, len(data), 50)):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        try:
            assert from_bytes(bytes(changed)).solution.trajectory.isfinite().all()
        except PresetError:
            refused += 1
    assert refused > 100


def test_bytes_that_are_no_file(inversions: dict[str, Inversion], tmp_path: Path) -> None:
    data = to_bytes(inversions["direct"])
    for broken in (b"", b"12345678", b"\xff" * 100, data[:-1], data[:100], (2**62).to_bytes(8, "little") + data[8:]):
        with pytest.raises(PresetError, match="not a usable file"):
            from_bytes(broken)
    with pytest.raises(PresetError, match="not a file"):
        load(tmp_path)
    with pytest.raises(PresetError, match="not a file"):
        load(tmp_path / "nothing.safetensors")
    large = tmp_path / "large.safetensors"
    with large.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(PresetError, match="larger than 128 MB"):
        load(large)
