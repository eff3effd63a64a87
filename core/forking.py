"""Locks across a fork, those of imports among them.

On ZeroGPU every GPU job runs in a copy of the process, made by one thread while others go on: a lock that another one
holds at that moment would stay locked in the copy for ever.
"""

import importlib
import os
import sys
import threading
import weakref
from typing import Protocol


class Renewed(Protocol):
    """Something with locks. renew_locks: makes new ones, and forgets what threads of the parent were about to do."""

    def renew_locks(self) -> None: ...


_renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()


def renew_after_fork(holder: Renewed) -> None:
    """From here on, for as long as it lives, its locks are new in every fork of this process."""
    _renewed.add(holder)


class ForkedLock:
    """A lock that is new, and free, in every fork of this process."""

    def __init__(self) -> None:
        self.renew_locks()
        renew_after_fork(self)

    def renew_locks(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *raised: object) -> None:
        self._lock.release()


def _renew_all() -> None:
    for holder in list(_renewed):
        holder.renew_locks()


def forget_imports_of_others() -> None:
    """From here on a fork of this process imports anew what other threads were just importing: it would wait for them
    for ever."""
    os.register_at_fork(after_in_child=_forget_half_imported)


def _forget_half_imported() -> None:
    locks = getattr(getattr(importlib, "_bootstrap", None), "_module_locks", {})
    for name, reference in list(locks.items()):
        lock = reference()
        if getattr(lock, "owner", None) not in (None, threading.get_ident()):
            locks.pop(name, None)
            sys.modules.pop(name, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
