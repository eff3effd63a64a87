"""The preset file: what is written comes back, and whatever else a file may hold ends in a clear refusal."""

import io
import json
import multiprocessing
import os
import resource
import signal
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save as tensors_to_bytes
from small_models import small_model
from small_text_models import small_text_model

from core import presets, tensor_file
from core.delta_block import DeltaBlock
from core.directions import CompositeDirection, Direction, GlobalDirection, ImplicitDirection, PerTimestepDirection
from core.errors import PresetError, ResourceError
from core.presets import (
    Preset,
    describe,
    file_name,
    from_bytes,
    header_size,
    load,
    of_prompt,
    require_model,
    save,
    shelf,
    to_bytes,
)
from core.prompted import with_prompt

H, E = (32, 4, 4), 64


def thumbnail(side: int = 64, kind: str = "WEBP") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (200, 120, 40)).save(buffer, kind)
    return buffer.getvalue()


def implicit() -> ImplicitDirection:
    torch.manual_seed(0)
    f_t = DeltaBlock(H[0], E)
    torch.nn.init.normal_(f_t.conv2.weight)
    return ImplicitDirection(f_t.eval().requires_grad_(False), steps=40)


def directions() -> dict[str, Direction]:
    generator = torch.Generator().manual_seed(1)
    made = {
        "global": GlobalDirection(torch.randn(1, *H, generator=generator), 40),
        "per_timestep": PerTimestepDirection(
            torch.tensor([100, 500, 900]), torch.randn(3, *H, generator=generator), 20
        ),
        "implicit": implicit(),
    }
    inner = CompositeDirection((made["global"], made["implicit"]), (0.5, -1.0))
    made["composite"] = CompositeDirection((inner, made["per_timestep"]), (1.0, 2.0))
    return made


def preset(direction: Direction | None = None, **values: Any) -> Preset:
    return Preset(
        **{
            "direction": direction or directions()["global"],
            "name": "Smiling",
            "model": "avatars",
            "fingerprint": "0123456789abcdef",
            "thumbnail": thumbnail(),
            **values,
        }
    )


def model(**values: Any) -> SimpleNamespace:
    """As much of a DiffusionModel as `require_model` looks at."""
    embedding = SimpleNamespace(linear_2=SimpleNamespace(out_features=E))
    return SimpleNamespace(
        **{
            "card": SimpleNamespace(id="avatars", h_shape=H),
            "fingerprint": "0123456789abcdef",
            "unet": SimpleNamespace(unet=SimpleNamespace(time_embedding=embedding)),
            **values,
        }
    )


