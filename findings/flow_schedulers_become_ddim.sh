#!/bin/sh
# Expected: `DDIMScheduler.from_config` of a scheduler whose noise levels are no betas (score SDE, flow matching, EDM,
#   consistency) is refused, or at least warned of: such networks know no alpha-bar, and DDIM needs one.
# Happens: it answers with DDIM's own defaults, 1000 linear betas from 0.0001 to 0.02, without a warning, so that a
#   network is sampled and inverted at noise levels that it has never seen. The class that the configuration names is
#   there to be read (`_class_name`), and the schedulers list what they are compatible with; neither is looked at.
# Version: diffusers 0.42.1, torch 2.11.0
# Source: https://huggingface.co/docs/diffusers/api/schedulers/overview ("from_config", compatible schedulers)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.11.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import warnings

import diffusers
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    ScoreSdeVeScheduler,
)

print("diffusers", diffusers.__version__, "torch", torch.__version__)
usual = DDIMScheduler(num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
others = (ScoreSdeVeScheduler, FlowMatchEulerDiscreteScheduler, EDMEulerScheduler)
for kind in (*others, CMStochasticIterativeScheduler):
    scheduler = kind()
    assert not hasattr(scheduler, "alphas_cumprod"), "it has no alpha-bar of its own"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        made = DDIMScheduler.from_config(scheduler.config)
    same = torch.equal(made.alphas_cumprod, usual.alphas_cumprod)
    listed = DDIMScheduler in scheduler.compatibles
    print(f"{kind.__name__}: DDIM's default betas: {same}, warnings: {len(warned)}, listed as compatible: {listed}")
    assert same
    assert not warned
    assert not listed
PYTHON
