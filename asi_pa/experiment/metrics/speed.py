"""The only measured times."""

from __future__ import annotations

from asi_pa.experiment.metrics.entry import Metric

__all__ = ["SPEED"]

SPEED: tuple[Metric, ...] = (
    Metric(
        "replay_ops_per_second",
        "number",
        "rate",
        "speed",
        "operations / s",
        "high",
        "Trace operations that the model replayed a second, the design and its physmap included.",
        "Operations of the compiled trace divided by `replay_seconds`.",
        measure=lambda m: m.ops_per_second(),
    ),
    Metric(
        "replay_seconds",
        "number",
        "seconds",
        "speed",
        "replay, seconds",
        "low",
        "Wall-clock time of the replay.",
        "Wall-clock seconds of the replay, without reading and compiling the trace.",
        measure=lambda m: m.seconds,
        screen=False,
    ),
)