def rewritten(data: bytes, **changes: Any) -> bytes:
    """A preset file with other values in its description; None takes a field out."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = json.loads(header["__metadata__"]["preset"])
    about = {key: value for key, value in (about | changes).items() if value is not ...}
    header["__metadata__"]["preset"] = json.dumps(about)
    return with_header(header, data[8 + length :])


def with_header(header: Any, body: bytes = b"") -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + body


# ------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", list(directions()))
def test_every_kind_comes_back(kind: str, tmp_path: Path) -> None:
    written = preset(directions()[kind], name=f"A {kind} one")
    read = load(save(written, tmp_path / file_name(written.name)))
    assert read.direction.kind == kind
    assert read.direction.steps == written.direction.steps
    h, emb = torch.randn(2, *H), torch.randn(2, E)
    for t in (0, 300, 999):
        assert torch.equal(read.direction.delta_h(h, emb, t), written.direction.delta_h(h, emb, t))


def test_every_field_comes_back(tmp_path: Path) -> None:
    written = preset(
        description="Raises the corners\nof the mouth.",
        method="jive",
        parameters={"rank": 5, "lambda": 0.8, "layers": [1, 2]},
        source_text="face",
        target_text="smiling face",
        region=[{"label": "mouth", "box": [0.2, 0.6, 0.8, 0.9]}],
        timestep=589,
        injection="symmetric",
        t_edit=513,
        t_boost=167,
        strength=0.8,
        strength_range=(-2.0, 3.0),
        measured={"smile": 0.71, "identity": 0.93},
        licence="cc-by-4.0",
        author="Jörg",
        created="2026-08-01T12:00:00Z",
    )
    read = load(save(written, tmp_path / "a.safetensors"))
    assert replace(read, direction=None) == replace(written, direction=None)
    assert (read.intervals.t_edit, read.intervals.t_boost) == (513, 167)
    assert read.picture().size == (64, 64)


def test_what_an_import_did_not_say_is_not_known(tmp_path: Path) -> None:
    """Files of before this field that were imported from the Asyrp authors' form name that file: whether their weights
    were the right ones nobody had asked. What is made here is exact, as ever, and what is said is kept."""
    imported = {"form": "implicit", "file": "smiling_LC_CelebA_HQ_t999_ninv40_ngen40_0.pth"}
    old = rewritten(to_bytes(preset(parameters=imported, certainty="claimed")), certainty=...)
    assert b"certainty" not in old
    read = from_bytes(old)
    assert read.certainty == "unknown"
    assert presets.describe(old, len(old))[0].certainty == "unknown"
    assert "not known" in presets.weights_in_words(read)
    assert from_bytes(to_bytes(preset())).certainty == "exact"
    for parameters in ({}, imported, {"file": 5}, {"file": "smiling.safetensors"}):
        for certainty in presets.CERTAINTIES:
            written = preset(parameters=parameters, certainty=certainty)
            assert from_bytes(to_bytes(written)).certainty == certainty


def test_a_composite_of_the_same_direction_twice(tmp_path: Path) -> None:
    for part in (directions()["global"], implicit()):
        both = CompositeDirection((part, part), (1.0, -0.5))
        read = load(save(preset(both), tmp_path / "a.safetensors")).direction
        h, emb = torch.randn(2, *H), torch.randn(2, E)
        assert torch.equal(read.delta_h(h, emb, 500), both.delta_h(h, emb, 500))


@pytest.mark.parametrize("kind", list(directions()))
def test_the_start_of_a_file_describes_it(kind: str) -> None:
    written = preset(directions()[kind], description="Raises the corners of the mouth.")
    data = to_bytes(written)
    start = data[: presets.header_size(data[:9], len(data))]
    assert len(start) < len(data)
    about, said = presets.describe(start, len(data))
    assert said == kind
    assert about == presets.About(**{key: value for key, value in vars(written).items() if key != "direction"})
    with pytest.raises(PresetError, match="cut short|outside the file"):
        presets.describe(start, len(data) - 1)
    with pytest.raises(PresetError, match="not in the safetensors format"):
        presets.describe(start[:-16], len(data))


def test_half_precision_on_disk(tmp_path: Path) -> None:
    written = preset(implicit())
    whole = save(written, tmp_path / "whole.safetensors").stat().st_size
    half = save(written, tmp_path / "half.safetensors", torch.float16)
    assert half.stat().st_size < 0.7 * whole
    h, emb = torch.randn(1, *H), torch.randn(1, E)
    read = load(half).direction.delta_h(h, emb, 500)
    assert read.dtype == torch.float32
    assert torch.allclose(read, written.direction.delta_h(h, emb, 500), atol=0.05, rtol=0.01)


# ---------------------------------------------------------------------------------------------------------- writing


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(preset(), tmp_path / "smiling.safetensors")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_file.os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        save(preset(name="Other"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "nothing unfinished is left behind"


def _overwrite_where_little_fits(path: str) -> None:
    """Exit code 7 if a file that stops growing after 1,000 bytes is reported as such."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        save(preset(implicit(), name="Other"), Path(path))
    except ResourceError:
        os._exit(7)


