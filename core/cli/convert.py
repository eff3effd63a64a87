"""A checkpoint of an iDDPM or ADM network as a folder of diffusers."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import RequestError
from .output import Commands, command, print_note


def add_to(commands: Commands) -> None:
    convert = command(
        commands, "convert", convert_checkpoint, "Turn an iDDPM, ADM or P2 checkpoint into a folder of diffusers."
    )
    convert.add_argument("source", type=Path, metavar="FILE.pt")
    convert.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    convert.add_argument("--resolution", type=int, help="of its pictures, if h is not 8x8")
    convert.add_argument("--head-channels", type=int, help="channels of each attention head (64 for ADM and P2)")
    convert.add_argument("--heads", type=int, help="attention heads (4 for iDDPM)")
    convert.add_argument("--new-attention-order", action="store_true", help="as the training code calls it")
    convert.add_argument("--train-steps", type=int, help="noise levels that it was trained with (1000)")
    convert.add_argument("--noise-schedule", choices=["linear", "cosine"], help="of its betas (linear)")
    convert.add_argument(
        "--rescale-timesteps", action="store_true", help="it was told 1000 t / T, as iDDPM's code does by default"
    )
    convert.add_argument("--class", type=int, dest="chosen_class", metavar="N", help="of a class-conditional network")
    convert.add_argument("--domain-word", default="picture", help="what its pictures show: face, dog")
    convert.add_argument("--curves", metavar="NAME", help="published intervals of these weights: AFHQ, METFACES, ...")
    convert.add_argument("--licence", default="unknown", help="of the weights")


def convert_checkpoint(options: argparse.Namespace) -> None:
    from ..models.conversion import Training, convert_file

    if options.out.exists():
        raise RequestError(f"{options.out} is there already. Choose another name.")
    said = options.train_steps is not None or options.noise_schedule is not None or options.rescale_timesteps
    steps = 1000 if options.train_steps is None else options.train_steps
    training = Training(steps, options.noise_schedule or "linear", options.rescale_timesteps)
    made = convert_file(
        options.source,
        options.out,
        heads=options.heads,
        head_channels=options.head_channels,
        size=options.resolution,
        new_order=options.new_attention_order,
        chosen_class=options.chosen_class,
        training=training if said else None,
        domain_word=options.domain_word,
        curves=options.curves,
        licence=options.licence,
    )
    found = made.architecture
    print_note(f"found: channels {found.channels}, {found.blocks} residual blocks per level, {found.classes} classes")
    for guess in made.guesses:
        print_note(f"assumed: {guess}")
    print_note(f"fingerprint: {made.fingerprint}")
    print(made.folder)
