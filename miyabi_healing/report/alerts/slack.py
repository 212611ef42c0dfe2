"""Alerts to Slack: an incoming webhook, Block Kit with a plain text beside it, within Slack's
limits.

Limits: 50 blocks a message, 150 characters in a header, 3000 in a section, 2000 in a field
(docs.slack.dev, Block Kit reference), and about 13,000 in all blocks together, which is not
documented (slackapi/bolt-js issue 2509).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from slack_sdk.http_retry.builtin_handlers import (
    ConnectionErrorRetryHandler,
    RateLimitErrorRetryHandler,
    ServerErrorRetryHandler,
)
from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    DividerBlock,
    HeaderBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)
from slack_sdk.webhook import WebhookClient

from miyabi_healing import __version__
from miyabi_healing.report.alerts.alert import FORECASTS, WORDS, Alert
from miyabi_healing.report.alerts.message import Message, NotSent
from miyabi_healing.report.style import MARKS
from miyabi_healing.support.invocation import own_command
from miyabi_healing.support.secrets import Secret

if TYPE_CHECKING:
    from slack_sdk.http_retry.response import HttpResponse

_SHOWN_ALERTS = 8  # alerts in one message
_SIGNS = {
    "unhealed": "❌",
    "healed": "✅",
    "recovered": "✅",
    "reminder": "⏰",
    "brake": "⛔",
    "flapping": "🔁",
    "unknown": "❓",
    **dict.fromkeys(FORECASTS, MARKS["foreseen"].emoji),
    "passed": "✅",
    "stopped": "⛔",
    "test": "✅",
}
# the client would log the address
_SILENT = logging.Logger("miyabi_healing.slack", logging.CRITICAL)


class _Patience(RateLimitErrorRetryHandler):
    """Waits as long as Slack asks (429, Retry-After), if that is not too long for now."""

    longest = 0.0  # seconds

    def _can_retry(
        self, *, state: Any, request: Any, response: HttpResponse | None = None, error: Any = None
    ) -> bool:
        return (
            response is not None
            and response.status_code == 429
            and _wait_asked(response.headers) <= self.longest
        )


def _wait_asked(headers: Any) -> float:
    """The seconds in a Retry-After header; a minute where it says nothing to be understood."""
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    text = str(value[0] if isinstance(value, list) else value)
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else 60.0


def send(url: Secret, message: Message, seconds: float) -> None:
    """Post one message. Raises NotSent, with a reason that does not hold the address."""
    patience = _Patience(max_retry_count=2)
    patience.longest = seconds / 2
    retries = [
        ConnectionErrorRetryHandler(max_retry_count=1),
        ServerErrorRetryHandler(max_retry_count=1),
        patience,
    ]
    client = WebhookClient(
        url.value, timeout=max(1, int(seconds / 2)), logger=_SILENT, retry_handlers=retries
    )
    status, said, retry_after = post_message(
        client, text=message_text(message), blocks=blocks(message)
    )
    if status == 400:  # should Slack's rules change, the plain text still says it all
        status, said, retry_after = post_message(client, text=message_text(message))
    if (status, said) != (200, "ok"):
        # anything else might repeat the address
        word = f", {said}" if re.fullmatch(r"[a-z_]{1,40}", said) else ""
        raise NotSent(f"HTTP status {status}{word}", retry_after, hopeless=status == 400)


def post_message(client: WebhookClient, **what: Any) -> tuple[int, str, float]:
    try:
        answer = client.send(**what)
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        words = (
            "no answer in time"
            if isinstance(reason, TimeoutError)
            else getattr(reason, "strerror", None)
        )
        raise NotSent(words or type(reason).__name__) from None
    except Exception as error:
        raise NotSent(type(error).__name__) from None
    retry_after = _wait_asked(answer.headers) if answer.status_code == 429 else 0.0
    return answer.status_code, answer.body.strip(), retry_after


def message_text(message: Message) -> str:
    """All of it without blocks: for notifications, and for readers that show none."""
    lines = [f"{_SIGNS[each.kind]} {each.line}" for each in message.alerts[:_SHOWN_ALERTS]]
    return _escape_mrkdwn(cut("\n".join([f"{message.host}:", *lines, *more(message)]), 2500))


def blocks(message: Message) -> list[Block]:
    kinds = {each.kind for each in message.alerts}
    worst = message.alerts[0].kind if len(kinds) == 1 else "unhealed"
    if kinds <= {*FORECASTS, "healed", "recovered", "passed"} and len(kinds) > 1:
        worst = "foreseen" if kinds & set(FORECASTS) else "healed"
    found: list[Block] = [HeaderBlock(text=plain_text(f"{_SIGNS[worst]} {message.title}", 150))]
    for each in message.alerts[:_SHOWN_ALERTS]:
        found += [DividerBlock(), *_parts(each)]
    facts = [
        *more(message),
        f"run {message.run_id} of {message.timestamp.replace('T', ' ')}, "
        f"Miyabi Healing {__version__}",
    ]
    return [
        *found,
        DividerBlock(),
        ContextBlock(elements=[plain_text(each, 300) for each in facts]),
    ]


def more(message: Message) -> list[str]:
    left = len(message.alerts) - _SHOWN_ALERTS
    return [f"… and {left} more: {own_command()} status"] if left > 0 else []


def _parts(alert: Alert) -> Iterator[Block]:
    """One alert: what, how much of how much, what was done, what to do."""
    title = (
        f"{_SIGNS[alert.kind]} *{_escape_mrkdwn(cut(alert.subject, 150))}* · {WORDS[alert.kind]}"
    )
    facts = {"Measured": alert.measured, "Severity": alert.severity, "Held back": alert.brake}
    fields = [
        MarkdownTextObject(text=f"*{name}*\n{_escape_mrkdwn(cut(value, 150))}")
        for name, value in facts.items()
        if value
    ]
    yield SectionBlock(text=MarkdownTextObject(text=title), fields=fields or None)
    words = [alert.description, *alert.done]
    if any(words):
        yield SectionBlock(
            text=plain_text("\n".join(cut(each, 250) for each in words if each), 600)
        )
    yield ContextBlock(elements=[plain_text(alert.advice, 300)])


def plain_text(words: str, longest: int) -> PlainTextObject:
    return PlainTextObject(text=cut(words, longest), emoji=False)


def cut(words: str, longest: int) -> str:
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def _escape_mrkdwn(words: str) -> str:
    """What must not become a link or a mention (docs.slack.dev, formatting message text)."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
