#!/bin/sh
# Expected: a sampler predicts the noise at the level that its last step went to. With a network that names the noise
#   exactly, DDIM then gives back the picture exactly, with any number of steps and any spacing that it offers.
# Happens: DDIMScheduler.step goes down by 1000 // steps, whatever `set_timesteps` has laid out. With spacing "linspace",
#   and with "trailing" (which few-step models ask for) where steps do not divide 1000, the levels part: 30 steps are off
#   by 0.06 ("trailing") and 0.28 ("linspace") of a range of 2, and 600 steps leave the picture in noise. "leading" is
#   exact, and so is DPMSolverMultistepScheduler of order 1, which is DDIM by another name, with each of them.
# Version: diffusers 0.42.1, torch 2.11.0
# Source: https://arxiv.org/abs/2010.02502, equation 12; https://github.com/huggingface/diffusers/issues/12633
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.11.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

print("diffusers", diffusers.__version__, "torch", torch.__version__)
levels = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
torch.manual_seed(0)
picture = torch.rand(1, 3, 16, 16, dtype=torch.float64) * 2 - 1
noise = torch.randn_like(picture)


def error(scheduler, steps):
    """Largest difference from the picture, after sampling with a network that always names the noise."""
    scheduler.set_timesteps(steps)
    alpha = scheduler.alphas_cumprod[scheduler.timesteps[0]].double()
    x = alpha.sqrt() * picture + (1 - alpha).sqrt() * noise
    for t in scheduler.timesteps:
        x = scheduler.step(noise, t, x).prev_sample
    return (x - picture).abs().max().item()


off = {}
for spacing in ("leading", "trailing", "linspace"):
    for steps in (20, 30, 50, 600):
        ddim = DDIMScheduler(timestep_spacing=spacing, clip_sample=False, **levels)
        first_order = DPMSolverMultistepScheduler(timestep_spacing=spacing, solver_order=1, **levels)
        off[spacing, steps] = error(ddim, steps)
        other = error(first_order, steps)
        print(f"{spacing}, {steps} steps: DDIM off by {off[spacing, steps]:.6f}, DPM-Solver of order 1 by {other:.6f}")
        assert other < 1e-3
exact = {(spacing, steps) for (spacing, steps), size in off.items() if size < 1e-3}
assert exact == {*(("leading", n) for n in (20, 30, 50, 600)), ("trailing", 20), ("trailing", 50)}, exact
assert off["trailing", 30] > 0.03 and off["linspace", 30] > 0.1 and off["trailing", 600] > 1
PYTHON
