"""The command ``asi-pa``: parses arguments, calls the modules, turns errors into one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from asi_pa import __version__

__all__ = ["main"]

GOOD, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, whichever verb they come from."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} (see {self.prog} --help)")


class _UsageError(ValueError):
    pass


def _add(
    verbs: argparse._SubParsersAction[_Parser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    text: str,
) -> _Parser:
    """A verb: ``summary`` for the overview, ``text`` (paragraphs, then examples) for its own --help."""
    description, _, examples = text.partition("\nExamples:\n")
    parser = verbs.add_parser(
        name,
        help=summary,
        description=description.strip("\n"),
        epilog=f"examples:\n{examples.rstrip()}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _designs(args: argparse.Namespace) -> int:
    from asi_pa.describe import describe_design, diff_designs, list_designs

    if not args.names:
        sys.stdout.write(list_designs())
    elif len(args.names) == 1:
        sys.stdout.write(describe_design(args.names[0]))
    elif len(args.names) == 2:
        sys.stdout.write(diff_designs(*args.names))
    else:
        raise ValueError(f"designs: one name describes, two compare; got {len(args.names)}")
    return GOOD


def _add_designs(verbs: argparse._SubParsersAction[_Parser]) -> None:
    parser = _add(
        verbs,
        "designs",
        _designs,
        "list the designs, print one's tables, or compare two",
        """
Without a name: the built-in designs, one a line. With one: its tables, one fact a line - the kinds of
free list, where requests look first, who may take from whom, how blocks change sides - and the posting
it follows. With two: the lines in which they differ.

Examples:
  asi-pa designs
  asi-pa designs migratetype/as-posted
  asi-pa designs migratetype/as-posted migratetype/sound
""",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="a design, as the plain list names them")


def _parser() -> _Parser:
    parser = _Parser(
        prog="asi-pa",
        description="The Linux page allocator as an exact model, and what address space isolation\n"
        "does to it.  `asi-pa VERB --help` explains a verb, with examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit status: 0 good, 1 a check failed, 2 unusable input, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"asi-pa {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", parser_class=_Parser)
    _add_designs(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns the exit status: 0 good, 1 a check failed, 2 unusable input (one line on stderr says
    which file, line or value), 130 interrupted.
    """
    try:
        parser = _parser()
        args = parser.parse_args(argv)
        if "run" not in args:
            parser.print_help(sys.stderr)
            return UNUSABLE
        run: Callable[[argparse.Namespace], int] = args.run
        status = run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`): nothing more can be said, and nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD
    except MemoryError:
        return _refuse("not enough memory for a machine of this size")
    except (ValueError, OSError) as error:
        return _refuse(_in_words(error))
    return status


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _refuse(message: str) -> int:
    print(f"asi-pa: error: {message}", file=sys.stderr)
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
