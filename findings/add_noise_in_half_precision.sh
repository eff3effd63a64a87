#!/bin/sh
# Expected: add_noise gives sqrt(alpha-bar) x + sqrt(1 - alpha-bar) noise in whatever precision a picture has: off by the
#   rounding of the picture, that is, by half a per cent of the noise at most.
# Happens: it rounds alpha-bar to the precision of the picture before it takes 1 minus it. With the levels of Stable
#   Diffusion in bfloat16 the first two levels get no noise at all and the third a quarter too much; in float16 the first
#   ones are off by 2 to 7 per cent. Inversions that draw every noise level by themselves (edit-friendly DDPM) and
#   training take their targets from it. `step` of the same scheduler computes with alpha-bar in float32.
# Version: diffusers 0.42.1, torch 2.11.0
# Source: https://arxiv.org/abs/2006.11239, equation 4; https://huggingface.co/docs/diffusers/api/schedulers/ddpm
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.11.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers import DDIMScheduler

print("diffusers", diffusers.__version__, "torch", torch.__version__)
scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
torch.manual_seed(0)
noise = torch.randn(100, 3, 16, 16)
ratios = {}
for precision in (torch.float32, torch.float16, torch.bfloat16):
    given = noise.to(precision)
    for t in (0, 1, 2, 5, 500):
        noisy = scheduler.add_noise(torch.zeros_like(given), given, torch.full((100,), t))
        asked = (1 - scheduler.alphas_cumprod[t]).sqrt() * given.float()
        ratios[precision, t] = (noisy.float().norm() / asked.norm()).item()
        print(f"{precision}, t = {t}: {ratios[precision, t]:.3f} of the noise")
for t in (0, 1, 2, 5, 500):
    assert abs(ratios[torch.float32, t] - 1) < 1e-4
assert ratios[torch.bfloat16, 0] == ratios[torch.bfloat16, 1] == 0 and ratios[torch.bfloat16, 2] > 1.2
assert max(abs(ratios[torch.float16, t] - 1) for t in (0, 1, 2)) > 0.05
assert all(abs(ratios[precision, 500] - 1) < 0.01 for precision in (torch.float16, torch.bfloat16))
PYTHON
