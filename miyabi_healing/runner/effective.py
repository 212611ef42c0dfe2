"""What a check's limit is here, and where each of its numbers came from: without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from miyabi_healing.model.config import Config
from miyabi_healing.model.issue import Limit, Severity
from miyabi_healing.model.limit_settings import LimitSettings
from miyabi_healing.runner.check_sources import CheckSource
from miyabi_healing.runner.registry import builtin
from miyabi_healing.support.config_sources import ConfigSources
from miyabi_healing.support.formatting import display, plain_number

FOLLOWS = "follows from the threshold"
_KEYS = tuple(each.name for each in fields(LimitSettings))


@dataclass(frozen=True)
class EffectiveLimit:
    """A limit of a check, or of one `target` of it, with the source of each number that it has."""

    limit: Limit
    sources: Mapping[str, str]
    target: str = ""

    @property
    def words(self) -> str:
        """``high above 90 %, critical from 95 %``: what it comes to, so that a bound that lies
        below the threshold raises what is above that.
        """
        unit, threshold = f" {self.limit.unit}" if self.limit.unit else "", self.limit.threshold
        first = self.limit.severity_of(threshold)
        raised = sorted(
            (each, bound)
            for each, bound in self.limit.bounds.items()
            if bound > threshold and each > first
        )
        return ", ".join(
            [
                f"{first.label} above {plain_number(threshold)}{unit}",
                *(f"{each.label} from {plain_number(bound)}{unit}" for each, bound in raised),
            ]
        )

    @property
    def values(self) -> dict[str, float]:
        """The numbers by the keys of ``[checks.NAME]``; `clear` is what a repair aims for."""
        bounds = {each.label: bound for each, bound in self.limit.bounds.items()}
        return {"threshold": self.limit.threshold, "clear": self.limit.clear, **bounds}


def origin(check: CheckSource) -> str:
    """Where a check comes from: ``built-in``, or its file and line."""
    if check.file.is_relative_to(builtin("checks")):
        return "built-in"
    return f"{display(check.file)}:{check.line}"


def check_limit(
    check: CheckSource, config: Config, sources: ConfigSources
) -> EffectiveLimit | None:
    """The limit of a check as a whole; None where its mark could not be read."""
    if check.limit is None:
        return None
    own, known = config.check(check.name), dict.fromkeys(_KEYS, origin(check))
    known |= _set(own, sources, "checks", check.name)
    return _effective(own.adjust(check.limit), own, known)


def target_limits(
    check: CheckSource, whole: EffectiveLimit, found: tuple[str, ...], config: Config,
    sources: ConfigSources,
) -> Iterator[EffectiveLimit]:  # fmt: skip
    """The limits of those of its targets that have one of their own."""
    own = config.check(check.name)
    for target in found:
        limit, known = whole.limit, dict[str, str](whole.sources)
        rows: list[tuple[LimitSettings, tuple[str, ...]]] = []
        groups = config.logs.group if "log_group" in check.fixtures else ()
        rows += [
            (each, ("logs", "group", str(number)))
            for number, each in enumerate(groups, 1)
            if each.pattern == target
        ]
        if (row := own.of_target(target)) is not None:
            name = next(name for name, each in own.targets.items() if each is row)
            rows.append((row, ("checks", check.name, "targets", name)))
        for settings, path in rows:
            limit = settings.adjust(limit)
            known |= _set(settings, sources, *path)
            if settings.threshold is not None and settings.clear is None:
                known.pop("clear", None)
        if limit != whole.limit:
            yield EffectiveLimit(limit, _those_of(limit, known), target)


def _set(settings: LimitSettings, sources: ConfigSources, *path: str) -> dict[str, str]:
    """The source of each number that a row of the configuration sets."""
    return {key: sources.near(*path, key) for key in _KEYS if getattr(settings, key) is not None}


def _effective(limit: Limit, own: LimitSettings, known: dict[str, str]) -> EffectiveLimit:
    if limit.clear_at is None:
        known.pop("clear")
    return EffectiveLimit(limit, _those_of(limit, known))


def _those_of(limit: Limit, known: Mapping[str, str]) -> dict[str, str]:
    """The sources of the numbers that a limit has; the level a repair aims for follows from the
    threshold where nobody set it.
    """
    has = {"threshold", "clear", *(Severity(each).label for each in limit.bounds)}
    return {key: known.get(key, FOLLOWS) for key in sorted(has)}
