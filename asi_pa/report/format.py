"""Numbers as people read them, in the terminal and on the page alike."""

from __future__ import annotations

from asi_pa.experiment.metrics import Number

__all__ = ["delta_text", "format_bytes", "format_value", "plural"]


def plural(number: int, noun: str) -> str:
    """``1 run``, ``4 runs``, with thousands separators."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_bytes(number: Number) -> str:
    """Binary units, three significant digits: ``0``, ``512 B``, ``1.50 MiB``, ``768 MiB``."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    if unit == "B":
        return f"{int(value)} B" if value else "0"
    return f"{value:.{_decimals(value)}f} {unit}"


def format_value(number: Number | None, unit: str) -> str:
    """One cell.  ``unit`` as in :class:`asi_pa.experiment.metrics.Metric`; None becomes ``-``."""
    if number is None:
        return "-"
    if unit == "bytes":
        return format_bytes(number)
    if unit == "kb":
        return format_bytes(number * 1024)
    if unit == "share":
        return _percent(float(number))
    if unit == "index":
        return f"{number / 1000:.3f}"
    if unit == "rate":
        return f"{_short(float(number))}/s"
    if unit == "per1000":
        return f"{number:.{_decimals(float(number))}f}" if number else "0"
    if unit == "seconds":
        return f"{number:.3f}"
    return f"{number:,}" if abs(number) < 10_000_000 else _short(float(number))


def delta_text(value: Number | None, reference: Number | None, unit: str) -> str:
    """The difference to the reference design, short: ``=``, ``+12%``, ``x13``, ``-0.004``.

    Empty where either is missing, and where the reference is zero: there the value says it all.
    """
    if value is None or reference is None:
        return ""
    if value == reference:
        return "="
    if unit == "index":
        return f"{(value - reference) / 1000:+.3f}"
    if unit == "share":
        return f"{(value - reference) * 100:+.1f}pp"
    if reference == 0:
        return ""
    ratio = value / reference
    if ratio >= 10:
        return f"x{_short(ratio)}"
    change = (ratio - 1) * 100
    if abs(change) >= 9.95:
        return f"{change:+.0f}%"
    return f"{change:+.1f}%" if abs(change) >= 0.05 else "~"


def _decimals(value: float) -> int:
    """Decimals that leave three significant digits, none from 100 up and at most three."""
    return 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2 if abs(value) >= 0.9995 else 3


def _short(value: float) -> str:
    for unit in ("", "k", "M", "G"):
        if abs(value) < 999.5 or unit == "G":
            break
        value /= 1000
    return f"{value:.{_decimals(value)}f}{unit}"


def _percent(share: float) -> str:
    """As many decimals as it takes to tell a share from 100 % or 0 %, at most four."""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    gap = min(share, 1 - share) * 100
    return f"{share * 100:.{1 if gap >= 0.1 else 3 if gap >= 0.001 else 4}f}%"
