#!/bin/sh
# Expected: forward-mode differentiation (torch.func.jvp) of a network gives the same product whatever the memory format
#   of its input, as the network itself and reverse mode do.
# Happens: group_norm alone raises "view size is not compatible with input tensor's size and stride" for a channels-last
#   input. Layer, instance norm, convolutions and pooling take it. A U-Net in channels-last memory has no Jacobian-vector
#   product until its input, or the norm's, is made contiguous.
# Version: torch 2.11.0
# Source: https://docs.pytorch.org/docs/2.11/generated/torch.func.jvp.html, which names no such limit
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import torch
from torch.func import jvp, vjp
from torch.nn import functional as F

print("torch", torch.__version__)


def normalised(x):
    return F.group_norm(x, 4)


torch.manual_seed(0)
x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
v = torch.randn_like(x)
last = x.contiguous(memory_format=torch.channels_last)

_, product = jvp(normalised, (x,), (v,))
h = 1e-6
differences = (normalised(x + h * v) - normalised(x - h * v)) / (2 * h)
print("contiguous, error against differences: %.1e" % (product - differences).abs().max())
assert (product - differences).abs().max() < 1e-8

forward = (normalised(last) - normalised(x)).abs().max()
backward = (vjp(normalised, last)[1](v)[0] - vjp(normalised, x)[1](v)[0]).abs().max()
print("channels-last, value and reverse mode differ by %.1e and %.1e" % (forward, backward))
assert max(forward, backward) < 1e-12

try:
    jvp(normalised, (last,), (v,))
except RuntimeError as error:
    print("channels-last, forward mode:", str(error).split(".")[0])
    assert "view size is not compatible" in str(error)
else:
    raise SystemExit("forward mode of group_norm takes channels-last inputs now")
PYTHON
