"""One script through a kernel and through the engine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oracle.recorded import Arrays, record, save
from oracle.script import Script
from oracle.source import Source

if TYPE_CHECKING:
    from asi_pa.verify import Verdict

__all__ = ["Compared", "compare", "compare_arrays"]


@dataclass(frozen=True)
class Compared:
    """What a kernel and the engine made of a script."""

    arrays: Arrays
    verdict: Verdict | None
    """None: the recorded run was refused."""
    refused: str = ""

    @property
    def difference(self) -> str:
        """The first difference in words; empty where there is none."""
        return self.refused or (self.verdict.difference if self.verdict else "")

    @property
    def at(self) -> int:
        """The operation where it shows."""
        return self.verdict.at if self.verdict else len(self.arrays["ops"]) - 1


def compare(source: Source, script: Script, rules: str = "") -> Compared:
    """Records a script and replays it; ``rules`` are those of another version than the kernel's own.

    Raises KernelError where the kernel fails.
    """
    return compare_arrays(record(source.image, script, rules or source.version))


def compare_arrays(arrays: Arrays) -> Compared:
    """A recorded run that is in memory, verified as one in a file is."""
    from asi_pa.verify import verify_file

    with tempfile.TemporaryDirectory(prefix="asi-pa-oracle-") as folder:
        path = Path(folder, "run.npz")
        save(path, arrays, small=False)
        try:
            return Compared(arrays, verify_file(path))
        except ValueError as error:
            return Compared(arrays, None, f"the recorded run was refused: {error}")
