"""What an audit finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Audit", "Finding"]


@dataclass(frozen=True)
class Finding:
    """One breach of a rule.

    Attributes:
        code: Code of the rule, such as ``"LD001"``.
        title: The rule in a few words.
        site: Name of the site, or of the module where no site is involved.
        found: What was found there, with the source line where there is one.
        why: Why it matters.
        advice: What to do.
    """

    code: str
    title: str
    site: str
    found: str
    why: str
    advice: str

    def __str__(self) -> str:
        return f"{self.code} {self.title}: {self.found} {self.why} {self.advice}"


class Audit(Sequence[Finding]):
    """The findings of an audit, in the order of their codes; prints as a table."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._findings = tuple(findings)

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Audit: ...
    def __getitem__(self, index: int | slice) -> Finding | Audit:
        return Audit(self._findings[index]) if isinstance(index, slice) else self._findings[index]

    def __len__(self) -> int:
        return len(self._findings)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the rules that were broken, each once."""
        return tuple(dict.fromkeys(finding.code for finding in self))

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON knows."""
        return {"findings": [asdict(finding) for finding in self]}

    def table(self) -> Table:
        """A table for ``rich``; the same finding in repeated blocks is one row."""
        from rich.table import Table

        table = Table("code", "site", "found", "why", "what to do", show_lines=True)
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in self:
            group = ".".join("*" if part.isdigit() else part for part in finding.site.split("."))
            groups.setdefault((finding.code, group), []).append(finding)
        for (code, group), findings in groups.items():
            first, num_others = findings[0], len(findings) - 1
            site = f"{group} ({num_others + 1})" if num_others else first.site or "(the model)"
            table.add_row(code, site, first.found, f"{first.title}: {first.why}", first.advice)
        return table

    def __str__(self) -> str:
        if not self:
            return "no findings"
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=150).print(self.table())
        return text.getvalue().rstrip()

    def __repr__(self) -> str:
        return f"Audit({list(self._findings)!r})"