def test_a_disk_that_fills_up_while_writing_loses_nothing(tmp_path: Path) -> None:
    path = save(preset(), tmp_path / "smiling.safetensors")
    before = path.read_bytes()
    writer = multiprocessing.get_context("fork").Process(target=_overwrite_where_little_fits, args=(str(path),))
    writer.start()
    writer.join()
    assert writer.exitcode == 7
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "nothing unfinished is left behind"


def _write_many(path: str, name: str) -> None:
    for _ in range(20):
        save(preset(name=name), Path(path))


def test_two_processes_write_the_same_preset(tmp_path: Path) -> None:
    path = tmp_path / "same.safetensors"
    save(preset(), path)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(str(path), name)) for name in ("One", "Two")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert load(path).name in ("Smiling", "One", "Two")
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/root/x",
        "..",
        "C:\\x",
        "con",
        "a\0b",
        "",
        "é" * 500,
        "<script>",
        "x" * 9999,
        ".hidden",
        "💥",
    ],
)
def test_file_names_are_safe(name: str, tmp_path: Path) -> None:
    made = file_name(name)
    assert (tmp_path / made).resolve().parent == tmp_path.resolve()
    assert made.endswith(".safetensors")
    assert len(made) <= 80
    assert made.isascii()
    assert made[0].isalnum()
    assert made != "con.safetensors"


def test_a_preset_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    for bad in ({"name": "x" * 81}, {"name": ""}, {"measured": {"x": float("nan")}}, {"parameters": {"x": object()}}):
        with pytest.raises(PresetError):
            save(preset(**bad), tmp_path / "bad.safetensors")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------- the wrong model


def test_a_preset_for_another_model_names_it() -> None:
    require_model(preset(), model())
    require_model(preset(model="the same under another name"), model())
    with pytest.raises(PresetError, match=r"the model Churches \(ddpm-ema-church-256\).*Choose Churches \(ddpm"):
        require_model(preset(model="ddpm-ema-church-256", fingerprint="feedfeedfeedfeed"), model())
    with pytest.raises(PresetError, match="other weights of avatars"):
        require_model(preset(fingerprint="feedfeedfeedfeed"), model())


@pytest.mark.parametrize("kind", list(directions()))
def test_shapes_must_fit_the_model(kind: str) -> None:
    made = preset(directions()[kind])
    require_model(made, model())
    with pytest.raises(PresetError, match="does not have the shape"):
        require_model(made, model(card=SimpleNamespace(id="avatars", h_shape=(64, 4, 4))))


# ---------------------------------------------------------------------------------------------------- hostile files


@pytest.mark.parametrize("cut", [0, 7, 8, 9, 100, -1, -1000])
def test_cut_short(cut: int) -> None:
    with pytest.raises(PresetError):
        from_bytes(to_bytes(preset())[:cut])


def test_too_large_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(presets.LIMITS.bytes + 1)
    with pytest.raises(PresetError, match="larger than 64 MB"):
        load(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(PresetError, match="could not be read|not a usable"):
            load(path)


def test_what_is_no_file_is_not_read_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(PresetError, match="could not be read"):
            load(path)
    assert shelf(tmp_path) == []


def test_shapes_that_do_not_belong_together_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """65,536 rows by one tensor and 65,536 columns by another would be a layer of 16 GB."""
    side = presets.LIMITS.side
    tensors = {name: torch.zeros(1) for name in ("conv1.bias", "temb_proj.bias", "norm2.weight", "norm2.bias")}
    tensors |= {"conv1.weight": torch.zeros(side, 1, 1, 1), "temb_proj.weight": torch.zeros(1, side)}
    tensors |= {"conv2.weight": torch.zeros(1, 1, 1, 1), "conv2.bias": torch.zeros(1)}
    about = {"name": "x", "model": "m", "fingerprint": "f", "direction": {"kind": "implicit", "steps": 40}}
    metadata = {"format": presets.FORMAT, "format_version": "1", "preset": json.dumps(about)}
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, limits[1]))
    try:
        with pytest.raises(PresetError, match="size mismatch"):
            from_bytes(tensors_to_bytes(tensors, metadata))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_pickle_is_not_opened() -> None:
    buffer = io.BytesIO()
    torch.save({"delta": torch.zeros(1, *H)}, buffer)
    with pytest.raises(PresetError, match="not in the safetensors format"):
        from_bytes(buffer.getvalue())


