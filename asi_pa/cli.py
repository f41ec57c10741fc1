"""The command ``asi-pa``: the parser, and what becomes of errors.  The verbs are in ``commands``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from asi_pa import __version__
from asi_pa.errors import INTERRUPTED, UNUSABLE, in_words, printable, say_error
from asi_pa.limits import memory_limit
from asi_pa.streams import standard_output

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, whichever verb they come from."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def command_line() -> _Parser:
    from asi_pa.commands import VERBS  # here, where Ctrl-C is caught: it takes a while

    parser = _Parser(
        prog="asi-pa",
        description="The Linux page allocator as an exact model, and what address space isolation\n"
        "does to it.  `asi-pa VERB --help` explains a verb, with examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit status: 0 good, 1 a check failed, 2 unusable input, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"asi-pa {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", parser_class=_Parser)
    for add in VERBS:
        add(verbs)
    return parser


def _of_a_design(error: Exception) -> str | None:
    """What a user's design file did wrong while it was at work, and where; None if it did nothing."""
    from asi_pa.designs.words import place_in_file

    place = place_in_file(error.__traceback__)
    if place is None:
        return None
    return f"{place[0]}, line {place[1]}: {type(error).__name__}: {in_words(error)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns the exit status: 0 good, 1 a check failed, 2 unusable input (one line on stderr says
    which file, line or value), 130 interrupted.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        with standard_output():
            from asi_pa.commands.overwriting import refuse_overwriting

            parser = command_line()
            args = parser.parse_args(words)
            if "run" not in args:
                parser.print_help(sys.stderr)
                return UNUSABLE
            args.command_line = ["asi-pa", *map(printable, words)]
            refuse_overwriting(args)
            run: Callable[[argparse.Namespace], int] = args.run
            with memory_limit(getattr(args, "max_memory", None)):
                return run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError as error:
        say_error(in_words(error) or "not enough memory for a machine of this size")
        return UNUSABLE
    except Exception as error:
        blamed = _of_a_design(error)
        if blamed is None and not isinstance(error, (ValueError, OSError, ImportError)):
            raise
        say_error(blamed or in_words(error))
        return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
