"""A design made to try `asi-pa oracle record --design`: RECLAIMABLE pageblocks are mapped, as a side effect.

A pageblock that becomes RECLAIMABLE is mapped, and nothing unmaps: whoever gets memory of it, or of it when
it has become another type, is readable.  Nobody should want that; it is the smallest kernel patch that has
every event.  ``patch.py`` is the kernel's half.
"""

from dataclasses import replace

from asi_pa.designs import as_design

LINUX = as_design("linux")

MINE = replace(
    LINUX,
    name="mapped-reclaimable",
    family="mapped-reclaimable",
    compared=0,
    title="RECLAIMABLE pageblocks are mapped and stay so",
    source=("oracle/example/patch.py",),
    as_posted=True,
    freetypes=tuple(
        replace(freetype, mapped=True, sensitive=False) if freetype.name == "Reclaimable" else freetype
        for freetype in LINUX.freetypes
    ),
    protects="sensitive pages absent from the restricted physmap",
    label_maps=True,
    mirror=False,
)
