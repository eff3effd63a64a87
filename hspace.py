"""`import hspace` and `python hspace.py` in a clone: what an installed package is and does under that name.

The library is the package `core`. Under this name it is the same one, module by module: `hspace.presets` is
`core.presets`, and not a second copy of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import core
from core.cli import main, parser

__all__ = [*core.__all__, "main", "parser"]
__path__ = core.__path__  # a package, so that `import hspace.presets` asks the finder below
__version__ = core.__version__


def __getattr__(name: str) -> Any:
    return getattr(core, name)


class _Alias(MetaPathFinder, Loader):
    """Finds `hspace.X` by importing `core.X`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith("hspace.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module("core" + spec.name.removeprefix("hspace"))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state  # its own: the import system has put ours in its place


if __name__ == "__main__":
    sys.exit(main())
sys.meta_path.insert(0, _Alias())
