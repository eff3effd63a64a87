"""A model's weights against published outputs of the same network."""

from __future__ import annotations

import argparse
import json

from ..errors import ModelUnavailable
from .output import Commands, command, print_note


def add_to(commands: Commands) -> None:
    verify = command(
        commands, "verify", verify_model, "Compare a model with its published outputs: pass, fail or unknown."
    )
    verify.add_argument("model", metavar="MODEL", help="its id, a repository on the Hub, or a folder")
    verify.add_argument("--as", dest="repo", metavar="REPO", help="the repository whose weights they should be")
    verify.add_argument("--json", action="store_true", help="for programs")


def verify_model(options: argparse.Namespace) -> None:
    """Raises ModelUnavailable: the outputs are others."""
    import torch

    from ..api import load_model
    from ..models.cards import Hub
    from ..models.known_outputs import compare

    model = load_model(options.model, dtype=torch.float32)
    source = model.card.source
    repo = options.repo or (source.repo if isinstance(source, Hub) else None)
    verdict = compare(model.unet.unet, repo)
    commit = source.revision if isinstance(source, Hub) else None
    about = {**vars(verdict), "fingerprint": model.fingerprint, "commit": commit}
    print(json.dumps(about) if options.json else verdict.outcome)
    if verdict.outcome == "fail":
        raise ModelUnavailable(verdict.words)
    print_note(f"{verdict.words} Weights: {model.fingerprint}{f', commit {commit}' if commit else ''}.")
