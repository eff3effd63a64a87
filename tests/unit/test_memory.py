"""What is counted, what goes to disk and comes back unchanged, and that a cache never has too much."""

import ast
import gc
import os
import random
import re
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from core import memory
from core.cache import Cache, Counted
from core.directions import CompositeDirection, GlobalDirection, ImplicitDirection
from core.errors import ResourceError
from core.memory import bytes_of, held_by_name, to_disk
from core.models.loader import Loader
from core.process import Kept
from tests.unit.small_models import trained_block

KB = 1024


def tensor(kilobytes: int = 4, value: float = 1.0) -> Tensor:
    return torch.full((kilobytes, 16, 16), value)


@dataclass(frozen=True)
class Frozen:
    pixels: Tensor
    name: str = ""


@dataclass
class State:
    one: Frozen
    several: list[Any] = field(default_factory=list)
    by_name: dict[str, Any] = field(default_factory=dict)
    last: deque[Any] = field(default_factory=deque)
    other: Any = None


class Elsewhere:
    """Of another package, with a tensor that is nobody's business."""

    def __init__(self) -> None:
        self.x = tensor()


# ------------------------------------------------------------------------------------------------------------- counting


def test_everything_large_is_counted_once() -> None:
    x = tensor(4)
    same = State(Frozen(x), [x, (x,)], {"x": x}, deque([Frozen(x)]), {x})
    assert bytes_of(same, x) == 4 * KB
    different = State(Frozen(tensor(4)), [tensor(1), (tensor(2),)], {"x": tensor(8)}, deque([Frozen(tensor(16))]))
    assert bytes_of(different) == 31 * KB
    assert bytes_of("a" * 5000, bytes(3000), np.zeros(4 * KB, np.uint8)[::2], "short") == 8000 + 4 * KB
    assert bytes_of(Image.new("RGB", (10, 20)), Image.new("L", (10, 20))) == 10 * 20 * 5
    assert bytes_of(nn.Linear(15, 16)) == 4 * 16 * 16
    assert bytes_of(torch.empty(1000, device="meta")) == 0


def test_a_view_counts_as_all_that_it_keeps_alive() -> None:
    batch = tensor(64)
    assert bytes_of(batch[3]) == 64 * KB
    assert bytes_of(batch[3], batch[5], batch) == 64 * KB


def test_what_functions_hold_is_counted_and_what_is_somebody_elses_is_not() -> None:
    network = nn.Linear(15, 16)
    assert bytes_of(lambda x: network(x)) == bytes_of(network.forward) == bytes_of(network)
    assert bytes_of(Elsewhere()) == 0
    state = State(Frozen(tensor(1)), [Frozen(tensor(2))])
    assert bytes_of(state, outside=(Frozen,)) == 0
    state.several.append(state)  # a circle
    assert bytes_of(state) == 3 * KB


# -------------------------------------------------------------------------------------------------------------- to disk


def test_what_went_to_disk_is_the_same_and_takes_no_memory() -> None:
    batch = torch.randn(8, 3, 16, 16)
    half = torch.randn(4, 1024).bfloat16()
    state = State(
        Frozen(batch[2], "kept"),
        [Frozen(batch[3]), torch.arange(2000), torch.zeros(4000, 0)],
        {"mask": torch.rand(64, 64) > 0.5, "turned": batch[4].permute(2, 0, 1)},
        deque([(half, "text")], maxlen=3),
    )
    want = [batch[2].clone(), batch[3].clone(), torch.arange(2000), half.clone(), batch[4].permute(2, 0, 1).clone()]
    mask = state.by_name["mask"].clone()
    there = os.listdir(tempfile.gettempdir())
    assert to_disk(state) is state
    got = [
        state.one.pixels,
        state.several[0].pixels,
        state.several[1],
        state.last[0][0],
        state.by_name["turned"],
    ]
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert torch.equal(state.by_name["mask"], mask)
    assert (state.one.name, state.last[0][1], state.last.maxlen) == ("kept", "text", 3)
    assert bytes_of(state) == 0
    assert [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("on-disk-")] == [
        name for name in there if name.startswith("on-disk-")
    ], "the file is still there"
    (state.one.pixels + 1).sum()  # works like any tensor
    kept = state.one.pixels
    to_disk(state)
    assert state.one.pixels is kept, "it was there already"


