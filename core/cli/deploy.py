"""The app as a Space."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from ..errors import RequestError
from .output import Commands, command, follow, login, print_note


def add_to(commands: Commands) -> None:
    deploy = command(
        commands,
        "deploy",
        deploy_space,
        "Put the app of this clone into a Space of the Hub, in one commit. Log in first: hf auth login.",
    )
    deploy.add_argument("space", metavar="OWNER/NAME", help="it is made if it is not there")
    deploy.add_argument("--private", action="store_true", help="make a new Space private")
    deploy.add_argument("--hardware", metavar="NAME", help="such as cpu-basic, zero-a10g or t4-small; kept if left out")
    deploy.add_argument(
        "--secret",
        dest="secrets",
        action="append",
        default=[],
        metavar="NAME",
        help="a secret of the Space; its value is that of the environment variable, or is asked for. Repeatable",
    )
    deploy.add_argument(
        "--variable",
        dest="variables",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable of the Space, which anybody can read. Repeatable",
    )
    deploy.add_argument("--message", default="", help="of the commit")
    deploy.add_argument("--force", action="store_true", help="also over a Space that holds something else")


def deploy_space(options: argparse.Namespace) -> None:
    from ..deploy import SpaceSettings, deploy, find_clone

    clone = find_clone(Path.cwd())
    settings = SpaceSettings(
        private=options.private,
        hardware=options.hardware,
        variables=dict(_variable(text) for text in options.variables),
        secrets={name: _secret(name) for name in options.secrets},
        message=options.message,
        force=options.force,
    )
    deployed = follow(deploy(clone, options.space, login() or "", settings))
    for path in deployed.deleted:
        print_note(f"deleted: {path}")
    print(f"{deployed.address} at {deployed.revision}")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RequestError(f"“{text[:60]}” is not a variable: write NAME=VALUE.")
    return name, value


def _secret(name: str) -> str:
    """From the environment, or typed without an echo: not on the command line, where other processes can read it."""
    if name in os.environ:
        return os.environ[name]
    if not sys.stdin.isatty():
        raise RequestError(f"The secret {name} is not in the environment, and there is no terminal to ask for it.")
    return getpass.getpass(f"{name}: ")
