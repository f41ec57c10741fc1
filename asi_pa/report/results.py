"""Results on disk: checked against the schema, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from asi_pa.experiment.metrics import METRICS, TYPES
from asi_pa.files import write_atomic
from asi_pa.schema import json_document

__all__ = ["HELP", "NAME", "SCHEMA", "load_schema", "read_json", "validate", "write", "write_json"]

NAME = "json"
HELP = "write the whole result there"

#: The schema's name; a result that says otherwise is refused.
SCHEMA = "asi_pa.compare/2"

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def load_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a result: ``compare-2.schema.json`` and the table of metrics."""
    text = (files("asi_pa.report") / "compare-2.schema.json").read_text(encoding="utf-8")
    schema = cast(dict[str, Any], json.loads(text))
    measured = [metric for metric in METRICS if metric.type]
    schema["$defs"]["metrics"] = {
        "type": "object",
        "required": [metric.key for metric in measured if not metric.optional],
        "properties": {metric.key: TYPES[metric.type] for metric in measured},
    }
    return schema


def validate(result: Any) -> None:
    """Raise ValueError, naming the place and the value, if ``result`` is not of the schema.

    Understands what our schema uses: type, const, enum, minimum, properties, required,
    additionalProperties, items, minItems, maxItems, anyOf and $ref into $defs.
    """
    schema = load_schema()
    for problem in _problems(result, schema, schema, "result"):
        raise ValueError(problem)


def _problems(node: Any, rule: Mapping[str, Any], root: Mapping[str, Any], where: str) -> Iterator[str]:
    if "$ref" in rule:
        rule = root["$defs"][rule["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in rule:
        found = [list(_problems(node, option, root, where)) for option in rule["anyOf"]]
        if all(found):
            yield found[0][0]
        return
    if "const" in rule and node != rule["const"]:
        yield f"{where}: {_short(node)} instead of {rule['const']!r}"
        return
    if "enum" in rule and node not in rule["enum"]:
        yield f"{where}: {_short(node)} is none of {rule['enum']}"
        return
    names = rule.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(_is(node, name) for name in names):
        yield f"{where}: {_short(node)} is not of type {' or '.join(names)}"
        return
    if "minimum" in rule and isinstance(node, (int, float)) and node < rule["minimum"]:
        yield f"{where}: {node} is below {rule['minimum']}"
    if isinstance(node, dict):
        yield from _object_problems(node, rule, root, where)
    elif isinstance(node, list):
        if not rule.get("minItems", 0) <= len(node) <= rule.get("maxItems", len(node)):
            yield f"{where}: {len(node)} items"
        if "items" in rule and not _all_plain(node, rule["items"], root):
            for index, item in enumerate(node):
                yield from _problems(item, rule["items"], root, f"{where}[{index}]")


def _object_problems(
    node: dict[str, Any], rule: Mapping[str, Any], root: Mapping[str, Any], where: str
) -> Iterator[str]:
    for key in rule.get("required", ()):
        if key not in node:
            yield f"{where}: {key!r} is missing"
    known, others = rule.get("properties", {}), rule.get("additionalProperties", True)
    for key, value in node.items():
        if key in known:
            yield from _problems(value, known[key], root, f"{where}.{key}")
        elif others is False:
            yield f"{where}: unknown key {key!r}"
        elif isinstance(others, dict):
            yield from _problems(value, others, root, f"{where}.{key}")


def _all_plain(node: list[Any], rule: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether a list as a whole is seen to be of one plain type; False: look at each item.

    A result has millions of numbers, in lists of nothing else.
    """
    if "$ref" in rule:
        rule = root["$defs"][rule["$ref"].removeprefix("#/$defs/")]
    if not {"type", "minimum"}.issuperset(rule) or not isinstance(rule.get("type"), str):
        return False
    found = set(map(type, node))
    if not found.issubset(_TYPES[rule["type"]]) or found & {dict, list}:
        return False
    return not node or "minimum" not in rule or (found <= {int, float} and min(node) >= rule["minimum"])


def _is(node: Any, name: str) -> bool:
    return isinstance(node, _TYPES[name]) and (name == "boolean" or not isinstance(node, bool))


def _short(node: Any) -> str:
    text = repr(node)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_json(path: str | Path) -> dict[str, Any]:
    """A result from a file that :func:`write_json` or ``compare --json`` made.

    Raises OSError if it cannot be read, ValueError naming the file if it is no such result.
    """
    result = json_document(path)
    try:
        validate(result)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return cast(dict[str, Any], result)


def write_json(result: Mapping[str, Any], path: str | Path) -> None:
    """Write a result, checked against the schema, as UTF-8 JSON; lists of numbers stay on one line.

    numpy scalars and arrays become numbers and lists.  Raises ValueError, and writes nothing, if the
    result is not of the schema or holds a number that JSON lacks (NaN, infinity).
    """
    plain = json.loads(json.dumps(result, default=_plain, allow_nan=False))
    validate(plain)
    write_atomic(path, _dump(plain) + "\n")


def _plain(node: Any) -> Any:
    if hasattr(node, "tolist"):
        return node.tolist()
    raise ValueError(f"a result cannot hold {_short(node)} of type {type(node).__name__}")


def _dump(node: Any, indent: str = "") -> str:
    """JSON with one key a line, and every list without objects in it on a single line."""
    inner = indent + " "
    if isinstance(node, dict) and node:
        rows = [f"{inner}{json.dumps(k, ensure_ascii=False)}: {_dump(v, inner)}" for k, v in node.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(node, list) and not {dict, list}.isdisjoint(map(type, node)):
        return "[\n" + ",\n".join(inner + _dump(item, inner) for item in node) + f"\n{indent}]"
    return json.dumps(node, ensure_ascii=False, separators=(",", ":"))


write = write_json
