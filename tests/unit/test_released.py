"""The Asyrp authors' files: the same function as theirs, re-implemented here from its description, and nothing run."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from asyrp_files import ASYRP
from torch import Tensor

from core import presets
from core.asyrp.released import read_released
from core.errors import PresetError

RELEASED = sorted(ASYRP.glob("*.pth"))
State = dict[str, Tensor]


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Of 32 groups, by its definition. x: (B, C, H, W) in float64."""
    groups = x.reshape(len(x), 32, -1)
    centred = groups - groups.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """1x1: a matrix applied at every place."""
    return torch.einsum("oc,bchw->bohw", weight[:, :, 0, 0], x) + bias[:, None, None]


def swish(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def theirs(state: State, h: Tensor, emb: Tensor) -> Tensor:
    """What the authors' block computes, of either form, in float64."""
    s = {name: value.double() for name, value in state.items()}
    h, emb = h.double(), emb.double()
    if "conv1.weight" in s:
        z = convolution(h, s["conv1.weight"], s["conv1.bias"])
        z = z + (swish(emb) @ s["temb_proj.weight"].T + s["temb_proj.bias"])[:, :, None, None]
        z = swish(group_norm(z, s["norm2.weight"], s["norm2.bias"], 1e-6))
        return convolution(z, s["conv2.weight"], s["conv2.bias"])
    z = swish(group_norm(h, s["in_layers.0.weight"], s["in_layers.0.bias"], 1e-5))
    z = convolution(z, s["in_layers.2.weight"], s["in_layers.2.bias"])
    z = z + (swish(emb) @ s["emb_layers.1.weight"].T + s["emb_layers.1.bias"])[:, :, None, None]
    z = swish(group_norm(z, s["out_layers.0.weight"], s["out_layers.0.bias"], 1e-5))
    return convolution(z, s["out_layers.3.weight"], s["out_layers.3.bias"])


def state(form: str, channels: int = 64, width: int = 48) -> State:
    """Random weights in the authors' layout."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[-1 if len(shape) < 3 else 1] ** 0.5

    norm1, conv1, emb, norm2, conv2 = {
        "ddpm++": (None, "conv1", "temb_proj", "norm2", "conv2"),
        "adm": ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"),
    }[form]
    made = {norm1: (channels,), conv1: (channels, channels, 1, 1), emb: (channels, width), norm2: (channels,)}
    made[conv2] = (channels, channels, 1, 1)
    tensors = {}
    for name, shape in made.items():
        if name is not None:
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = random(*shape), random(channels)
    return tensors


def agree(read: Any, weights: State) -> None:
    generator = torch.Generator().manual_seed(1)
    channels = weights["conv1.weight" if "conv1.weight" in weights else "in_layers.2.weight"].shape[1]
    width = weights["temb_proj.weight" if "temb_proj.weight" in weights else "emb_layers.1.weight"].shape[1]
    h, emb = torch.randn(2, channels, 8, 8, generator=generator), torch.randn(2, width, generator=generator)
    expected = theirs(weights, h, emb)
    assert expected.std() > 1e-3, "or this shows nothing"
    for t in (999, 400):
        assert (read.delta_h(h, emb, t) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("form", ["ddpm++", "adm"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["training", "bare"])
def test_the_same_function(form: str, wrapped: bool, tmp_path: Path) -> None:
    weights = state(form)
    left_over = {"optimizer": {"state": {0: {"momentum_buffer": None}}}, "scheduler": {"gamma": 0.9, "verbose": False}}
    torch.save({"0": weights, **left_over} if wrapped else weights, tmp_path / "a.pth")
    read = read_released(tmp_path / "a.pth")
    assert (read.kind, read.steps) == ("implicit", 40)
    agree(read, weights)


@pytest.mark.parametrize("form", ["ddpm++", "adm"])
def test_as_a_preset_it_comes_back_as_it_was(form: str, tmp_path: Path) -> None:
    torch.save(state(form), tmp_path / "a.pth")
    made = presets.Preset(read_released(tmp_path / "a.pth"), name="A", model="m", fingerprint="f")
    agree(presets.load(presets.save(made, tmp_path / "a.safetensors")).direction, state(form))


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_the_files_that_the_authors_distribute(path: Path, tmp_path: Path) -> None:
    weights = torch.load(path, weights_only=True, map_location="cpu")["0"]
    read = read_released(path)
    agree(read, weights)
    made = presets.Preset(read, name=path.stem, model="m", fingerprint="f")
    agree(presets.load(presets.save(made, tmp_path / "a.safetensors")).direction, weights)


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"0": state("ddpm++"), "more": Trap(sprung)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(PresetError, match="more than numbers, or is damaged"):
            read_released(tmp_path / name)
    assert not sprung.exists()


def test_files_that_are_none(tmp_path: Path) -> None:
    def refused(content: Any, words: str) -> None:
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(PresetError, match=words):
            read_released(tmp_path / "a.pth")

    good = state("ddpm++")
    refused([1, 2], "no state dictionary")
    refused({"0": [good]}, "no state dictionary")
    refused({"weight": torch.zeros(3)}, "damaged")
    refused({name: value for name, value in good.items() if name != "norm2.bias"}, "damaged")
    refused({**good, "surplus.weight": torch.zeros(3)}, "damaged")
    refused({**good, "conv2.weight": torch.zeros(64, 32, 1, 1)}, "damaged")
    refused({**good, "conv2.bias": torch.full((64,), torch.nan)}, "not finite")
    refused({**good, "conv1.weight": torch.zeros(64, 64, 3, 3)}, "damaged")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:1000])
    for name in ("cut.pth", "nothing.pth", ""):
        with pytest.raises(PresetError, match="damaged|not a file"):
            read_released(tmp_path / name)