HEADERS = {
    "a billion elements": {"delta": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}},
    "an axis of a billion, no bytes": {"delta": {"dtype": "F32", "shape": [10**9, 0], "data_offsets": [0, 0]}},
    "an empty tensor": {"delta": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
    "a negative axis": {"delta": {"dtype": "F32", "shape": [-1, 4], "data_offsets": [0, 16]}},
    "a fractional axis": {"delta": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 6]}},
    "a true axis": {"delta": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
    "offsets beyond the file": {"delta": {"dtype": "F32", "shape": [4], "data_offsets": [2**40, 2**40 + 16]}},
    "offsets backwards": {"delta": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
    "a list for a type": {"delta": {"dtype": ["F32"], "shape": [4], "data_offsets": [0, 16]}},
    "an unknown type": {"delta": {"dtype": "OBJECT", "shape": [4], "data_offsets": [0, 16]}},
    "no tensors": {},
    "too many tensors": {str(i): {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for i in range(2000)},
    "not an object": [1, 2, 3],
    "not JSON": b"{'delta': 1}",
    "nested deeply": b"[" * 100_000 + b"]" * 100_000,
    "a name twice": b'{"a": {}, "a": {}}',
    "a long number": b'{"a": ' + b"9" * 10_000 + b"}",
    "not UTF-8": b'{"\xff\xfe": {}}',
}


@pytest.mark.parametrize("fault", list(HEADERS))
def test_hostile_headers(fault: str) -> None:
    header = HEADERS[fault]
    if isinstance(header, dict):
        about = {"name": "x", "model": "avatars", "fingerprint": "f", "direction": {"kind": "global", "steps": 40}}
        described = {"format": presets.FORMAT, "format_version": "1", "preset": json.dumps(about)}
        header = {"__metadata__": described, **header}
    with pytest.raises(PresetError, match="not a usable preset file"):
        from_bytes(with_header(header, b"\0" * 64))


def test_header_longer_than_the_file() -> None:
    for length in (2**63, 2**30, 1000):
        with pytest.raises(PresetError, match="not in the safetensors format"):
            from_bytes(struct.pack("<Q", length) + b"{}")


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


FIELDS = [
    ({"name": "x" * 81}, "name is longer"),
    ({"name": "\u202e\u0000"}, "name is missing"),
    ({"name": 7}, "name is not text"),
    ({"name": ...}, "name is missing"),
    ({"description": "y" * 2001}, "description is longer"),
    ({"surprise": 1}, "unknown fields"),
    ({"injection": "sideways"}, "injection mode"),
    ({"injection": ["asymmetric"]}, "injection is not text"),
    ({"timestep": 10**9}, "timestep is out of range"),
    ({"t_edit": "500"}, "t_edit is out of range"),
    ({"strength": True}, "strength is out of range"),
    ({"strength": 10**400}, "strength is out of range"),
    ({"strength_range": [2, -1]}, "strengths are damaged"),
    ({"strength_range": {"a": 1}}, "strengths are damaged"),
    ({"measured": {"x": "1"}}, "measures are damaged"),
    ({"measured": {str(i): 1.0 for i in range(100)}}, "measures are damaged"),
    ({"parameters": {"x": "z" * 20_000}}, "parameters is too long"),
    ({"parameters": nested(20)}, "parameters is nested too deeply"),
    ({"region": {"x": 1}}, "region is damaged"),
    ({"thumbnail": "A" * 200_000}, "thumbnail is too large"),
    ({"thumbnail": "not base64!"}, "thumbnail is not a picture"),
    ({"thumbnail": "aGVsbG8="}, "thumbnail is not a picture"),
    ({"direction": None}, "direction is not described"),
    ({"direction": {"kind": "global", "steps": 0}}, "step count"),
    ({"direction": {"kind": "global", "steps": 40, "x": [1] * 9}}, "direction is damaged"),
    ({"direction": {"kind": "mystery", "steps": 40}}, "damaged"),
    ({"direction": {"kind": "implicit", "steps": 40}}, "damaged"),
]


@pytest.mark.parametrize(("changes", "words"), FIELDS)
def test_every_field_is_checked(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PresetError, match=words):
        from_bytes(rewritten(to_bytes(preset()), **changes))


@pytest.mark.parametrize("depth", [10, 17, 300, 900, 1100, 5000])
def test_any_depth_ends_in_a_preset_or_a_refusal(depth: int) -> None:
    data = rewritten(to_bytes(preset()), parameters="HERE")
    text = '{"a": ' * depth + "{}" + "}" * depth
    about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about["__metadata__"]["preset"] = about["__metadata__"]["preset"].replace('"HERE"', text)
    whole = with_header(about, data[8 + int.from_bytes(data[:8], "little") :])
    try:
        read = from_bytes(whole)
    except PresetError:
        assert depth > presets.MAX_NESTING
    else:
        assert from_bytes(to_bytes(read)).parameters == read.parameters


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 5000])
def test_numbers_that_are_none(number: str) -> None:
    data = to_bytes(preset(parameters={"rank": 12345}))
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b"12345", number.encode())
    with pytest.raises(PresetError, match="description is damaged"):
        from_bytes(with_header(header, data[8 + length :]))