def test_others_keep_what_they_have() -> None:
    shared = Frozen(tensor(4))
    mine, list_of_mine = State(shared), [shared]
    mine.several = [shared, (shared,)]
    to_disk(mine)
    assert mine.one is not shared
    assert mine.one is mine.several[0] is mine.several[1][0], "what was one object still is one"
    assert bytes_of(list_of_mine) == 4 * KB
    assert to_disk(shared, outside=(Frozen,)) is shared


def test_directions_go_to_disk_and_do_the_same() -> None:
    h, emb = torch.randn(2, 32, 4, 4), torch.randn(2, 16)
    implicit = ImplicitDirection(trained_block().requires_grad_(True), 10)
    whole = CompositeDirection((GlobalDirection(torch.randn(1, 32, 4, 4), 10), implicit), (0.5, -1.0))
    before, size = whole.delta_h(h, emb, 500), bytes_of(whole)
    moved = to_disk(whole)
    assert torch.equal(moved.delta_h(h, emb, 500), before)
    assert bytes_of(moved) < size / 4, "small tensors alone may stay"
    assert bytes_of(whole) == size
    assert implicit.f_t is whole.parts[1].f_t
    assert all(parameter.requires_grad for parameter in implicit.f_t.parameters())


def test_the_disk_is_free_again_and_nothing_stays_open() -> None:
    opened, known, mapped = len(os.listdir("/proc/self/fd")), set(memory._on_disk), mapped_files()
    moved = [to_disk([tensor(4), tensor(8)]) for _ in range(50)]
    assert len(memory._on_disk) == len(known) + 50
    assert len(os.listdir("/proc/self/fd")) == opened
    assert mapped_files() == mapped + 50
    del moved
    gc.collect()
    assert memory._on_disk == known
    assert mapped_files() == mapped


def mapped_files() -> int:
    """How many of them this process has in its address space."""
    return sum("on-disk-" in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_a_full_disk_is_put_into_words_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    state = State(Frozen(tensor(4)))
    one = state.one
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with pytest.raises(ResourceError, match="No space left"):
        to_disk(state)
    assert state.one is one


# --------------------------------------------------------------------------------------------------------------- caches


@pytest.mark.parametrize("seed", range(20))
def test_a_cache_never_has_too_much(seed: int) -> None:
    """Random use: never beyond its capacity, what is dropped is collected, and what was used last is still there."""
    chosen = random.Random(seed)
    cache: Cache[Counted[Tensor]] = Cache(chosen.randint(4, 64) * KB)
    alive: dict[int, weakref.ref[Tensor]] = {}
    for _ in range(300):
        key, size = chosen.randrange(30), chosen.choice([1, 2, 4, 8, 100])
        if chosen.random() < 0.5:
            value = tensor(size)
            alive[id(value)] = weakref.ref(value)
            cache.put(key, Counted(value, bytes_of(value)))
            assert (cache.get(key) is not None) == (size * KB <= cache.capacity)
            del value
        else:
            cache.get(key)
        there = [ref() for ref in alive.values() if ref() is not None]
        assert bytes_of(there) == cache.nbytes <= cache.capacity
        del there


def test_so_many_are_always_kept() -> None:
    cache: Cache[Counted[None]] = Cache(10, always=2)
    for key in "abc":
        cache.put(key, Counted(None, 100))
    assert [cache.get(key) is not None for key in "abc"] == [False, True, True]


def test_threads_do_not_exceed_it_together() -> None:
    cache: Cache[Counted[int]] = Cache(1000)

    def work(i: int) -> None:
        for k in range(500):
            cache.put((i * k) % 97, Counted(k, 1 + (i * k) % 400))
            assert cache.nbytes <= 1000

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_what_is_kept_is_counted_by_name() -> None:
    one: Cache[Counted[None]] = Cache(KB, "some name")
    two: Cache[Counted[None]] = Cache(KB, "some name")
    one.put("a", Counted(None, 300))
    two.put("a", Counted(None, 30))
    assert held_by_name()["some name"] == 330
    del two
    gc.collect()
    assert held_by_name()["some name"] == 300


def test_every_cache_of_the_app_is_counted_and_has_a_stated_limit() -> None:
    """Whatever the app keeps for longer than a request has a limit of `core.memory`; a new cache needs one too."""
    import app  # noqa: F401  # with all of its parts

    stated = {value for name, value in vars(memory).items() if name.startswith("MAX_")}
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(("core.", "tabs."))]
    kept = [value for module in modules for value in vars(module).values()]
    kept += [part for value in kept if isinstance(value, Kept) for part in vars(value).values()]
    found = {id(value): value for value in kept if isinstance(value, Cache)}
    counted = {id(holder) for holder in memory.holders()}
    assert len(found) >= 8
    for cache in found.values():
        assert cache.capacity in stated, cache.name
        assert cache.name != "cache"
        assert id(cache) in counted
    assert {
        "models",
        "text-to-image models",
        "instruments",
        "latents",
        "source paths",
        "analyses",
        "visits",
    } <= held_by_name().keys()


