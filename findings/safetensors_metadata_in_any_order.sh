#!/bin/sh
# Expected: the same tensors with the same metadata are the same file, so that a content hash says whether two weights,
#   adapters or latents are the same, and a repository is not given a new version of what did not change.
# Happens: the order of the metadata's keys is drawn anew at every call. With three keys two calls in one process differ
#   more often than not; the tensors' part of the header and the numbers themselves are always the same.
# Version: safetensors 0.8.0
# Source: https://github.com/huggingface/safetensors (format: "__metadata__", a map of text to text; no order is named)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import json

import numpy as np
import safetensors
from safetensors.numpy import save

print("safetensors", safetensors.__version__)
weights = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
metadata = {"format": "pt", "base_model": "a model", "step": "1000"}
files = {save(weights, metadata) for _ in range(200)}


def parts(data):
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    return list(header.pop("__metadata__")), header, data[end:]


orders = {tuple(parts(data)[0]) for data in files}
print("200 files of the same content:", len(files), "different ones, orders of the metadata:", len(orders))
assert len(files) == len(orders) > 1
assert len({json.dumps(parts(data)[1:2]) for data in files}) == 1, "what the header says of the tensors is the same"
assert len({parts(data)[2] for data in files}) == 1, "and so are the numbers"
one = {save(weights, {"format": "pt"}) for _ in range(200)}
print("with a single key:", len(one))
assert len(one) == 1
PYTHON
