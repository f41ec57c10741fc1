"""``asi-pa field``: what the field waits for, all designs side by side."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from asi_pa.commands.options import Verbs, add_designs_options, add_verb, output, write_json
from asi_pa.errors import GOOD

__all__ = ["add_field"]

#: The built-in designs, and today's secretmem: page by page, absent from the direct map.
_SECRETMEM = "per-page:tree=unrestricted"


def add_field(verbs: Verbs[Any]) -> None:
    """The verb field."""
    parser = add_verb(
        verbs,
        "field",
        _field,
        "secretmem against fragmentation, guests without a direct map: all designs side by side",
        """
secretmem-vs-frag: protected pages until requests get nothing on an idle machine, between 64 KiB pieces that
compaction may move, and between pinned ones (90 % of free memory is filled with them, every second one
freed); and how many 2M pages user memory gets after protected memory was freed.

guest: a guest's memory populated page by page and torn down at once: flushes, splits, flips, the modelled
time against a page fault at 4 to 192 CPUs, the memory blocks and 1 GiB ranges that an unmapped page spoils,
and the memory stranded on the protected side while user memory fills the machine.

In designs of the restricted tree "protected" is what they keep least of, nonsensitive memory.

Examples:
  asi-pa field secretmem-vs-frag
  asi-pa field guest --size 1G --memory 4G --designs unmapped/v4,ours/two-way,pool/sound
  asi-pa field guest --json guest.json
""",
    )
    parser.add_argument("scenario", choices=("secretmem-vs-frag", "guest"), metavar="SCENARIO")
    add_designs_options(parser)
    parser.add_argument("--memory", metavar="SIZE", help="of the machine, one zone (1G; for guest 2G)")
    parser.add_argument("--size", metavar="SIZE", default="512M", help="of the guest (512M)")
    parser.add_argument("--costs", metavar="FILE", help="costs of your own (docs/use/costs.md)")
    parser.add_argument("--json", metavar="FILE", type=output, help="write the numbers there too")


def _field(args: argparse.Namespace) -> int:
    from asi_pa.experiment import guest, secretmem
    from asi_pa.experiment.costs import load_costs
    from asi_pa.experiment.starvation import ALL_DESIGNS

    designs = args.designs or (*ALL_DESIGNS[:1], _SECRETMEM, *ALL_DESIGNS[1:])
    rows: list[Any]
    if args.scenario == "guest":
        memory = args.memory or "2G"
        rows = guest.guest(designs, memory, args.size, costs=load_costs(args.costs))
        text, made = guest.guest_text(rows), guest.as_json(rows)
    else:
        memory = args.memory or "1G"
        rows = secretmem.secretmem(designs, memory)
        text, made = secretmem.secretmem_text(rows), secretmem.as_json(rows)
    sys.stdout.write(text)
    if args.json:
        write_json(
            args.json, {"schema": "asi_pa.field/1", "scenario": args.scenario, "memory": memory, "rows": made}
        )
    return GOOD
