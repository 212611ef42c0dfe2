"""An orphan with all that lives below it, and the orphans of one program; what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from miyabi_healing.host.process_status import Process
from miyabi_healing.host.programs import matches
from miyabi_healing.support.formatting import display, duration_text, size_text


@dataclass(frozen=True)
class Family:
    """An orphan, the first of `members`, and all that lives below it; `main` is the one that it is
    named after: what a shell or package runner has started, else the orphan itself.

    `client` is who lives at the other end of something it has open, empty where nobody does;
    `folder` is where it runs, `seconds` how long it has been running; `works` whether it just used
    a processor.
    """

    members: tuple[Process, ...]
    main: Process
    name: str
    seconds: float
    bytes: int = 0
    folder: str = ""
    client: str = ""
    works: bool = False

    @property
    def root(self) -> Process:
        return self.members[0]

    def is_named(self, patterns: Sequence[str]) -> bool:
        """Whether its program is called like one of `patterns`."""
        return matches(self.main, patterns)

    @property
    def text(self) -> str:
        """``playwright-mcp (pid 12, 93.1 MB, for 3 h, in ~/app)``."""
        facts = [
            f"pid {self.root.pid}",
            size_text(self.bytes),
            f"for {duration_text(self.seconds)}",
        ]
        facts += [f"in {display(self.folder)}"] if self.folder else []
        facts += ["at work"] if self.works else []
        return f"{display(self.name)} ({', '.join(facts)})"


@dataclass(frozen=True)
class Group:
    """The orphans of one program, the largest first."""

    families: tuple[Family, ...]

    @property
    def name(self) -> str:
        return self.families[0].name

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.families)

    @property
    def seconds(self) -> float:
        return max(each.seconds for each in self.families)

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.folder for each in self.families if each.folder))

    @property
    def text(self) -> str:
        """``12 × playwright-mcp (1.2 GB, for 3 h, in ~/app)``."""
        facts = [size_text(self.bytes), f"for {duration_text(self.seconds)}"]
        if self.folders:
            more = f" and {len(self.folders) - 1} more" if len(self.folders) > 1 else ""
            facts.append(f"in {display(self.folders[0])}{more}")
        if working := sum(each.works for each in self.families):
            facts.append(f"{working} at work")
        return f"{len(self.families)} × {display(self.name)} ({', '.join(facts)})"

    @property
    def row(self) -> dict[str, object]:
        """For the JSON report."""
        return {
            "program": display(self.name),
            "count": len(self.families),
            "bytes": self.bytes,
            "seconds": round(self.seconds),
            "working": sum(each.works for each in self.families),
            "folders": [display(each) for each in self.folders],
            "clients": sorted({each.client for each in self.families if each.client}),
            "pids": [each.root.pid for each in self.families],
        }
