"""What a header must look like, as data: types, ranges, lengths.  Checked before anything of it is used.

A check is a function of a value and of the words that say where it stands; it raises ValueError naming the
place and what it found.  Keys that a record does not name are let through; whoever reads them checks them.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "Check",
    "all_of",
    "anything",
    "integer",
    "json_document",
    "json_object",
    "listed",
    "mapping",
    "nullable",
    "number",
    "one_of",
    "parsed",
    "record",
    "text",
    "toml_document",
]

#: Bytes of a JSON file and of a TOML file that are read at all.
JSON_MOST, TOML_MOST = 1 << 28, 1 << 20

Check = Callable[[Any, str], None]

_SURROGATE = re.compile("[\ud800-\udfff]")


def shown(value: object) -> str:
    """A value in at most 60 characters."""
    words = repr(value)
    return words if len(words) <= 60 else words[:57] + "..."


def _refuse(where: str, value: object, wanted: str) -> ValueError:
    return ValueError(f"{where} is {shown(value)}, not {wanted}")


def integer(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``; true and false are none."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _refuse(where, value, f"a whole number from {low} to {high}")

    return check


def number(low: float, high: float) -> Check:
    """A finite number from ``low`` to ``high``."""

    def check(value: Any, where: str) -> None:
        good = type(value) in (int, float) and (type(value) is int or math.isfinite(value))
        if not good or not low <= value <= high:
            raise _refuse(where, value, f"a number from {low:g} to {high:g}")

    return check


def text(most: int = 1 << 16) -> Check:
    """A string of at most ``most`` characters that UTF-8 can write."""

    def check(value: Any, where: str) -> None:
        if type(value) is not str or len(value) > most:
            raise _refuse(where, value, f"a text of at most {most} characters")
        if _SURROGATE.search(value):
            raise _refuse(where, value, "text: half a surrogate pair is in it")

    return check


def one_of(*values: object) -> Check:
    """One of these values."""

    def check(value: Any, where: str) -> None:
        if not any(type(value) is type(wanted) and value == wanted for wanted in values):
            raise _refuse(where, value, " or ".join(map(shown, values)))

    return check


def nullable(inner: Check) -> Check:
    """null, or what ``inner`` says."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def listed(inner: Check, most: int, least: int = 0) -> Check:
    """A list of ``least`` to ``most`` such values."""

    def check(value: Any, where: str) -> None:
        if type(value) is not list or not least <= len(value) <= most:
            raise _refuse(where, value, f"a list of {least} to {most}")
        for at, each in enumerate(value):
            inner(each, f"{where}[{at}]")

    return check


def mapping(inner: Check, most: int) -> Check:
    """An object of at most ``most`` names and such values."""
    name = text(1024)

    def check(value: Any, where: str) -> None:
        if type(value) is not dict or len(value) > most:
            raise _refuse(where, value, f"an object of at most {most} names")
        for key, each in value.items():
            name(key, f"{where}: a name")
            inner(each, f"{where}.{key}")

    return check


def record(needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these names."""

    def check(value: Any, where: str) -> None:
        if type(value) is not dict:
            raise _refuse(where, value, "an object")
        for key, inner in needed.items():
            if key not in value:
                raise ValueError(f"{where}.{key} is missing")
            inner(value[key], f"{where}.{key}")
        for key, inner in (optional or {}).items():
            if key in value:
                inner(value[key], f"{where}.{key}")

    return check


def all_of(*checks: Check) -> Check:
    """Each of these."""

    def check(value: Any, where: str) -> None:
        for inner in checks:
            inner(value, where)

    return check


def anything(value: Any, where: str, depth: int = 8) -> None:
    """Any JSON value that can be written again: finite numbers, whole text, not nested deeper than eight."""
    if depth < 0:
        raise ValueError(f"{where} is nested too deeply")
    if type(value) is str:
        text(1 << 20)(value, where)
    elif type(value) is float and not math.isfinite(value):
        raise _refuse(where, value, "a finite number")
    elif type(value) is int and not -(1 << 63) <= value < 1 << 64:
        raise _refuse(where, value, "a number of 64 bits")
    elif type(value) is list:
        for at, each in enumerate(value):
            anything(each, f"{where}[{at}]", depth - 1)
    elif type(value) is dict:
        for key, each in value.items():
            text(1024)(key, f"{where}: a name")
            anything(each, f"{where}.{key}", depth - 1)


def _document(path: str | os.PathLike[str], most: int, parse: Callable[[str], Any]) -> Any:
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{os.fspath(path)}: more than {most >> 20} MiB, which is no file of this kind")
    try:
        return parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{os.fspath(path)}: not UTF-8 text") from None
    except RecursionError:
        raise ValueError(f"{os.fspath(path)}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def json_document(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds; a byte order mark is passed over.

    OSError where it cannot be read, ValueError naming it where it is no JSON, or endless.
    """
    return _document(path, JSON_MOST, _json)


def parsed(words: bytes | str) -> Any:
    """The value of a JSON text; ValueError where it is none, a name is there twice, or a number is endless.

    RecursionError where it is nested too deeply.
    """
    try:
        return json.loads(words, object_pairs_hook=_once)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError("a number of thousands of digits" if "4300" in str(error) else error) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _json(words: str) -> Any:
    value = parsed(words)
    if "\\u" in words and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("half a surrogate pair is in a text")
    return value


def toml_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The same of a TOML file."""
    found: dict[str, Any] = _document(path, TOML_MOST, tomllib.loads)
    return found


def json_object(data: bytes | str, where: str) -> dict[str, Any]:
    """The object in a JSON text; ValueError, led by ``where``, for anything else."""
    try:
        value = parsed(data)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{where} is not JSON ({what})") from None
    if type(value) is not dict:
        raise ValueError(f"{where} is no JSON object")
    return value
