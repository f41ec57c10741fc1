"""What an audit found, and how far it looked: as objects, as text, as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from asi_pa.audit.recorded import recorded_run
from asi_pa.audit.scopes import Scope
from asi_pa.audit.script import script
from asi_pa.audit.steps import Step, as_dicts, count_operations, sentence
from asi_pa.audit.unit import Raw, Searched
from asi_pa.audit.words import LIVENESS, invariant_name, invariant_words, mechanism_words
from asi_pa.designs import Design

__all__ = ["AuditResult", "Finding", "add_finding"]

SCHEMA = "asi_pa.audit/1"


def _count(operations: int) -> str:
    return "1 operation" if operations == 1 else f"{operations} operations"


@dataclass(kw_only=True)
class Finding:
    """One broken invariant, by one mechanism, and the shortest sequence that shows it."""

    invariant: str
    words: str
    """The invariant as a sentence about what is wrong."""
    mechanism: str
    operations: int
    """Of the sequence, those of another CPU in windows included."""
    sequence: list[Step]
    """One dict an operation (``asi_pa.audit.steps.as_dicts``)."""
    pfn: int
    """A page that shows it."""
    scope: Scope
    minimal: bool
    """No shorter sequence exists in the scope; False: from a random walk, shortened."""
    liveness: bool
    """It breaks no promise of protection."""
    result: AuditResult = field(repr=False)

    @property
    def recorded(self) -> str:
        """A recorded kernel run that shows the same (``asi-pa verify``); empty where there is none."""
        return recorded_run(self.result.design.name, self.invariant, self.mechanism)

    def script(self) -> str:
        """A Python script that runs the sequence and exits with 1 when the invariant breaks."""
        return script(self)

    def text(self) -> str:
        """The finding as lines for a terminal."""
        cpus = self.scope.machine.cpus
        how = "" if self.minimal else ", from a random walk"
        if self.recorded:
            how += f"; recorded: {self.recorded}"
        lines = [
            f"{self.words}",
            f"  by: {self.mechanism}  ({_count(self.operations)}, {self.scope.name}{how})",
        ]
        lines += [f"  {number:3}. {sentence(step, cpus)}" for number, step in enumerate(self.sequence, 1)]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "invariant": self.invariant,
            "mechanism": self.mechanism,
            "operations": self.operations,
            "sequence": self.sequence,
            "words": self.words,
            "pfn": self.pfn,
            "scope": self.scope.name,
            "minimal": self.minimal,
            "recorded": self.recorded,
            "script": self.script(),
        }


@dataclass(kw_only=True)
class AuditResult:
    """What an audit found, and how far it looked."""

    design: Design
    design_word: str
    """As the caller named it."""
    seed: int
    findings: list[Finding] = field(default_factory=list)
    """Broken promises, by invariant and then shortest first."""
    liveness: list[Finding] = field(default_factory=list)
    """Requests that fail beside usable memory, or that flip although they may not block."""
    searched: list[Searched] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of processor time, over all scopes."""
        return sum(s.seconds for s in self.searched)

    @property
    def depth(self) -> int:
        """Every sequence of this many operations was tried, in every scope."""
        open_ended = [s.depth for s in self.searched if not s.closed]
        return min(open_ended or [s.depth for s in self.searched], default=0)

    @property
    def states(self) -> int:
        """Distinct states met, over all scopes."""
        return sum(s.states for s in self.searched)

    @property
    def transitions(self) -> int:
        """Operations carried out and checked."""
        return sum(s.transitions for s in self.searched)

    @property
    def states_per_second(self) -> float:
        """States met in a second of processor time."""
        return self.states / max(self.seconds, 1e-9)

    @property
    def exhaustive(self) -> bool:
        """Every reachable state of every scope was met."""
        return all(s.closed for s in self.searched)

    @property
    def status(self) -> int:
        """Exit status: 1 if a promise can be broken, else 0.  Liveness findings do not count."""
        return int(bool(self.findings))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: schema asi_pa.audit/1, explained in docs/use/audit.md."""
        return {
            "schema": SCHEMA,
            "design": self.design_word,
            "as_posted": self.design.as_posted,
            "protects": self.design.protects,
            "seed": self.seed,
            "depth": self.depth,
            "exhaustive": self.exhaustive,
            "states": self.states,
            "transitions": self.transitions,
            "seconds": round(self.seconds, 3),
            "states_per_second": round(self.states_per_second),
            "searched": [s.as_dict() for s in self.searched],
            "findings": [f.as_dict() for f in self.findings],
            "liveness": [f.as_dict() for f in self.liveness],
        }

    def text(self) -> str:
        """The whole result for a terminal."""
        parts = [f"{self.design_word}: {self.design.title}", f"promise: {self.design.protects}"]
        if self.design.as_posted:
            parts.append("as posted: it keeps the holes that it was posted with")
        if self.findings:
            parts.append(f"\nBROKEN, in {len(self.findings)} ways:")
            parts += [f"\n{f.text()}" for f in self.findings]
        else:
            parts.append("\nno sequence found that breaks it")
        if self.liveness:
            parts.append("\nLiveness: no promise is broken, but")
            parts += [f"\n{f.text()}" for f in self.liveness]
        parts.append("\n" + self._table())
        return "\n".join(parts)

    def _table(self) -> str:
        """What was searched."""
        rows = [("searched", "depth", "states", "operations", "")]
        for s in self.searched:
            depth = "all" if s.closed else str(s.depth)
            rows.append((s.scope.name, depth, f"{s.states:,}", f"{s.transitions:,}", s.scope.about))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 4)), row[4]]
            ).rstrip()
            for row in rows
        ]
        closed = sum(s.closed for s in self.searched)
        whole = f"every reachable state of {closed} of {len(self.searched)} small machines"
        if not self.exhaustive:
            whole += f", every sequence of {_count(self.depth)} and more (see depth) of the others"
        lines += [
            whole,
            f"{self.states:,} states, {self.transitions:,} operations checked in {self.seconds:.0f} s "
            f"of processor time: {self.states_per_second:,.0f} and {self._rate():,.0f} a second",
        ]
        return "\n".join(lines)

    def _rate(self) -> float:
        return self.transitions / max(self.seconds, 1e-9)


def add_finding(result: AuditResult, design: Design, scope: Scope, raw: Raw) -> None:
    """Puts a break that a search met into words, and into the result."""
    finding = Finding(
        invariant=invariant_name(raw.invariant),
        words=invariant_words(raw.invariant, design.tree),
        mechanism=mechanism_words(raw.invariant, raw.mechanism),
        operations=count_operations(raw.steps),
        sequence=as_dicts(raw.steps, raw.results, scope, design),
        pfn=raw.frame,
        scope=scope,
        minimal=raw.minimal,
        liveness=raw.invariant in LIVENESS,
        result=result,
    )
    (result.liveness if finding.liveness else result.findings).append(finding)
