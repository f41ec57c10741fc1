"""x86-64 page tables, unrestricted and restricted, with a log of every change.

Public: :class:`.physmap.Physmap` and the records it returns (:mod:`.records`).
"""
