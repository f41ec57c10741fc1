"""The kernel's vocabulary: gfp flags and types, versions, the machine described, what a kernel derives from
its size, its indexes and /proc texts.  Nothing here allocates.

Public: every module; :mod:`.spec` describes a machine, :mod:`.versions` a kernel.
"""
