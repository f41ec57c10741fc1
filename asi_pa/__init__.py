"""The Linux page allocator as an exact model, and what address space isolation (ASI) does to it."""

__version__ = "0.1.0"
