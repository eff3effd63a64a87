"""SqueezeNet, LPIPS and a vision transformer in plain numpy and float64: references for the networks of libraries."""

from collections.abc import Mapping
from math import erf, sqrt

import numpy as np

Weights = Mapping[str, np.ndarray]


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: int = 1, padding: int = 0) -> np.ndarray:
    """(C, H, W) by (D, C, k, k), place by place."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    k = weight.shape[-1]
    height, width = ((side - k) // stride + 1 for side in x.shape[1:])
    out = np.zeros((len(weight), height, width))
    for i in range(height):
        for j in range(width):
            patch = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, i, j] = np.tensordot(weight, patch, axes=3)
    return out if bias is None else out + bias[:, None, None]


def max_pool(x: np.ndarray) -> np.ndarray:
    """3x3 with a stride of 2; a window that reaches beyond the end counts."""
    height, width = (-(-(side - 3) // 2) + 1 for side in x.shape[1:])
    return np.array(
        [[x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(width)] for i in range(height)]
    ).transpose(2, 0, 1)


def squeezenet(x: np.ndarray, weights: Weights) -> list[np.ndarray]:
    """The seven feature maps of SqueezeNet 1.1 that LPIPS compares. weights: of torchvision's `features`, by name."""

    def relu(y: np.ndarray) -> np.ndarray:
        return np.maximum(y, 0)

    def fire(y: np.ndarray, n: int) -> np.ndarray:
        def layer(name: str, y: np.ndarray, padding: int = 0) -> np.ndarray:
            return relu(conv(y, weights[f"{n}.{name}.weight"], weights[f"{n}.{name}.bias"], padding=padding))

        y = layer("squeeze", y)
        return np.concatenate((layer("expand1x1", y), layer("expand3x3", y, 1)))

    maps = [relu(conv(x, weights["0.weight"], weights["0.bias"], stride=2))]
    y = fire(fire(max_pool(maps[-1]), 3), 4)
    maps.append(y)
    y = fire(fire(max_pool(y), 6), 7)
    maps.append(y)
    y = fire(max_pool(y), 9)
    maps.append(y)
    for n in (10, 11, 12):
        y = fire(y, n)
        maps.append(y)
    return maps


def lpips_maps(a: np.ndarray, b: np.ndarray, weights: Weights, heads: list[np.ndarray]) -> list[np.ndarray]:
    """Of pictures (3, H, W) in [-1, 1]: per layer the weighted squared difference of unit feature vectors (h, w)."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    features = [squeezenet((x - shift[:, None, None]) / scale[:, None, None], weights) for x in (a, b)]
    unit = [[f / (np.sqrt((f**2).sum(0, keepdims=True)) + 1e-10) for f in maps] for maps in features]
    return [((p - q) ** 2 * head[:, None, None]).sum(0) for p, q, head in zip(*unit, heads, strict=True)]


def bilinear(x: np.ndarray, side: int) -> np.ndarray:
    """(C, H, W) to (C, side, side) between the four nearest pixels, centres at half pixels, without antialiasing."""
    out = np.zeros((len(x), side, side))
    for i in range(side):
        for j in range(side):
            y, z = (max((n + 0.5) * full / side - 0.5, 0) for n, full in ((i, x.shape[1]), (j, x.shape[2])))
            top, left = int(y), int(z)
            bottom, right = min(top + 1, x.shape[1] - 1), min(left + 1, x.shape[2] - 1)
            u, v = y - top, z - left
            upper = (1 - v) * x[:, top, left] + v * x[:, top, right]
            lower = (1 - v) * x[:, bottom, left] + v * x[:, bottom, right]
            out[:, i, j] = (1 - u) * upper + u * lower
    return out


def vit_keys(x: np.ndarray, w: Weights, patch: int, heads: int, layers: int) -> np.ndarray:
    """Keys (P, E) of the last block of a ViT for a picture (3, R, R); weights as transformers names them in files."""
    rows = [
        np.tensordot(w["embeddings.patch_embeddings.projection.weight"], x[:, i : i + patch, j : j + patch], axes=3)
        + w["embeddings.patch_embeddings.projection.bias"]
        for i in range(0, x.shape[1], patch)
        for j in range(0, x.shape[2], patch)
    ]
    h = np.array([w["embeddings.cls_token"][0, 0], *rows]) + w["embeddings.position_embeddings"][0]
    gelu = np.vectorize(lambda t: t * (1 + erf(t / sqrt(2))) / 2)
    for n in range(layers):
        name = f"encoder.layer.{n}."

        def linear(y: np.ndarray, layer: str, name: str = name) -> np.ndarray:
            return y @ w[f"{name}{layer}.weight"].T + w[f"{name}{layer}.bias"]

        def norm(y: np.ndarray, layer: str, name: str = name) -> np.ndarray:
            y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-6)
            return y * w[f"{name}{layer}.weight"] + w[f"{name}{layer}.bias"]

        y = norm(h, "layernorm_before")
        q, k, v = (linear(y, f"attention.attention.{part}") for part in ("query", "key", "value"))
        if n == layers - 1:
            return k
        size = q.shape[1] // heads
        out = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.exp(q[:, part] @ k[:, part].T / sqrt(size))
            out.append(scores / scores.sum(1, keepdims=True) @ v[:, part])
        h = h + linear(np.concatenate(out, axis=1), "attention.output.dense")
        h = h + linear(gelu(linear(norm(h, "layernorm_after"), "intermediate.dense")), "output.dense")
    raise ValueError("a ViT has blocks")
