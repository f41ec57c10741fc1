"""The command ``asi-pa``: parses arguments, calls the modules, turns errors into one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from asi_pa import __version__

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asi-pa",
        description="The Linux page allocator as an exact model, and what address space isolation does to it.",
    )
    parser.add_argument("--version", action="version", version=f"asi-pa {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 good, 1 a check failed, 2 unusable input)."""
    parser = _parser()
    parser.parse_args(argv)
    parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main())
