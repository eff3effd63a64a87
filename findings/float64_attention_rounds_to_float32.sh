#!/bin/sh
# Expected: a network that is cast to float64 computes in float64, so that it can serve as the reference of a derivative
#   or of a sampler.
# Happens: the attention layers of diffusers' UNet2DModel are built with upcast_softmax=True, and with the plain processor
#   "up" means to float32: scores in float64 are rounded to it and the result is called float64 again. Errors of 1e-8
#   where 1e-16 is expected make finite differences with a step of 1e-6 wrong by per cents. The fused processor, which is
#   the default, does not round; but it is the plain one that forward-mode differentiation needs.
# Version: diffusers 0.42.1, torch 2.11.0
# Source: https://huggingface.co/docs/diffusers/main/en/api/attnprocessor ("upcast the softmax computation to float32")
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 diffusers==0.42.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

print("diffusers", diffusers.__version__, "torch", torch.__version__)
torch.manual_seed(0)
unet = UNet2DModel(
    sample_size=8,
    block_out_channels=(16, 16),
    norm_num_groups=8,
    attention_head_dim=8,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)
unet.double().eval().requires_grad_(False)
attention = [module for module in unet.modules() if isinstance(module, Attention)]
assert attention and all(module.upcast_softmax for module in attention)
x, v = torch.randn(2, 1, 3, 8, 8, dtype=torch.float64)


def outputs(processor, upcast, x):
    for module in attention:
        module.set_processor(processor())
        module.upcast_softmax = upcast
    return unet(x, 500).sample


def derivative(*how):
    h = 1e-7
    return (outputs(*how, x + h * v) - outputs(*how, x - h * v)) / (2 * h)


plain, exact, fused = ((AttnProcessor, True), (AttnProcessor, False), (AttnProcessor2_0, True))
reference = outputs(*exact, x)
assert reference.dtype == outputs(*plain, x).dtype == torch.float64
errors = [(outputs(*how, x) - reference).abs().max().item() for how in (plain, fused)]
print("error of the output: plain %.1e, fused %.1e" % tuple(errors))
slope = derivative(*exact)
wrong = [((derivative(*how) - slope).norm() / slope.norm()).item() for how in (plain, fused)]
print("relative error of a difference quotient: plain %.1e, fused %.1e" % tuple(wrong))
assert errors[0] > 1e-10 and errors[1] < 1e-14, "float64 attention is no longer rounded to float32"
assert wrong[0] > 100 * wrong[1]
PYTHON
