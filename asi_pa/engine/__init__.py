"""The page allocator: per-CPU lists, claims, flips, reserves, isolation, reclaim, hotplug, and the machine
of zones.

Files bear the names of the kernel's in mm/; the zone itself is ``asi_pa._core``.  Public:
:class:`.machine.Machine`.
"""
