"""Personal data in texts: found by pattern, kept only where check digits and shape agree.

No model is asked and nothing is fetched: a name that no rule or list knows stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.cleaning.rules import RULES, DayContext, Verdicts

KINDS = ("email", "iban", "card", "ip", "phone", "name")
"""In the order in which they are looked for: what one finds, a later one does not see."""

_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.!#$%&'*+/=?^`{|}~-]{1,64}"
    r"(?:@|\s?[\[({]\s?at\s?[\])}]\s?)"
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.|\s?[\[({]\s?dot\s?[\])}]\s?)){1,8}"
    r"(?:[^\W\d_]{2,24}|xn--[a-z0-9-]{2,59})(?![\w-])",
    re.IGNORECASE,
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?![A-Za-z0-9])", re.I)
_CARD = re.compile(r"(?<![\d.,+-])(?:[2-6]|1(?=800))(?:[ -]?\d){11,18}(?![\d-])(?![.,]\d)")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|\d{1,3}(?:\.\d{1,3}){3}|)"
                   r"(?![\w:])", re.I)  # fmt: skip
_PHONE = re.compile(
    r"(?<![\w.,:/+-])(?:\+|\(\+)?\(?\d[\d ().\-/\u2010-\u2013\u00a0]{5,24}\d"
    r"(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?(?![\w%]|[.,:/]\d)",
    re.IGNORECASE,
)
_NANP = re.compile(r"(?:001|\+?1)?[2-9]\d{2}[2-9]\d{6}|(?:001|\+?1)?[2-9]\d{9}")
_DATE = re.compile(
    r"\d{4}[-/. ]\d{1,2}[-/. ]\d{1,2}(?:[ T]\d{1,2})?|\d{1,2}[-/. ]\d{1,2}[-/. ]\d{4}"
    r"|(?:1[5-9]|20)\d\d ?[-\u2010-\u2013/] ?(?:1[5-9]|20)\d\d"
)
_PERSON = r"(?:[A-Z\u00c0-\u00de][\w'\u2019-]+)"
_NAME = re.compile(
    rf"(?:(?<!\w)(?:Mrs?|Ms|Miss|Mx|Dr|Prof|Sir|Herr|Frau|Mme|Monsieur|Se\u00f1ora?)\.?\s+"
    rf"|(?<!\w)(?:[Mm]y name is|[Ii] am called|[Nn]amed|[Yy]ours (?:sincerely|truly|faithfully)"
    rf"|[Rr]egards)[,:]?\s+)({_PERSON}(?:\s+(?:(?:van|von|de|der|da|di|la|le|al|bin)\s+)?"
    rf"{_PERSON}){{0,2}})"
)
# ISO 13616 registry: length by country; others may have 15 to 34 characters.
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "BR": 29, "CH": 21, "CY": 28, "CZ": 24,
    "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21,
    "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
    "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "RS": 22, "SA": 24,
    "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """One place of personal data in a text: `text[start:end]`."""

    kind: str
    start: int
    end: int


def find(text: str, kinds: Sequence[str], names: tuple[str, ...] = ()) -> list[Found]:
    """Return the personal data in a text, from left to right, without overlaps.

    Args:
        text: Any text.
        kinds: Some of `KINDS`.
        names: Names that kind `name` finds anywhere, as whole words.
    """
    found: list[Found] = []
    rest = text
    for kind in (kind for kind in KINDS if kind in kinds):
        for start, end in _FINDERS[kind](rest, names):
            found.append(Found(kind, start, end))
            # of equal length, so that places stay; a later kind cannot match a NUL
            rest = rest[:start] + "\0" * (end - start) + rest[end:]
    return sorted(found, key=lambda item: item.start)


def mask(text: str, found: Sequence[Found]) -> str:
    """Return the text with `[EMAIL]`, `[PHONE]`, … in the place of what was found."""
    parts, last = [], 0
    for item in found:
        parts += [text[last : item.start], f"[{item.kind.upper()}]"]
        last = item.end
    return "".join([*parts, text[last:]])


@RULES.register("pii")
def pii(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Mask personal data, or remove the rows that hold some."""
    texts = rows["text"].to_pylist()
    changed: dict[int, str] = {}
    notes: dict[int, str] = {}
    for i in suspects(texts, rule.kinds):
        found = find(texts[i], rule.kinds, rule.names)
        if found:
            counts = Counter(item.kind for item in found)
            notes[i] = "holds " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
            changed[i] = mask(texts[i], found)
    remove = np.zeros(rows.num_rows, bool)
    if rule.action == "mask":
        return Verdicts(remove, text=changed, notes=notes)
    remove[sorted(notes)] = True
    return Verdicts(remove, [notes[i] for i in sorted(notes)])


