"""Benchmarks: streams, yardsticks, and one file per question."""