def test_nested_composites_end() -> None:
    state: dict[str, Any] = {"kind": "global", "steps": 40}
    for _ in range(50):
        state = {"kind": "composite", "weights": [1.0], "parts": [state]}
    with pytest.raises(PresetError, match="nested too deeply"):
        from_bytes(rewritten(to_bytes(preset()), direction=state))
    many = {"kind": "composite", "weights": [1.0] * 99, "parts": [{"kind": "global", "steps": 40}] * 99}
    with pytest.raises(PresetError, match="too many parts"):
        from_bytes(rewritten(to_bytes(preset()), direction=many))


def test_values_that_are_not_finite() -> None:
    for bad in (float("nan"), float("inf")):
        broken = GlobalDirection(torch.full((1, *H), bad), 40)
        with pytest.raises(PresetError, match="not finite"):
            to_bytes(preset(broken))


def test_versions() -> None:
    data = to_bytes(preset())
    for version, words in (("3", "newer version of the app"), ("0", "version is damaged"), ("x", "version is damaged")):
        changed = data.replace(b'"format_version":"1"', f'"format_version":"{version}"'.encode())
        assert changed != data
        with pytest.raises(PresetError, match=words):
            from_bytes(changed)


def test_older_versions_are_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    older = rewritten(to_bytes(preset()), name=..., title="Old name")
    monkeypatch.setattr(presets, "VERSION", 2)
    migrate = presets.MIGRATIONS[1]
    monkeypatch.setitem(presets.MIGRATIONS, 1, lambda about: migrate({"name": about.pop("title"), **about}))
    assert from_bytes(older).name == "Old name"
    for damaged in (rewritten(older, title=...), rewritten(older, title=7)):
        with pytest.raises(PresetError):
            from_bytes(damaged)
    monkeypatch.setattr(presets, "VERSION", 3)
    monkeypatch.setitem(presets.MIGRATIONS, 2, lambda about: {**about, "author": about["author"].upper()})
    assert from_bytes(rewritten(older, author="jo")).author == "JO", "one version after the other"


TEXT_TO_IMAGE = {"family": "text-to-image", "prompt": "the smiling face", "guidance": 3.0, "shifted": "conditional"}


def test_a_preset_of_a_text_to_image_model_is_of_version_2() -> None:
    made = preset(**TEXT_TO_IMAGE)
    data = to_bytes(made)
    assert b'"format_version":"2"' in data
    read = from_bytes(data)
    assert {name: getattr(read, name) for name in TEXT_TO_IMAGE} == TEXT_TO_IMAGE
    about, _ = describe(data[: header_size(data[:16], len(data))], len(data))
    assert about.prompt == "the smiling face"


