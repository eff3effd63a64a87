#!/bin/sh
# Expected: from_pretrained builds a model and leaves the rest of the process alone, so that a server can train a small
#   network in one thread while another opens a model.
# Happens: what it changes while it builds, it changes for the whole process. With low_cpu_mem_usage (the default, where
#   accelerate is installed) a layer that another thread makes at that moment has no values: its weights are on the "meta"
#   device. Without, the functions of torch.nn.init do nothing, and the layer keeps whatever its memory held: no error, no
#   warning, numbers of any size, and the seed does not matter, because nothing is drawn.
# Version: diffusers 0.42.1, accelerate 1.15.0, torch 2.11.0
# Source: https://huggingface.co/docs/diffusers/main/en/api/models/overview (from_pretrained), which does not say so
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 diffusers==0.42.1 accelerate==1.15.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import threading

import diffusers
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

print("diffusers", diffusers.__version__, "torch", torch.__version__)
made = []


def layer():
    torch.manual_seed(0)
    made.append(torch.nn.Linear(64, 64).weight.detach().clone())


class Model(ModelMixin, ConfigMixin):
    """While it is built, another thread makes a layer, as it may in any server."""

    @register_to_config
    def __init__(self, width: int = 2):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)
        other = threading.Thread(target=layer)
        other.start()
        other.join()


layer()
Model().save_pretrained("model")
usual, by_hand = made
assert torch.equal(usual, by_hand), "the seed decides, as it should, where nothing is loaded"
made.clear()
for lean in (True, False):
    Model.from_pretrained("model", low_cpu_mem_usage=lean)
    weight = made[-1]
    if weight.is_meta:
        state = "without values"
    else:
        state = "as it is drawn elsewhere" if torch.equal(weight, usual) else "not initialised"
    print("low_cpu_mem_usage=%s: the layer of the other thread is %s" % (lean, state))
    assert state == ("without values" if lean else "not initialised")
PYTHON
