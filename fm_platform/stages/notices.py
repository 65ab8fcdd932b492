"""Who is told: webhook and mail, from what the ledger holds, once each, never inside a run.

A notice waits in the ledger until its channel took it; that it did is a record of its own. So a
channel that is away delays nothing, and what waited arrives once when it is back. Dying between
the answer of the channel and that record sends it twice; its `Idempotency-Key` (or `Message-ID`)
is then the same.
"""

from __future__ import annotations

import html
import http.client
import json
import os
import smtplib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.utils import formatdate
from urllib.parse import urlsplit

from fm_platform.display import plain
from fm_platform.errors import FMError
from fm_platform.lineage.alert_events import AlertEvent
from fm_platform.lineage.database import now
from fm_platform.monitoring.life import Life
from fm_platform.spec.alerts import Mail
from fm_platform.stages.alerts import Desk

TIMEOUT_S = 5.0
AT_ONCE = 20
"""Notices of one channel and tick, at most."""
HISTORY = timedelta(days=7)
"""What happened longer ago is nothing to tell any more, to a channel that is new or was away."""
_MOST_CHARS = 3_000
"""Of a section of Slack, which refuses longer ones."""
_THIS_ONE = (400, 413, 422)
"""Answers of a webhook about one notice, not about all of them."""
_TOLD_OF = ("opened", "repaired", "not_repaired", "made_worse", "rolled_back")
_HEAD = {
    "opened": "alert", "repaired": "repaired", "not_repaired": "not repaired",
    "made_worse": "made worse", "rolled_back": "champion taken back",
}  # fmt: skip


@dataclass(frozen=True)
class Notice:
    """One message; `key` is the same however often it is sent."""

    key: str
    title: str
    lines: tuple[str, ...]


Channel = Callable[[Notice], None]
"""Sends one notice; raises OSError, smtplib.SMTPException or FMError where it was not taken."""


@dataclass(frozen=True)
class Delivery:
    """What one try did."""

    sent: int
    waiting: int
    problems: tuple[str, ...]


def deliver(desk: Desk, seconds: float = 20.0) -> Delivery:
    """Send what waits to every channel, until one is away or the time is used up.

    A notice that a channel refuses for what it holds waits, and the next one is sent.

    Args:
        desk: The alerts.
        seconds: After so many nothing new is begun.
    """
    sent, waiting, problems = 0, 0, []
    end_s = time.monotonic() + seconds
    listed = list(pending(desk))
    for name, channel in channels(desk).items():
        told = {e.body["event"] for e in _events(desk, "told") if e.body["channel"] == name}
        left = [(event, notice) for event, notice in listed if event.id not in told]
        taken = 0
        for event, notice in left[:AT_ONCE]:
            if time.monotonic() > end_s:
                break
            try:
                channel(notice)
            except (OSError, smtplib.SMTPException, FMError) as error:
                problems.append(f"{name}: {plain(f'{type(error).__name__}: {error}')}")
                if _about_this_one(error):
                    continue
                break
            body = {"channel": name, "event": event.id}
            desk.note(event.alert, "told", f"told:{name}:{event.id}", body)
            taken += 1
        sent += taken
        waiting += len(left) - taken
    return Delivery(sent, waiting, tuple(problems))


def _about_this_one(error: Exception) -> bool:
    """Whether a channel refused one notice, and may take others."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _THIS_ONE
    return isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500


def pending(desk: Desk) -> Iterable[tuple[AlertEvent, Notice]]:
    """Yield every step of the last days that somebody is told of, oldest first."""
    lives, said, since = desk.lives(), desk.rulings(), now() - HISTORY
    for event in desk.ws.ledger.alert_events(desk.name):
        if event.what not in _TOLD_OF or event.at < since:
            continue
        life = lives.get(event.alert)
        if life is not None:
            opened = life.last("opened") or life.events[0]
            if said.severity(life.first) == "record" or opened.body.get("silent"):
                continue
            if said.silences(life.alert.cause.key, event.at):
                continue
        severity = said.severity(life.first) if life else ""
        yield event, _notice(desk.name, event, life, severity)


def _events(desk: Desk, what: str) -> list[AlertEvent]:
    return [e for e in desk.ws.ledger.alert_events(desk.name) if e.what == what]


def _notice(project: str, event: AlertEvent, life: Life | None, severity: str) -> Notice:
    about = life.alert.title if life else event.reason
    title = plain(f"{project}: {_HEAD[event.what]}: {about}", 300)
    lines = [event.reason] if life and event.what != "opened" else []
    if life and event.what == "opened":
        lines += life.alert.words
        lines.append(f"severity {severity}, since {life.alert.since}")
    if life:
        lines.append(f"fm alerts show {project} {life.alert.id}")
    return Notice(f"{project}-{event.alert}-{event.id}", title, tuple(plain(t, 400) for t in lines))


def channels(desk: Desk) -> dict[str, Channel]:
    """Return the channels that the project declares."""
    found: dict[str, Channel] = {}
    variable, mail = desk.policy.webhook_variable, desk.policy.mail
    if variable:
        found["webhook"] = lambda notice: post(_address(variable), notice)
    if mail is not None:
        found["mail"] = lambda notice: send_mail(mail, notice)
    return found


def _address(variable: str) -> str:
    address = os.environ.get(variable, "").strip()
    if not address:
        raise FMError(f"{variable} is not set where the sensors run: nobody is told by webhook")
    return address


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def post(address: str, notice: Notice) -> None:
    """Post a notice as JSON that Slack and its likes understand.

    Raises:
        OSError: If it was not taken.
        FMError: If this is no address of a webhook; it is a secret and not told.
    """
    # Slack reads these three marks; everything else in the text is text to it
    safe = [html.escape(text, quote=False) for text in (notice.title, *notice.lines)]
    text = _fitting([f"*{safe[0]}*", *safe[1:]])
    body = {"text": text, "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]}
    headers = {"Content-Type": "application/json", "Idempotency-Key": notice.key}
    opener = urllib.request.build_opener(_NoRedirect())
    try:
        if urlsplit(address).scheme not in ("http", "https"):
            raise ValueError
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            answer.read(64)
    except (ValueError, http.client.InvalidURL):
        raise FMError("a webhook has an http or https address") from None
    except http.client.HTTPException as error:
        raise ConnectionError(f"no answer of HTTP: {type(error).__name__}") from error


def _fitting(lines: list[str]) -> str:
    """Return as many lines as a section may hold; the last one says where the others are."""
    while len("\n".join(lines)) > _MOST_CHARS and len(lines) > 2:
        del lines[-2]
    return "\n".join(lines)


def send_mail(mail: Mail, notice: Notice) -> None:
    """Send a notice as mail.

    Raises:
        OSError: If the server cannot be reached.
        smtplib.SMTPException: If it refuses.
    """
    message = EmailMessage()
    message["From"], message["To"] = mail.sender, ", ".join(mail.to)
    message["Subject"] = notice.title[:200]
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{notice.key}@{mail.sender.partition('@')[2]}>"
    message.set_content("\n".join([notice.title, "", *notice.lines]))
    with smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_S) as server:
        if mail.starttls:
            server.starttls()
        if mail.user:
            server.login(mail.user, os.environ.get(mail.password_variable, ""))
        server.send_message(message)
