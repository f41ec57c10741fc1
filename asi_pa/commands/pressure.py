"""``asi-pa pressure``: a trace of a machine short of memory, in two readings."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from asi_pa.commands.options import Verbs, add_verb
from asi_pa.errors import GOOD

__all__ = ["add_pressure"]


def add_pressure(verbs: Verbs[Any]) -> None:
    """The verb pressure."""
    parser = add_verb(
        verbs,
        "pressure",
        _pressure,
        "a trace of a machine that reclaimed and compacted, beside its counters",
        """
Replays a trace that was recorded while memory was short, twice: with its frees as they were recorded, and
with what reclaim freed left out, so that the model reclaims and compacts by itself. Both stand beside what
the recorded machine counted (--vmstat: a JSON file with the differences of /proc/vmstat over the recording).

Examples:
  asi-pa pressure press-thp.trace --vmstat press-thp.vmstat.json
  asi-pa pressure press-thp.trace --memory 3G --json
""",
    )
    parser.add_argument("trace", metavar="TRACE", help="with snapshots of the machine at its start")
    parser.add_argument("--vmstat", metavar="FILE", help="differences of /proc/vmstat, a JSON object")
    parser.add_argument("--design", metavar="NAME", default="linux", help="(linux)")
    parser.add_argument("--kernel", metavar="VERSION", help="the rules (the trace's own)")
    parser.add_argument("--memory", metavar="SIZE", help="of the modelled reading (the recorded machine)")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _pressure(args: argparse.Namespace) -> int:
    from asi_pa.experiment.pressure import pressure, pressure_text
    from asi_pa.experiment.vmstat import read_vmstat
    from asi_pa.trace import load_trace

    vmstat = read_vmstat(args.vmstat) if args.vmstat else None
    result = pressure(
        load_trace(args.trace),
        args.design,
        memory=args.memory,
        kernel=args.kernel,
        vmstat=vmstat,
        progress=lambda what: print(f"asi-pa: {what}", file=sys.stderr) if sys.stderr.isatty() else None,
    )
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if args.json else pressure_text(result))
    return GOOD
