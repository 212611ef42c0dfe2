"""What is told: state changes, once each, and a reminder; what comes and goes is told in a handful
of messages.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_healing.model import config
from miyabi_healing.report.alerts import decide, queue, slack
from miyabi_healing.report.alerts.alert import Alert, Key, KnownIssue
from miyabi_healing.report.alerts.message import Channel, Message
from miyabi_healing.state import reports
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.formatting import timestamp
from miyabi_healing.support.paths import JOURNAL
from miyabi_healing.support.secrets import Secret

HOUR = 3600.0
RULES, BRAKES = config.AlertSettings(), config.PolicySettings()


def issue(
    value: float = 97,
    severity: str = "high",
    healed: bool = False,
    name: str = "disk",
    target: str = "/",
) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"{target} is {value} % full",
        "severity": severity,
        "metric_value": value,
        "threshold": 90,
        "unit": "%",
        "target": target,
        "healed": healed,
    }


def action(
    message: str = "Nothing safe to do", brake: str = "", vetoed: str = ""
) -> dict[str, Any]:
    steps = [{"status": "vetoed", "message": vetoed}] if vetoed else []
    return {
        "action": "cleanup_disk",
        "status": "failed",
        "message": message,
        "issue": "disk",
        "target": "/",
        "brake": brake,
        "steps": steps,
    }


def report(
    *issues: Any,
    actions: Any = (),
    errors: Any = (),
    healthy: Any = (("disk", "/"),),
    waived: bool = False,
) -> Any:
    metrics = [
        {
            "name": name,
            "target": target,
            "value": 50,
            "description": "",
            "threshold": 90,
            "unit": "%",
            "outcome": "waived" if waived else "passed",
        }
        for name, target in healthy
    ]
    return {
        "host": "here",
        "run_id": "RUN",
        "timestamp": "2026-01-02T03:04:05",
        "issues_detected": list(issues),
        "actions_taken": list(actions),
        "metrics": metrics,
        "errors": list(errors),
        "notes": [],
    }


WRONG, FINE = report(issue()), report()
HEALED = report(issue(healed=True))
CRASHED = report(errors=[{"check": "", "message": "the run was ended by SIGKILL"}], healthy=())


class Story:
    """One host, run after run."""

    def __init__(self, rules: config.AlertSettings = RULES) -> None:
        self.rules, self.now, self.known = rules, 1e9, dict[Key, KnownIssue]()

    def then(self, document: Any, after: float = 300) -> list[str]:
        self.now += after
        told, self.known = decide.decide(document, self.known, BRAKES, self.rules, self.now)
        return [each.kind for each in told]


def test_issue_is_told_once_reminded_of_and_then_said_to_be_over() -> None:
    story = Story()
    assert story.then(FINE) == []
    assert story.then(WRONG) == ["unhealed"]
    assert [story.then(WRONG) for _ in range(5)] == [[]] * 5
    assert story.then(WRONG, after=24 * HOUR) == ["reminder"]
    assert story.then(WRONG) == []
    assert story.then(FINE) == ["recovered"]
    assert story.then(FINE) == []


def test_healing_is_told_and_ends_what_was_told_before() -> None:
    story = Story()
    assert story.then(HEALED) == ["healed"]
    assert [story.then(HEALED) for _ in range(5)] == [[]] * 5, (
        "what is healed in every run is told once a day"
    )
    assert story.then(HEALED, after=24 * HOUR) == ["healed"]
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(HEALED) == ["healed"]


def test_healing_at_once_is_silent_where_nobody_wants_to_know() -> None:
    story = Story(config.AlertSettings(healed=False))
    assert story.then(HEALED) == []
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(HEALED) == ["healed"], "it answers an alert"


def test_growing_worse_is_told_again_and_getting_better_is_not() -> None:
    story = Story()
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(report(issue(99, "critical"))) == ["unhealed"]
    assert story.then(report(issue(96))) == []
    assert story.then(report(issue(99, "critical"))) == ["unhealed"]


@pytest.mark.parametrize(
    ("brake", "vetoed"),
    [
        ("attempts: tried 3 time(s)", ""),
        ("", "budget: 20 GB a run"),
        ("", "time limit: 300 s for x"),
    ],
)
def test_tripped_brake_is_told_once(brake: str, vetoed: str) -> None:
    story, held = Story(), report(issue(), actions=[action(brake=brake, vetoed=vetoed)])
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(held) == ["brake"]
    assert story.then(held) == []


def test_brake_that_is_only_a_wait_is_not_told() -> None:
    story = Story()
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(report(issue(), actions=[action(brake="cooldown: last tried 5 s ago")])) == []
    assert (
        story.then(report(issue(), actions=[action(brake="paused until tomorrow by me: work")]))
        == []
    )


RESTS = action(brake="cooldown: last tried 20 s ago; again in 100 s")


def test_policy_that_comes_and_goes_is_told_once() -> None:
    story = Story()
    spent = report(issue(), actions=[action(brake="budget: 50 files a run")])
    rests = report(issue(), actions=[RESTS])
    told = [kind for _ in range(9) for each in (spent, rests) for kind in story.then(each)]
    assert told == ["unhealed"]


def test_issue_that_only_waits_for_its_healers_rest_is_not_told_yet() -> None:
    rests = report(issue(), actions=[RESTS])
    story = Story()
    assert [story.then(rests) for _ in range(3)] == [[]] * 3
    assert story.then(WRONG) == ["unhealed"]
    assert Story().then(report(issue(99, "critical"), actions=[RESTS])) == ["unhealed"]


def test_issue_that_rests_for_hours_is_told() -> None:
    long = config.PolicySettings(cooldown=24 * HOUR)
    told, _ = decide.decide(report(issue(), actions=[RESTS]), {}, long, RULES, 1e9)
    assert [each.kind for each in told] == ["unhealed"]


def test_what_somebody_was_told_is_kept_with_the_report(tmp_path: Path) -> None:
    channel = Channel("test", lambda message, seconds: None)
    document = report(issue())
    with contextlib.closing(Journal(tmp_path / JOURNAL)) as journal:
        journal.write("insert into pass values (1, 'RUN', 1, 1, 1, 1, 0, 0, 0, 0, '[]', 0, 0)", ())
    queue.queue_alerts(document, config.Config(), [channel], tmp_path, False)
    with contextlib.closing(Journal(tmp_path / JOURNAL)) as journal:
        kept = reports.of_run(journal, "RUN")
    assert kept == document
    assert [row["kind"] for row in document["alerts"]] == ["unhealed"]


def test_issue_that_has_not_lasted_long_enough_to_act_is_not_told_yet() -> None:
    story, waiting = (
        Story(),
        report(issue(), actions=[action(brake="gate: found in 1 of the last 3 runs; acts from 2")]),
    )
    assert story.then(waiting) == []
    assert story.then(FINE) == []
    assert story.then(waiting) == []
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(waiting) == []
    assert story.then(FINE) == ["recovered"]


def test_check_that_cannot_run_is_told_and_is_over_when_it_runs() -> None:
    story, error = Story(), {"check": "disk", "target": "/", "message": "OSError: no"}
    assert story.then(report(errors=[error], healthy=())) == ["unknown"]
    assert story.then(report(errors=[error], healthy=())) == []
    assert story.then(report(errors=[error], healthy=()), after=24 * HOUR) == ["reminder"]
    assert story.then(FINE) == ["recovered"]
    assert story.then(
        report(errors=[{"check": "checks/test_x.py", "message": "could not be loaded"}])
    ) == ["unknown"]
    assert story.then(FINE) == ["recovered"]


def test_pass_that_could_not_run_is_told_and_forgets_nothing() -> None:
    story = Story()
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(CRASHED) == ["unknown"]
    assert story.then(CRASHED) == []
    assert story.then(WRONG) == ["recovered"]
    assert story.then(FINE) == ["recovered"]


def test_waived_issue_is_silent() -> None:
    story = Story()
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(report(waived=True)) == []
    assert story.then(FINE) == []


def test_targets_are_told_apart() -> None:
    story = Story()
    assert story.then(report(issue(), issue(target="/home"))) == ["unhealed", "unhealed"]
    assert story.then(report(issue(), healthy=[("disk", "/home")])) == ["recovered"]


def test_target_that_is_gone_is_forgotten_after_a_while() -> None:
    story = Story()
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(report(healthy=())) == []
    assert story.then(WRONG) == []
    assert story.then(report(healthy=()), after=25 * HOUR) == []
    assert story.known == {}


def test_clock_set_back_does_not_silence_reminders() -> None:
    story = Story()
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(WRONG, after=-365 * 24 * HOUR) == ["reminder"]
    assert story.then(WRONG) == []


@pytest.mark.parametrize("other", [FINE, HEALED, CRASHED], ids=["healthy", "healed", "unknown"])
def test_what_comes_and_goes_is_told_in_a_handful_of_messages(other: Any) -> None:
    story = Story()
    told = [kind for number in range(100) for kind in story.then(WRONG if number % 2 else other)]
    assert 1 <= len(told) <= 9
    assert other is CRASHED or told[-1] == "flapping"
    settled = [kind for _ in range(30) for kind in story.then(FINE)]
    assert settled[-1] == "recovered"


DOCUMENTS = st.sampled_from(
    [FINE, WRONG, HEALED, CRASHED, report(issue(99, "critical")), report(waived=True)]
)


@given(st.lists(DOCUMENTS, max_size=60))
def test_whatever_happens_every_alert_is_ended_and_nothing_is_told_twice(
    documents: list[Any],
) -> None:
    story, open_ones = Story(), set[Key]()
    for document in [*documents, *[FINE] * 45]:
        story.now += 300
        told, story.known = decide.decide(document, story.known, BRAKES, RULES, story.now)
        assert len({(each.name, each.target) for each in told}) == len(told)
        for each in told:
            key = each.name, each.target
            assert each.line
            assert each.advice
            if each.kind in ("healed", "recovered"):
                assert each.kind == "healed" or key in open_ones
                open_ones.discard(key)
            else:
                open_ones.add(key)
        open_ones -= {key for key in open_ones if key not in story.known}  # waived
    assert open_ones == set()
    assert all(each.state not in decide.OPEN for each in story.known.values())


def test_age_is_said_as_people_say_it() -> None:
    made = Alert("new", "lock", "", "low", "", 10_834.62, 600, "s", (), "", "", 0)
    assert made.measured == "3 h of 10 min"


# What is foreseen


def ahead(story: Story, hours: float, seen: int = 3, **changes: Any) -> Any:
    """A run of which a disk is foreseen to be full so many hours later."""
    reached = story.now + 300 + hours * HOUR
    row = {
        "name": "disk", "target": "/", "value": 78, "threshold": 90, "unit": "%",
        "reached": timestamp(reached), "eta_seconds": hours * HOUR, "earliest": None,
        "latest": None, "basis": "grows 2 an hour for 9 hours", "seen": seen, "alarms": 0,
        "confidence": None, "causes": [], "early": "",
    }  # fmt: skip
    return {**report(), "foreseen": [row], **changes}


def early(status: str = "success") -> dict[str, Any]:
    steps = [{"status": "applied", "undo": "moved back", "message": ""}]
    made = action("Early (/ fills up): npm emptied its cache")
    return {**made, "status": status, "early": True, "steps": steps}


def test_foreseen_is_told_once_it_is_sure_and_never_again_while_it_stays() -> None:
    story = Story()
    assert story.then(ahead(story, 8, seen=1)) == []
    assert story.then(ahead(story, 8, seen=2)) == ["foreseen"]
    assert [story.then(ahead(story, 8 - number / 12)) for number in range(1, 80)] == [[]] * 79
    assert story.then(ahead(story, 8), after=25 * HOUR) == []  # it is no issue to be reminded of


def test_foreseen_that_comes_much_nearer_is_told_once_more() -> None:
    story = Story()
    assert story.then(ahead(story, 8)) == ["foreseen"]
    assert story.then(ahead(story, 5)) == []
    assert story.then(ahead(story, 3)) == ["sooner"]
    assert story.then(ahead(story, 1)) == []
    story = Story()
    story.then(ahead(story, 0.5))
    assert story.then(ahead(story, 0.1)) == []  # minutes are noise


def test_foreseen_that_is_over_is_told_once_and_what_blinks_is_not() -> None:
    story = Story()
    story.then(ahead(story, 8))
    for document in (FINE, FINE, FINE, ahead(story, 8), FINE):
        assert story.then(document) == []
    told = [each for _ in range(14) for each in story.then(FINE)]
    assert told == ["passed"]
    assert story.known == {}
    assert story.then(FINE) == []
    assert story.then(ahead(story, 8)) == ["foreseen"]


def test_foreseen_that_did_not_come_says_so_and_that_came_is_told_as_an_issue() -> None:
    story = Story()
    story.then(ahead(story, 1))
    story.then(FINE, after=2 * HOUR)
    told, _ = decide.decide(FINE, story.known, BRAKES, RULES, story.now + 300)
    assert [each.kind for each in told] == ["passed"]
    assert told[0].description.endswith(", and did not")
    story = Story()
    story.then(ahead(story, 1))
    assert story.then(WRONG) == ["unhealed"]
    assert story.then(FINE) == ["recovered"]
    assert story.then(FINE, after=2 * HOUR) == []


def test_foreseen_is_kept_where_nothing_was_looked_at_and_forgotten_with_its_target() -> None:
    story = Story()
    story.then(ahead(story, 8))
    error = {"check": "disk", "target": "/", "message": "it hung"}
    left = {**report(healthy=(("swap", ""),)), "left_out": ["disk"]}
    for document in (report(errors=[error]), CRASHED, left):
        story.then(document, after=2 * HOUR)
        assert ("foreseen disk", "/") in story.known
    story.then(report(healthy=(("swap", ""),)))
    assert [key for key in story.known if key[0].startswith("foreseen ")] == []


def test_what_was_done_early_is_told_once_with_its_undo_and_heals_nothing() -> None:
    story = Story()
    story.then(ahead(story, 8))
    document = ahead(story, 8, actions_taken=[early()])
    told, known = decide.decide(document, story.known, BRAKES, RULES, story.now + 300)
    (said,) = told
    assert said.kind == "early"
    assert said.done == ("cleanup_disk: Early (/ fills up): npm emptied its cache",)
    assert "rollback RUN undoes what was done" in said.advice
    assert "healed" not in said.line
    assert decide.decide(document, known, BRAKES, RULES, story.now + 600)[0] == []
    silent = config.AlertSettings(healed=False)
    assert decide.decide(document, story.known, BRAKES, silent, story.now + 300)[0] == []
    story = Story()
    assert story.then(ahead(story, 8, actions_taken=[early()])) == ["foreseen"]
    assert story.then(ahead(story, 8, actions_taken=[early()])) == []


def test_nobody_is_told_who_does_not_want_to_know() -> None:
    story = Story(config.AlertSettings(foreseen=False))
    assert story.then(ahead(story, 8)) == []
    story = Story()
    story.then(ahead(story, 8))
    story.rules = config.AlertSettings(foreseen=False)
    assert (story.then(FINE, after=2 * HOUR), story.known) == ([], {})


def test_message_of_a_forecast_is_no_failure() -> None:
    story = Story()
    (said,), _ = decide.decide(ahead(story, 8), {}, BRAKES, RULES, story.now + 300)
    assert said.line.startswith("foreseen: disk on / (78 % of 90 %; disk / reaches 90 % ")
    message = Message("here", "RUN", "2026-01-02T03:04:05", (said, said))
    assert "unhealed" not in {each.kind for each in message.alerts}
    assert "❌" not in slack.message_text(message) + json.dumps(
        [each.to_dict() for each in slack.blocks(message)], ensure_ascii=False
    )
    assert Message.load(message.dump()) == message
    mixed = replace(message, alerts=(said, replace(said, kind="passed")))
    assert slack.blocks(mixed)[0].to_dict()["text"]["text"] == "🔭 here: 2 alerts"
    wrong = replace(message, alerts=(said, replace(said, kind="unhealed")))
    assert slack.blocks(wrong)[0].to_dict()["text"]["text"].startswith("❌ ")


def test_surest_reason_of_an_issue_is_in_its_alert() -> None:
    because = [
        {"grade": "went together", "what": "b", "share": None, "text": "b was at work"},
        {"grade": "accounts for", "what": "/c", "share": 0.6, "text": "60 % is /c"},
    ]
    (said,), _ = decide.decide(
        report({**issue(), "because": because}), {}, BRAKES, RULES, Story().now
    )
    assert said.done == ("because: 60 % is /c",)


def test_what_was_put_off_is_told_once_a_day_and_not_that_it_is_over() -> None:
    story, done = Story(), report(actions=[early()])
    story.then(ahead(story, 8))
    assert story.then(done) == ["early"]
    assert [story.then(FINE, after=2 * HOUR) for _ in range(5)] == [[]] * 5
    assert story.then(ahead(story, 8)) == ["foreseen"]
    assert story.then(done) == ["early"]
    assert story.then(done) == []
    assert story.then(done, after=25 * HOUR) == ["early"]
    assert story.then(FINE, after=25 * HOUR) == []
    assert story.known == {}
    assert Story().then(done) == ["early"]
    assert Story(config.AlertSettings(healed=False)).then(done) == []
    assert story.then(report(actions=[early("skipped")])) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own
@pytest.mark.parametrize(
    ("kinds", "shown"),
    [
        (["foreseen"], "info"),
        (["foreseen", "healed"], "info"),
        (["passed", "healed"], "success"),
        (["foreseen", "unhealed"], "failure"),
    ],
)
def test_apprise_shows_a_forecast_as_no_failure(
    kinds: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("apprise")
    from miyabi_healing.report.alerts import apprise

    seen: list[str] = []

    def notify(_self: object, notify_type: Any, **_more: object) -> bool:
        seen.append(notify_type.value if hasattr(notify_type, "value") else notify_type)
        return True

    monkeypatch.setattr(library.Apprise, "notify", notify)
    (said,), _ = decide.decide(ahead(Story(), 8), {}, BRAKES, RULES, 1e9)
    message = Message("here", "RUN", "", tuple(replace(said, kind=each) for each in kinds))
    apprise.send([Secret("json://localhost")], message, 1)
    assert seen == [shown]
