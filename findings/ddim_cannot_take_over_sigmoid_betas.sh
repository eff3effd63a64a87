#!/bin/sh
# Expected: what DDPM was trained with, DDIM can sample and invert: its paper needs nothing but the same alpha-bar, and
#   diffusers lists the two schedulers as compatible, to be exchanged by `from_config`.
# Happens: `beta_schedule="sigmoid"` is documented and built by DDPMScheduler; DDIMScheduler, DDIMInverseScheduler and
#   other fast samplers raise NotImplementedError for it. The levels can be handed over as `trained_betas`: then DDIM has
#   DDPM's alpha-bar to the last bit.
# Version: diffusers 0.42.1, torch 2.11.0
# Source: https://huggingface.co/docs/diffusers/api/schedulers/ddim; https://arxiv.org/abs/2010.02502, section 4
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.11.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

print("diffusers", diffusers.__version__, "torch", torch.__version__)
trained = DDPMScheduler(beta_schedule="sigmoid")
assert DDIMScheduler in trained.compatibles
print("DDPM: alpha-bar from", float(trained.alphas_cumprod[0]), "to", float(trained.alphas_cumprod[-1]))
for kind in (DDIMScheduler, DDIMInverseScheduler, DPMSolverMultistepScheduler):
    try:
        kind.from_config(trained.config)
    except NotImplementedError as error:
        print(f"{kind.__name__}: {str(error).split(' for ')[0]}")
    else:
        raise SystemExit(f"{kind.__name__} takes sigmoid betas now")
given = DDIMScheduler.from_config(trained.config, beta_schedule="linear", trained_betas=trained.betas.numpy())
print("given as trained_betas: the same alpha-bar:", torch.equal(given.alphas_cumprod, trained.alphas_cumprod))
assert torch.equal(given.alphas_cumprod, trained.alphas_cumprod)
PYTHON
