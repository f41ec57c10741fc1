"""What the twin counts, under the names of the engine's statistics (``stats_t``)."""

from __future__ import annotations

from collections import Counter

__all__ = ["Stats"]


class Stats:
    """One machine's counts; docs/use/metrics.md says what each means.  What was never counted is 0."""

    def __getattr__(self, name: str) -> int:
        if name.startswith("_"):
            raise AttributeError(name)
        return 0

    def __setattr__(self, name: str, value: int) -> None:
        object.__setattr__(self, name, value)

    def counts(self) -> Counter[str]:
        """The counts by name; equal to another Counter where only zeros are missing."""
        return Counter(vars(self))