def test_nothing_else_is_kept_without_a_limit_in_bytes() -> None:
    """A memory of calls counts no bytes: it may hold what comes with the app, and nothing that visitors ask for."""
    root = Path(__file__).resolve().parents[2]
    found = set()
    for path in [*(root / "core").rglob("*.py"), *(root / "tabs").rglob("*.py"), root / "app.py"]:
        if path.parent.name == "figures":  # of a command that ends, and not of the app
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any("cache" in ast.unparse(d) for d in node.decorator_list):
                found.add(node.name)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("lru_cache", "functools.cache")):
                found.add(f"{path.name}:{node.lineno}")
    assert found == {"asset", "first_prompt", "learned"}


# ------------------------------------------------------------------------------------------------------- other machines


def test_a_machine_without_sysconf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has GlobalMemoryStatusEx; where there is nothing, a modest machine is assumed."""
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(memory, "_of_container", lambda: None)
    assert memory.machine_memory() == memory.UNKNOWN

    class Kernel:
        @staticmethod
        def GlobalMemoryStatusEx(pointer: Any) -> int:
            assert pointer._obj.length == 64  # bytes of the structure, which the function checks
            pointer._obj.total = 3 * 2**30
            return 1

    monkeypatch.setattr(memory.ctypes, "windll", type("Dll", (), {"kernel32": Kernel})(), raising=False)
    assert memory.machine_memory() == 3 * 2**30
    monkeypatch.setattr(memory, "_of_container", lambda: 2**30)
    assert memory.machine_memory() == 2**30


def test_the_package_starts_without_sysconf() -> None:
    code = "import os; del os.sysconf; import core.memory; print(core.memory.MACHINE > 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_limits_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * 2**30)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 4 * 2**30)
    for device, expected in (("cuda", 80 * 2**30), ("mps", 12 * 2**30), ("cpu", memory.MACHINE)):
        assert memory.device_memory(torch.device(device)) == expected
        assert Loader({}, device=device).capacity == expected // 4
    assert memory.free_memory(torch.device("mps")) == 8 * 2**30
    assert memory.free_memory(torch.device("cpu")) is None

    def lent(_: object) -> None:
        raise RuntimeError("not now")

    monkeypatch.setattr(torch.cuda, "get_device_properties", lent)
    assert memory.device_memory(torch.device("cuda")) == memory.MACHINE


def test_a_file_that_stays_open_is_removed_with_its_tensors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on Windows, where a file in use can be neither opened twice nor unlinked."""
    monkeypatch.setattr(memory, "KEEPS_OPEN_FILES", True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    values = torch.arange(1000.0)
    moved = to_disk([values])
    assert torch.equal(moved[0], values)
    assert len(list(tmp_path.iterdir())) == 1
    del moved
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_double_precision_is_never_asked_of_a_device_that_has_none() -> None:
    """On Apple's GPUs `.double()` fails: `core.precision` knows where to go."""
    files = {path: path.read_text(encoding="utf-8") for path in Path("core").rglob("*.py")}
    found = [
        f"{path}: {line.strip()}"
        for path, text in files.items()
        for line in text.splitlines()
        if re.search(r"(?<!cpu\(\))\.double\(\)", line) and "alphas_cumprod" not in line
    ]
    # Small matrices on the CPU, and the place itself.
    assert {line.partition(":")[0] for line in found} <= {"core/discovery/algebra.py", "core/precision.py"}, found
