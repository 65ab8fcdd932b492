"""What was decided about registered models: aliases and tags of their versions in MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fm_platform.display import plain
from fm_platform.errors import TrackingError
from fm_platform.tracking.entities import KEY_TAG, VALUE_CHARS
from fm_platform.tracking.records import (
    CHALLENGER,
    CHAMPION,
    ChampionRecord,
    DecisionRecord,
    ModelRecord,
    record_key,
)

_NUMBERS_CHARS = 5_000
"""Longest value of a tag of a version in every registry."""


class Registry(Protocol):
    """What is needed of a publisher."""

    def call(self, method: str, *args: Any) -> Any:
        """Call the client."""

    def version_of(self, project: str, key: str) -> Any:
        """Return the registered version with a key, or None."""

    def settled(self, act: Callable[[], Any], done: Callable[[], bool]) -> None:
        """Act; a refusal is fine where it is done already."""


def publish_champion(registry: Registry, record: ChampionRecord) -> str:
    """Move the alias `champion` to the version of a recipe, and return its number.

    Raises:
        TrackingError: If the model is not registered.
    """
    name, number = record.project, _number(registry, record)
    registry.call("set_registered_model_alias", name, CHAMPION, number)
    if record.reason:
        told = plain(record.reason, VALUE_CHARS)
        registry.call("set_model_version_tag", name, number, "fm.promotion", told)
    _drop(registry, name, CHALLENGER, number)
    return number


def publish_decision(registry: Registry, record: DecisionRecord) -> str:
    """Write kind, reason and numbers of a decision to the version, and return its number.

    Raises:
        TrackingError: If the model is not registered.
    """
    name, number = record.project, _number(registry, record)
    if record.sets:
        registry.call("set_registered_model_alias", name, record.sets, number)
    for tag, value in {
        "fm.decision": record.decision,
        "fm.decision.reason": plain(record.reason, VALUE_CHARS),
        "fm.decision.numbers": numbers_text(record.numbers),
    }.items():
        registry.call("set_model_version_tag", name, number, tag, value)
    if record.drops:
        _drop(registry, name, record.drops, number)
    return number


def numbers_text(numbers: Mapping[str, Any]) -> str:
    """Return the numbers as JSON; of too many, those that are no lists."""
    whole = json.dumps(dict(numbers), sort_keys=True)
    if len(whole) <= _NUMBERS_CHARS:
        return whole
    single = {name: v for name, v in numbers.items() if not isinstance(v, (list, tuple, Mapping))}
    return json.dumps(single, sort_keys=True)[:_NUMBERS_CHARS]


def _number(registry: Registry, record: ChampionRecord | DecisionRecord) -> str:
    key = record_key(ModelRecord.kind, record.project, record.recipe_hash)
    version = registry.version_of(record.project, key)
    if version is None:
        raise TrackingError(
            f"the model of a decision ({record.kind}) is not registered",
            where=record.project,
            expected=f"a version with the tag {KEY_TAG} = {key}",
            next_step="log the merged model first",
        )
    return str(version.version)


def _drop(registry: Registry, name: str, alias: str, number: str) -> None:
    """Take an alias away from a version, where it names that one."""

    def gone() -> bool:
        return str(registry.call("get_registered_model", name).aliases.get(alias)) != number

    if not gone():
        registry.settled(lambda: registry.call("delete_registered_model_alias", name, alias), gone)
