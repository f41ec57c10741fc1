"""A finding as a Python script: the sequence run on ``Machine``, exit status 1 when that breaks something."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Protocol

from asi_pa.audit.scopes import Scope, scaled
from asi_pa.audit.steps import Step, call, sentence
from asi_pa.designs import Design

__all__ = ["Broken", "script"]


class Audited(Protocol):
    """Of an audit's result: what was audited."""

    @property
    def design(self) -> Design: ...
    @property
    def design_word(self) -> str: ...


class Broken(Protocol):
    """Of a finding: what goes into its script."""

    @property
    def result(self) -> Audited: ...
    @property
    def scope(self) -> Scope: ...
    @property
    def invariant(self) -> str: ...
    @property
    def words(self) -> str: ...
    @property
    def mechanism(self) -> str: ...
    @property
    def sequence(self) -> list[Step]: ...
    @property
    def pfn(self) -> int: ...


_HEAD = '''"""{design}: {invariant},
by {mechanism}.

Found by `asi-pa audit`.  Exit status 1: the sequence breaks the invariant; 0: it does not.
"""

{imports}

design = {make_design}
spec = {machine}
m = Machine(spec, design)
{log}

def present(pfn):
    return m.physmap.present(pfn, tree=design.tree)


def label(pfn):
    return design.freetypes[m.blocks()[0][pfn >> spec.pageblock_order]]


'''

#: name of the invariant -> what shows it, as the end of the script; {pfn} is a page of it.
EVIDENCE = {
    "protected-page-present": """
pfn = {owned}
print("pfn", pfn, "is allocated and to be absent: it is", "present" if present(pfn) else "absent")
sys.exit(int(present(pfn)))
""",
    "unprotected-page-absent": """
pfn = {owned}
print("pfn", pfn, "is allocated and to be present: it is", "present" if present(pfn) else "absent")
sys.exit(int(not present(pfn)))
""",
    "stale-data-mapped": """
stale = m.stats()["stale_exposed"]
print(stale, "pages were mapped while they still held protected data")
sys.exit(int(stale > 0))
""",
    "label-mapping": """
print("pfn {pfn} is", "present" if present({pfn}) else "absent", "in a pageblock of", label({pfn}).name)
sys.exit(int(present({pfn}) != {labelled}))
""",
    "lost-or-twice": """
broken = m.verify()
print(broken)
sys.exit(int(broken is not None))
""",
    "cma-lost": """
print("pfn {pfn} was CMA, its pageblock is", label({pfn}).name)
sys.exit(int(label({pfn}).mt != 4))
""",
    "flush-under-lock": """
contexts = {{int(row[1]) >> 8 & 0xFF for row in m.events()[before:] if row[1] & 0xFF == 2}}
print("pageblocks were unmapped in contexts", sorted(contexts), "of which 0, 8 and 9 hold no lock")
sys.exit(int(bool(contexts - {{0, 8, 9}})))
""",
    "handed-out-unflushed": """
flushed = flushes() - before
print("pfn {pfn} was unmapped and handed out,", flushed, "flushes in between")
sys.exit(int(flushed == 0))
""",
    "marks-page-tables": """
wrong = [b for b, mark in enumerate(m.blocks()[1]) if present(b << spec.pageblock_order) != mark]
print("pageblocks whose mark and entries disagree:", wrong)
sys.exit(int(bool(wrong)))
""",
    "fails-beside-usable": """
print("the last request", "fails" if last < 0 else "succeeds", "with", m.counters()[2], "pages free")
sys.exit(int(last < 0))
""",
    "stranded-block": """
print("the last request", "fails" if last < 0 else "succeeds", "with", m.counters()[2], "pages free")
sys.exit(int(last < 0))
""",
    "nonblocking-flips": """
after = flushes() + m.stats()["flips_s2n"]
print("the last request may not block;", after - before, "flushes and newly mapped pageblocks")
sys.exit(int(after > before))
""",
}

#: Shown by the last request's answer.
_LAST_FAILS = ("fails-beside-usable", "stranded-block")
#: What has to be noted before the last step.
_BEFORE = {
    "flush-under-lock": "before = len(m.events())",
    "handed-out-unflushed": "before = flushes()",
    "nonblocking-flips": 'before = flushes() + m.stats()["flips_s2n"]',
}
_FLUSHES = """def flushes():
    counters = m.physmap.counters()
    return counters.flushes_ranged + counters.flushes_full


"""


