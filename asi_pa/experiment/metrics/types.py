"""JSON Schema of each type that a value of a result can have."""

from __future__ import annotations

from typing import Any

from asi_pa.experiment.metrics.causes import CAUSES, FAILURE_GROUPS, WAYS_OUT

__all__ = ["TYPES"]

_COUNT = {"type": "integer", "minimum": 0}
_PAIR = {"type": "object", "required": ["sensitive", "nonsensitive"], "additionalProperties": _COUNT}
_SIDES = {"type": "object", "required": ["mapped", "unmapped"], "additionalProperties": _COUNT}
_LEAVES = {"type": "object", "required": ["4k", "2m", "1g"], "additionalProperties": _COUNT}

#: JSON Schema of each type that a value of a result can have.
TYPES: dict[str, dict[str, Any]] = {
    "count": _COUNT,
    "count?": {"type": ["integer", "null"], "minimum": 0},
    "number": {"type": "number", "minimum": 0},
    "number?": {"type": ["number", "null"], "minimum": 0},
    "counts by order": {"type": "array", "items": _COUNT},
    "index by order": {"type": "array", "items": {"type": "integer"}},
    "counts by cause": {"type": "object", "required": list(CAUSES), "additionalProperties": _COUNT},
    "counts by kind": _PAIR,
    "shares by kind": {
        "type": "object",
        "required": ["sensitive", "nonsensitive"],
        "additionalProperties": {"type": ["number", "null"], "minimum": 0},
    },
    "counts by side": _SIDES,
    "counts by group": {"type": "object", "required": list(FAILURE_GROUPS), "additionalProperties": _COUNT},
    "counts by way out": {"type": "object", "required": list(WAYS_OUT), "additionalProperties": _COUNT},
    "kb by tree": {
        "type": "object",
        "required": ["unrestricted", "restricted"],
        "additionalProperties": {"anyOf": [_LEAVES, {"type": "null"}]},
    },
}
