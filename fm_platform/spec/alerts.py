"""What a project declares about alerts: how grave is grave, what runs by itself, who is told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fm_platform.spec.part import Part

RepairKind = Literal["backfill", "retrain"]
"""Repairs that a machine can do; all others are for people."""


class Mail(Part):
    """Where mail about alerts goes. The password is read from the environment, never from here."""

    host: str = Field(min_length=1)
    port: int = Field(default=25, ge=1, le=65_535)
    sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    to: tuple[str, ...] = Field(min_length=1)
    starttls: bool = False
    user: str | None = None
    password_variable: str = Field(default="FM_SMTP_PASSWORD", pattern=r"^[A-Z][A-Z0-9_]*$")


class Alerts(Part):
    """The policy: which repairs run by themselves, and how much of them.

    `low`, `medium` and `high` are points of expected loss from which an alert is that grave; below
    `low` it is recorded and nobody is told.
    """

    automatic: tuple[RepairKind, ...] = Field(
        default=(), description="repairs that run without `fm alerts approve`"
    )
    least: Literal["low", "medium", "high"] = Field(
        default="low", description="severity from which a repair runs by itself"
    )
    runs_per_day: int = Field(default=2, ge=0)
    minutes_per_day: float = Field(default=120.0, ge=0)
    cooldown_hours: float = Field(default=12.0, ge=0, description="between repairs of one cause")
    low: float = Field(default=1.0, ge=0, le=100)
    medium: float = Field(default=3.0, ge=0, le=100)
    high: float = Field(default=8.0, ge=0, le=100)
    retrain: Literal["with_data", "on_alert"] = Field(
        default="with_data", description="on_alert: new days alone train nothing"
    )
    rollback_points: float = Field(
        default=2.0, ge=0, le=100,
        description="loss on gold, surely, at which a young champion is taken back",
    )  # fmt: skip
    probation_days: float = Field(default=7.0, ge=0, description="how long a champion is young")
    late_days: int = Field(
        default=30, ge=0, description="days back in which rows that come late are looked for"
    )
    show_rows: int = Field(
        default=5, ge=0, le=50,
        description="sample rows that the alerts page shows, personal data masked; 0: none",
    )  # fmt: skip
    check_every_s: int = Field(default=60, ge=5, description="between two ticks of the sensors")
    webhook_variable: str | None = Field(
        default=None, pattern=r"^[A-Z][A-Z0-9_]*$",
        description="environment variable that holds the address of a webhook",
    )  # fmt: skip
    mail: Mail | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Alerts:
        if not self.low <= self.medium <= self.high:
            raise ValueError("low, medium and high must rise")
        return self

    def never_fires(self) -> list[str]:
        """Return, in words, which parts of this policy can never do anything."""
        found = []
        if self.automatic and self.runs_per_day == 0:
            found.append("repairs may run by themselves, but runs_per_day is 0")
        if self.automatic and self.minutes_per_day == 0:
            found.append("repairs may run by themselves, but minutes_per_day is 0")
        if self.low >= 100:
            found.append("low is 100 points: no alert can cost more, so nobody is ever told")
        if self.retrain == "on_alert" and "retrain" not in self.automatic:
            found.append(
                "models are trained on alerts only, and `retrain` needs approval each time"
            )
        return found