def script(finding: Broken) -> str:
    """The text of the script; it needs nothing but asi_pa."""
    result = finding.result
    design = result.design
    changed = scaled(design)
    changes = [
        f"{f.name}={getattr(changed, f.name)!r}"
        for f in fields(changed)
        if getattr(changed, f.name) != getattr(design, f.name)
    ]
    make = f"as_design({result.design_word!r})"
    if changes:
        make = f"replace({make}, {', '.join(changes)})"
    text = _HEAD.format(
        design=result.design_word,
        invariant=finding.words,
        mechanism=finding.mechanism,
        make_design=make,
        machine=_spec(finding.scope.machine),
        imports=_imports(finding, bool(changes)),
        log="m.log_events()\n" if finding.invariant == "flush-under-lock" else "",
    )
    if "flushes()" in _BEFORE.get(finding.invariant, ""):
        text += _FLUSHES
    cpus = finding.scope.machine.cpus
    names: list[str | None] = []
    for number, step in enumerate(finding.sequence, 1):
        if number == len(finding.sequence) and finding.invariant in _BEFORE:
            text += _BEFORE[finding.invariant] + "\n"
        last = number == len(finding.sequence) and finding.invariant in _LAST_FAILS
        text += _statement(step, number, names, cpus, last)
    labelled = f"label({finding.pfn}).mapped"
    if design.wrapper:
        labelled = str(design.tree == "unrestricted")
    return text + EVIDENCE[finding.invariant].format(
        pfn=finding.pfn, owned=_owned(finding, names), labelled=labelled
    )


def _imports(finding: Broken, changed: bool) -> str:
    """What the script needs, in order."""
    machine = ["MachineSpec", *(["PcpSpec"] if finding.scope.machine.zones[0].pcp else []), "ZoneSpec"]
    lines = ["import sys", *(["from dataclasses import replace"] if changed else []), ""]
    lines.append("from asi_pa.engine.machine import Machine")
    if any("meanwhile" in step for step in finding.sequence):
        lines.append("from asi_pa.audit import Meanwhile")
    lines += ["from asi_pa.designs import as_design", f"from asi_pa.kernel.spec import {', '.join(machine)}"]
    return "\n".join(lines)


def _spec(value: object) -> str:
    """A description as Python writes it, without what is as it would be anyway."""
    if isinstance(value, tuple):
        return f"({', '.join(_spec(item) for item in value)}{',' if len(value) == 1 else ''})"
    if not is_dataclass(value):
        return repr(value)
    given = [
        f"{f.name}={_spec(getattr(value, f.name))}"
        for f in fields(value)
        if getattr(value, f.name) != f.default
    ]
    return f"{type(value).__name__}({', '.join(given)})"


def _owned(finding: Broken, names: list[str | None]) -> str:
    """The page that shows it, told by the allocation it is of where there is one."""
    for step, name in zip(reversed(finding.sequence), reversed(names), strict=True):
        if step["op"] == "compact_memory":
            break  # it moves pages
        if name and step["result"] <= finding.pfn < step["result"] + (1 << step["order"]):
            offset = finding.pfn - step["result"]
            return f"{name} + {offset}" if offset else name
        if step["op"] == "direct_compact":
            break
    return str(finding.pfn)


def _statement(step: Step, number: int, names: list[str | None], cpus: int, last: bool) -> str:
    """A step as lines of the script; ``names`` gets the variable that holds its pfn."""
    name = None
    target = ""
    if step["op"] in ("alloc", "direct_compact") and step.get("result", -1) >= 0:
        name = f"p{number}"
        target = f"{name} = "
    if last:
        target = "last = "
    line = f"{target}{call(step, names)}"
    plain = {key: value for key, value in step.items() if key != "meanwhile"}
    comment = f"# {number}. {sentence(plain, cpus)}\n"
    other = step.get("meanwhile")
    if other is not None:
        window = other["window"]
        comment += f"#    in its window {window} another CPU: {sentence(other, cpus)}\n"
        line = f"with Meanwhile(m, {window}, lambda: {call(other, names)}):\n    {line}"
    names.append(name)
    return f"{comment}{line}\n"
