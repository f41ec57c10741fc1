"""Words that mean a design: variants of the built-in ones, designs in files, and what a table must hold.

Whatever is wrong becomes a ValueError that names the design, the field and the value.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import TracebackType
from typing import Any

from asi_pa.designs.fields import NUMBER, Says, about, nearest
from asi_pa.designs.freetypes import Freetype, PcpBank
from asi_pa.designs.table import HOOKS, Design
from asi_pa.kernel.gfp import Migratetype

__all__ = ["changed", "check", "from_file", "place_in_file"]

#: What the engine has room for (MAX_FREETYPES, MAX_FALLBACKS of engine/types.pxd).
_FREETYPES, _FALLBACKS = 15, 6
_MODULE = "asi_pa_user_design"


def changed(design: Design, changes: str) -> Design:
    """The design with ``field=value,...`` applied; only plain fields (words, numbers, yes/no) can be."""
    plain = {f.name: f for f in fields(design) if isinstance(getattr(design, f.name), (bool, int, str))}
    values: dict[str, object] = {}
    for item in changes.split(","):
        key, equals, text = item.partition("=")
        if not equals or key not in plain:
            hint = nearest(key, plain) or f": FIELD=VALUE, fields {', '.join(plain)}"
            raise ValueError(f"{item!r} changes nothing of {design.name}{hint}")
        if key in values:
            raise ValueError(f"{item!r}: {key} is given twice")
        values[key] = _read(item, plain[key], getattr(design, key), text)
    made = replace(design, **{"name": f"{design.name}:{changes}", **values})  # type: ignore[arg-type]
    check(made)
    return made


def _read(item: str, field: Field[Any], old: object, text: str) -> object:
    """The value that a word has for a field."""
    known = about(field)
    if isinstance(old, bool):
        if text not in ("yes", "no"):
            raise ValueError(f"{item!r}: {field.name} is yes or no")
        return text == "yes"
    if isinstance(old, int):
        if not (text.isascii() and text.isdecimal()) or not known.least <= int(text) <= known.most:
            raise ValueError(f"{item!r}: {field.name} is {_range(known)}")
        return int(text)
    if known.words and text not in known.words:
        raise ValueError(
            f"{item!r}: {field.name} is one of {', '.join(known.words)}{nearest(text, known.words)}"
        )
    return text


def _range(known: Says) -> str:
    return f"a number from {known.least} to {known.most if known.most < NUMBER else '2^62'}"


def from_file(path: str, name: str) -> Design:
    """The Design (or what a function returns) called ``name`` in a Python file."""
    spec = spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        found = getattr(module, name, None)
        made = found() if callable(found) and not isinstance(found, type) else found
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path}: {_where(error)}{type(error).__name__}: {error}") from error
    if isinstance(made, type) and issubclass(made, Design):
        raise ValueError(f"{path}: {name} is a class; {name}.based_on(DESIGN, name=...) makes a design")
    if not isinstance(made, Design):
        raise ValueError(f"{path}: {name or 'nothing'} is not a Design, nor a function that makes one")
    try:
        check(made)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return made


def _where(error: BaseException) -> str:
    place = place_in_file(error.__traceback__)
    return f"line {place[1]}: " if place else ""


def place_in_file(traceback: TracebackType | None) -> tuple[str, int] | None:
    """(file, line) of a user's design file that an exception went through last; None if it did not."""
    place = None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__") == _MODULE:
            place = frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next
    return place


def check(design: Design) -> None:
    """Raises ValueError, naming the field, for a table that the engine cannot run."""
    for problem in _problems(design):
        raise ValueError(f"design {design.name!r}: {problem}")


def _problems(design: Design) -> Iterator[str]:
    for field in fields(Design):
        yield from _problems_of(field, getattr(design, field.name))
    yield from _not_of_their_types(design)
    yield from _without_effect(design)
    kinds = design.freetypes
    known = [kind.name for kind in kinds]
    if len(set(known)) < len(known):
        yield f"freetypes: two of one name among {', '.join(known)}"
    if not any(kind.mt == Migratetype.ISOLATE for kind in kinds):
        yield "freetypes: none has the migratetype ISOLATE"
    for where, names in _names(design):
        for name in names:
            if name not in known:
                yield f"{where}: no freetype {name!r} (there are {', '.join(known)})"
    for kind in kinds:
        if len(kind.fallbacks) > _FALLBACKS:
            yield f"fallbacks of {kind.name}: {len(kind.fallbacks)}, at most {_FALLBACKS}"


def _not_of_their_types(design: Design) -> Iterator[str]:
    """Tables of which the engine could not even read the size."""
    if not design.name.strip() or not design.name.isprintable():
        yield f"name {design.name!r}: something that can be printed on a line"
    if not _all_of(design.source, str):
        yield f"source {design.source!r} is no tuple of texts"
    if not _all_of(design.freetypes, Freetype) or not 1 <= len(design.freetypes) <= _FREETYPES:
        yield f"freetypes: 1 to {_FREETYPES} of Freetype"
    if not _all_of(design.pcp_banks, PcpBank) or not design.pcp_banks:
        yield "pcp_banks: a tuple of PcpBank, one at least"
    rows = design.start if isinstance(design.start, tuple | list) else ()
    if len(rows) != 3 or not all(_all_of(pair, str) and len(pair) == 2 for pair in rows):
        yield "start has a pair of names for each of three migratetypes"


def _all_of(values: object, kind: type) -> bool:
    return isinstance(values, tuple | list) and all(isinstance(value, kind) for value in values)


def _problems_of(field: Field[Any], value: object) -> Iterator[str]:
    known = about(field)
    if field.type == "str" and not isinstance(value, str):
        yield f"{field.name} {value!r} is no text"
    if known.words and value not in known.words:
        hint = nearest(value, known.words) if isinstance(value, str) else ""
        yield f"{field.name} {value!r} is not one of {', '.join(known.words)}{hint}"
    if isinstance(field.default, bool):
        if not isinstance(value, bool):
            yield f"{field.name} {value!r} is neither True nor False"
    elif isinstance(field.default, int) and not (type(value) is int and known.least <= value <= known.most):
        yield f"{field.name} {value!r} is not {_range(known)}"


def _without_effect(design: Design) -> Iterator[str]:
    """What would be ignored in silence: fields that such designs do not read, hooks that nobody asks."""
    for field in fields(Design):
        value, known = getattr(design, field.name), about(field)
        if field.default is not MISSING and value != field.default and not known.read.reads(design):
            yield f"{field.name} {value!r} has no effect: it is read {known.read.words}"
    if 0 < design.unmap_high < design.unmap_low:
        yield f"unmap_high {design.unmap_high} has no effect: it is below unmap_low {design.unmap_low}"
    if design.flip_used == "move" and design.flip_free == 100:
        yield "flip_used 'move' has no effect: with `flip_free` 100 there is no used page"
    if 0 < design.pool_high < design.pool_low:
        yield f"pool_high {design.pool_high} has no effect on refills: it is below pool_low {design.pool_low}"
    for hook, read in HOOKS.items():
        if getattr(type(design), hook) is not getattr(Design, hook) and not read.reads(design):
            yield f"{hook}() has no effect: it is asked {read.words}"


def _names(design: Design) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every place in the tables that names freetypes."""
    yield "boot", (design.boot,)
    for pair in design.start:
        yield "start", pair
    for kind in design.freetypes:
        yield f"fallbacks of {kind.name}", kind.fallbacks
    for bank in design.pcp_banks:
        yield "pcp_banks", bank.types
        for names in bank.thp:
            yield "pcp_banks", names
