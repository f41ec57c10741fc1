"""The three /proc texts: printed as a kernel prints them, read back, and refused when broken."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asi_pa.kernel import procfs

FORMS: dict[str, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    "buddyinfo": (procfs.parse_buddyinfo, procfs.buddyinfo),
    "pagetypeinfo": (procfs.parse_pagetypeinfo, procfs.pagetypeinfo),
    "zoneinfo": (procfs.parse_zoneinfo, procfs.zoneinfo),
}

ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 40080
      nr_mapped    5902
  pages free     3840
        boost    0
        min      44
        low      55
        high     66
        promo    77
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 3019, 5707, 5707, 5707)
      nr_free_pages 3840
      nr_mlock     0
  pagesets
    cpu: 0
              count:    0
              high:     0
              batch:    1
              high_min: 27
              high_max: 240
  vm stats threshold: 4
    cpu: 1
              count:    3
              high:     0
              batch:    1
              high_min: 27
              high_max: 240
  vm stats threshold: 4
  node_unreclaimable:  0
  start_pfn:           1
Node 0, zone  Movable
  pages free     0
        boost    0
        min      32
        low      32
        high     32
        promo    32
        spanned  0
        present  0
        managed  0
        cma      0
        protection: (0, 0, 0, 0, 0)
"""

PAGETYPEINFO = """\
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0      1      2 \n\
Node    0, zone      DMA, type    Unmovable      0      7 >100000 \n\
Node    0, zone      DMA, type      Movable  12345      0      1 \n\

Number of blocks type     Unmovable      Movable \n\
Node 0, zone      DMA            1            7 \n"""


@pytest.mark.parametrize("name", FORMS)
def test_this_machines_own_text_survives_a_round_trip(name):
    try:
        text = Path("/proc", name).read_text()
    except OSError as error:
        pytest.skip(str(error))
    parse, write = FORMS[name]
    assert text
    assert write(parse(text)) == text


def test_buddyinfo_text():
    line = "Node 0, zone   Normal   6541   3177      0 \n"
    zone = procfs.BuddyZone(0, "Normal", (6541, 3177, 0))
    assert procfs.buddyinfo([zone]) == line
    assert procfs.parse_buddyinfo(line) == [zone]


#: Read at one moment on a machine with Linux 6.18.
READ = """\
Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3 
Node 0, zone    DMA32      1      1      4      2      5      4      3      3      4      2    752 
Node 0, zone   Normal  64668  36726  39002  17595   6660   1974    804    232     52    100    381 
"""  # noqa: W291
UNUSABLE = """\
Node 0, zone      DMA 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.066 0.200 
Node 0, zone    DMA32 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.001 0.002 0.003 
Node 0, zone   Normal 0.000 0.056 0.121 0.257 0.381 0.474 0.530 0.575 0.601 0.613 0.657 
"""  # noqa: W291
#: The same machine when blocks of orders 9 and 10 were gone: buddyinfo and both indexes at one moment.
SHORT = """\
Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3 
Node 0, zone    DMA32   1253    973    582    325    286    608    338    153     17     13      9 
Node 0, zone   Normal   4320   3515   2336   1263    447     18      4      2      1      0      0 
"""  # noqa: W291
EXTFRAG = """\
Node 0, zone      DMA -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 
Node 0, zone    DMA32 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 
Node 0, zone   Normal -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000 -1.000  0.994  0.997 
"""  # noqa: W291


def test_debugfs_texts_are_the_kernels():
    zones = procfs.parse_buddyinfo(READ)
    assert procfs.buddyinfo(zones) == READ
    assert procfs.unusable_index(zones) == UNUSABLE
    assert procfs.extfrag_index(zones) == "".join(
        f"Node 0, zone {name:>8} {'-1.000 ' * 11}\n" for name in ("DMA", "DMA32", "Normal")
    )
    assert procfs.extfrag_index(procfs.parse_buddyinfo(SHORT)) == EXTFRAG
    none = [procfs.BuddyZone(1, "Normal", (0,) * 11)]
    assert procfs.unusable_index(none) == f"Node 1, zone   Normal {'1.000 ' * 11}\n"


def test_pagetypeinfo_text():
    info = procfs.parse_pagetypeinfo(PAGETYPEINFO)
    assert info.pageblock_order == 9
    assert info.migratetypes == ("Unmovable", "Movable")
    assert info.zones == (procfs.TypedZone(0, "DMA", ((0, 7, 100000), (12345, 0, 1)), (1, 7)),)
    assert procfs.pagetypeinfo(info) == PAGETYPEINFO


def test_zoneinfo_text():
    dma, movable = procfs.parse_zoneinfo(ZONEINFO)
    assert (dma.pages["managed"], dma.tail["start_pfn"]) == (3840, 1)
    assert dma.protection == (0, 3019, 5707, 5707, 5707)
    assert dma.pagesets[1] == {
        "count": 3,
        "high": 0,
        "batch": 1,
        "high_min": 27,
        "high_max": 240,
        "stat_threshold": 4,
    }
    assert dma.node_stats == {"nr_inactive_anon": 40080, "nr_mapped": 5902}
    assert not movable.stats
    assert procfs.zoneinfo([dma, movable]) == ZONEINFO


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (procfs.parse_buddyinfo, "Node 0, zone DMA 1 2\nnonsense\n", "buddyinfo, line 2"),
        (procfs.parse_buddyinfo, "Node 0, zone DMA 1 x\n", "whole numbers"),
        (procfs.parse_pagetypeinfo, "", "no 'Page block order'"),
        (procfs.parse_pagetypeinfo, "what\n", "pagetypeinfo, line 1"),
        (procfs.parse_pagetypeinfo, PAGETYPEINFO.rpartition("Node 0")[0], "different zones"),
        (
            procfs.parse_pagetypeinfo,
            PAGETYPEINFO.replace("            7 \n", "\n"),
            "expected 2 migratetypes",
        ),
        (procfs.parse_zoneinfo, "", "no zone"),
        (procfs.parse_zoneinfo, "  pages free     3840\n", "zoneinfo, line 1"),
        (procfs.parse_zoneinfo, ZONEINFO.replace("min      44", "min      lots"), "zoneinfo, line 7"),
        (procfs.parse_zoneinfo, ZONEINFO + "\n", "not a line of zoneinfo"),
    ],
)
def test_broken_text_is_refused(parse, text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)
