"""Outputs that would destroy what was asked for: an input written over, two results in one file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from asi_pa.commands.options import OutputPath

__all__ = ["refuse_overwriting"]

#: Options whose words name no inputs.
_NO_INPUTS = ("command", "command_line", "description", "verb")


def refuse_overwriting(args: argparse.Namespace) -> None:
    """ValueError if an output is one of the inputs, by whatever name, or two outputs are one file.

    Devices and pipes may be named twice; they hold nothing that could be lost.
    """
    outputs = [value for value in vars(args).values() if isinstance(value, OutputPath)]
    inputs = {_identity(path): path for path in _inputs(args) if os.path.isfile(path)}
    seen: dict[object, str] = {}
    for path in outputs:
        if os.path.exists(path) and not os.path.isfile(path):
            continue
        identity = _identity(path)
        if identity in inputs:
            raise ValueError(f"{path}: is also read ({inputs[identity]}); it would be written over")
        if identity in seen:
            raise ValueError(f"{path}: two results are to go there ({seen[identity]} is the same file)")
        seen[identity] = path


def _identity(path: str) -> object:
    """The same for all names of a file: what it is where it exists, where it would be where not."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def _inputs(args: argparse.Namespace) -> Iterator[str]:
    """Every word that may name a file to read: traces and their pieces, designs in files, tables."""
    for name, value in vars(args).items():
        if name in _NO_INPUTS:
            continue
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and not isinstance(word, OutputPath):
                yield from (word, *word.split("+"), word.rpartition(":")[0])