def suspects(texts: Sequence[str], kinds: Sequence[str]) -> list[int]:
    """Return the positions of the texts that can hold any of the kinds: most cannot."""
    import polars as pl

    if "name" in kinds:
        return list(range(len(texts)))
    numbers = [kind for kind in kinds if kind != "email"]
    signs = ([r"@|[\[({]\s?(?i:at)\s?[\])}]"] if "email" in kinds else []) + (
        [r"\d(?:\D{0,3}\d){4}|:[0-9A-Fa-f]{0,4}:"] if numbers else []
    )
    hits = pl.Series("text", texts, pl.String).str.contains("|".join(signs))
    return [int(i) for i in np.flatnonzero(hits.fill_null(False).to_numpy())]


def _emails(text: str, _names: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    yield from (match.span() for match in _EMAIL.finditer(text))


def _ibans(text: str, _names: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        # the words behind a number in groups of four may look like a part of it
        for end in range(match.end(), match.start() + 14, -1):
            told = text[match.start() : end]
            plain = re.sub(r"[ -]", "", told).upper()
            if told[-1] not in " -" and _is_iban(plain):
                yield match.start(), end
                break


def _is_iban(plain: str) -> bool:
    wanted = _IBAN_LENGTHS.get(plain[:2])
    if len(plain) != wanted if wanted else not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _cards(text: str, _names: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if len(digits) in _card_lengths(digits) and len(set(digits)) > 1 and _luhn(digits):
            yield match.span()


def _card_lengths(digits: str) -> tuple[int, ...]:
    """Return how many digits a card of this issuer has (ISO/IEC 7812)."""
    if digits[0] == "3":
        return (15,) if digits[1] in "47" else (14, 16)
    if digits[:4] in ("1800", "2131"):
        return (15,)
    return {"1": (), "2": (16,), "4": (13, 16, 19), "5": (12, 16), "6": (12, 16, 19)}[digits[0]]


def _luhn(digits: str) -> bool:
    values = [int(c) for c in reversed(digits)]
    doubled = [v * 2 - 9 if v > 4 else v * 2 for v in values[1::2]]
    return (sum(values[::2]) + sum(doubled)) % 10 == 0


def _addresses(text: str, _names: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for match in _IPV4.finditer(text):
        try:
            IPv4Address(match.group())
        except AddressValueError:
            continue
        yield match.span()
    for match in _IPV6.finditer(text):
        try:
            address = IPv6Address(match.group())
        except AddressValueError:
            continue
        # not `::`, `a::b` and the like
        if int(address) >> 112 >= 16 and any(c.isdigit() for c in match.group()):
            yield match.span()


def _phones(text: str, _names: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text):
        told = match.group()
        if _is_phone(re.split(r"\s?(?:x|ext)", told, flags=re.IGNORECASE)[0]):
            yield match.span()


def _is_phone(told: str) -> bool:
    """Whether digits are grouped as a number to call: abroad, at home with 0, North American."""
    if _DATE.match(told):
        return False
    digits = re.sub(r"\D", "", told)
    if told.lstrip("(").startswith("+") or told.startswith("00"):
        return 8 <= len(digits) <= 17
    groups = re.findall(r"\d+", told)
    if len(groups) == 1:
        return bool(_NANP.fullmatch(digits)) or (digits[0] == "0" and 10 <= len(digits) <= 12)
    if any(len(group) == 1 for group in groups[1:]) or len(groups) > 6:
        return False
    if digits[0] == "0" or told.startswith("(0"):
        return 9 <= len(digits) <= 13
    if len(groups[-1]) == 4 and len(groups[-2]) == 3:
        return len(digits) == 7 or bool(_NANP.fullmatch(digits))
    return False


def _people(text: str, names: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    last = 0
    spans = [match.span(1) for match in _NAME.finditer(text)]
    if names:
        spans += [match.span() for match in _listed(names).finditer(text)]
    for start, end in sorted(spans):
        if start >= last:
            yield start, end
            last = end


@lru_cache(maxsize=8)
def _listed(names: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


_FINDERS: dict[str, Callable[[str, tuple[str, ...]], Iterator[tuple[int, int]]]] = {
    "email": _emails, "iban": _ibans, "card": _cards, "ip": _addresses, "phone": _phones,
    "name": _people,
}  # fmt: skip