def test_what_a_model_is_bound_to_is_what_its_presets_say() -> None:
    bound = with_prompt(small_text_model(), "the smiling face", 3.0, "conditional")
    assert of_prompt(bound) == TEXT_TO_IMAGE
    assert of_prompt(small_model()) == {}


def test_presets_of_unconditional_models_are_written_as_before() -> None:
    """A copy of the app from before can read them, and files from before say the family."""
    data = to_bytes(preset())
    assert b'"format_version":"1"' in data
    assert b"family" not in data
    assert from_bytes(data).family == "unconditional"
    current = data.replace(b'"format_version":"1"', b'"format_version":"2"')
    assert from_bytes(current).family == "unconditional"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"family": "flow"}, "family of its model"),
        ({"family": 3}, "family of its model"),
        ({"shifted": "neither"}, "branch"),
        ({"guidance": 0.5}, "guidance"),
        ({"guidance": "3"}, "guidance"),
        ({"prompt": "x" * 2001}, "longer than 2000"),
        ({"prompt": 1}, "not text"),
        ({"family": "unconditional"}, "takes no prompt"),
    ],
)
def test_what_is_said_of_a_prompt_is_checked(changed: dict[str, object], words: str) -> None:
    data = to_bytes(preset(**TEXT_TO_IMAGE))
    with pytest.raises(PresetError, match=words):
        from_bytes(rewritten(data, **changed))
    with pytest.raises(PresetError, match="newer version"):
        from_bytes(data.replace(b'"format_version":"2"', b'"format_version":"1"'))


def test_a_preset_of_a_text_to_image_model_belongs_to_its_weights() -> None:
    model = with_prompt(small_text_model(), "a cat")
    direction = GlobalDirection(torch.zeros(1, *model.card.h_shape), 40)
    made = preset(direction, **TEXT_TO_IMAGE, model="small", fingerprint=model.fingerprint)
    presets.require_model(made, model)
    with pytest.raises(PresetError, match="other weights"):
        presets.require_model(replace(made, fingerprint="1" * 16), model)
    with pytest.raises(PresetError, match="does not have the shape"):
        presets.require_model(replace(made, direction=GlobalDirection(torch.zeros(1, 5, 1, 1), 40)), model)


def test_other_safetensors_files_are_not_presets() -> None:
    with pytest.raises(PresetError, match="does not describe a direction"):
        from_bytes(tensors_to_bytes({"weight": torch.zeros(3)}))
    with pytest.raises(PresetError, match="does not describe a direction"):
        from_bytes(tensors_to_bytes({"weight": torch.zeros(3)}, {"format": "pt"}))


def test_script_stays_text() -> None:
    script = "<script>alert(1)</script>"
    read = from_bytes(to_bytes(preset(name=script, description=script)))
    assert read.name == script, "escaping is the page's affair; the file's text is not changed"


def test_damage_at_random_ends_in_a_preset_or_a_refusal() -> None:
    data = to_bytes(preset())
    length = int.from_bytes(data[:8], "little")
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for at in torch.randint(0, length + 8, (3,), generator=generator).tolist():
            damaged[at] = int(torch.randint(256, (1,), generator=generator))
        try:
            from_bytes(bytes(damaged))
        except PresetError:
            refused += 1
    assert refused > 100


def test_the_shelf_leaves_out_what_cannot_be_used(tmp_path: Path) -> None:
    save(preset(name="Sad"), tmp_path / "b.safetensors")
    save(preset(name="angry"), tmp_path / "c.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"rubbish")
    (tmp_path / "readme.txt").write_text("not a preset")
    assert [found.name for _, found in shelf(tmp_path)] == ["angry", "Sad"]
    assert shelf(tmp_path / "nowhere") == []
