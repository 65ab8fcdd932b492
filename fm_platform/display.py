"""Row text made inert for every place that shows it.

Row text, class names of others, file names and column names come from outside. Whatever shows
them (a page, Markdown, a terminal, a spreadsheet, a report library) gets them through here, so
that none of them can run a script, fetch an address, move a cursor, reorder a line or hide.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

PREVIEW_CHARS = 200
"""How much of a text a preview shows."""

ZERO_WIDTH_SPACE = "\u200b"

# CSI, finished OSC/DCS/PM/APC strings, and two-character escapes; then their one-character C1
# forms. An unfinished string loses only its opening: it must not hide the rest of the text.
_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]"
    r"|[\x9d\x90\x98\x9e\x9f][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
)
# Direction marks and overrides, invisible separators, tag characters, the byte order mark.
# Zero-width joiners stay: emoji and several scripts need them.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_SPACES = re.compile(r"[\s\x85\u2028\u2029]+")
_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), "\ufffd")
_SURROGATES = re.compile("[\ud800-\udfff]")

_MARKDOWN = {ord(mark): "\\" + mark for mark in r"\`*_{}[]()#+-!|~$=^:"}
_MARKDOWN |= {
    ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;", ord('"'): "&quot;", ord("'"): "&#39;",
}  # fmt: skip
# GitHub-flavoured Markdown makes links of bare addresses, also after decoding entities.
_AUTOLINK = re.compile(r"(?i)(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?=@)")
_ORDERED_LIST = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_URL_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\"'<>\\^`{|}\u200b-\u200f\u2028-\u202e\ufeff]")


def plain(value: object, limit: int | None = PREVIEW_CHARS) -> str:
    r"""Return one line of visible text, at most `limit` characters, for a terminal or a log.

    Escape sequences, direction overrides and invisible characters go, control characters become
    their pictures, lone surrogates the replacement character, white space one space. A cut text
    ends with an ellipsis. None becomes the empty string.

    Example:
        >>> plain("\x1b[31mred\x1b[0m\nline")
        'red line'
    """
    if value is None:
        return ""
    text = str(value)
    if limit is not None:
        # Cutting first bounds the work on a 10 MB field; the margin is for what is removed.
        text = text[: 16 * limit + 1024]
    text = _ANSI.sub("", text)
    text = _INVISIBLE.sub("", text)
    text = _SPACES.sub(" ", text)
    text = _SURROGATES.sub("\ufffd", text).translate(_CONTROLS).strip()
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 1, 0)] + "\u2026"
    return text


def as_html(value: object, limit: int | None = PREVIEW_CHARS) -> str:
    """Return `value` for the body of a page or a quoted attribute."""
    return html.escape(plain(value, limit), quote=True)


def as_markdown(value: object, limit: int | None = PREVIEW_CHARS) -> str:
    """Return `value` for Markdown: no markup, no raw HTML, no image, no automatic link.

    It also holds inside a cell of a table.
    """
    text = plain(value, limit)
    text = _AUTOLINK.sub(ZERO_WIDTH_SPACE, text)
    return _ORDERED_LIST.sub(r"\1\\\2", text.translate(_MARKDOWN))


def as_rich(value: object, limit: int | None = PREVIEW_CHARS) -> str:
    """Return `value` for a `rich` console with markup on: square brackets are only brackets."""
    from rich.markup import escape

    return escape(plain(value, limit))


def as_csv_cell(value: object, limit: int | None = None) -> str:
    """Return `value` for a spreadsheet: a leading formula sign is preceded by an apostrophe."""
    text = plain(value, limit)
    return "'" + text if text.startswith(_FORMULA_START) else text


def inert_markup(text: str) -> str:
    """Return `text` with a zero-width space after every `<`, so that no tag can open.

    For libraries that embed strings unescaped in a script block (Evidently does).
    """
    return text.replace("<", "<" + ZERO_WIDTH_SPACE)


def json_for_html(value: Any) -> str:
    """Return JSON that can stand in a `<script>` block or a single-quoted attribute.

    `<`, `>`, `&`, `'` and everything outside ASCII are escaped.

    Raises:
        ValueError: For NaN or infinity.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    for mark in "<>&'":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def safe_url(value: object) -> str | None:
    """Return `value` if it is an absolute http or https address without tricks, else None.

    Refused: other schemes, white space and control characters, user names and passwords, no host.
    """
    if not isinstance(value, str) or len(value) > 2048 or _URL_UNSAFE.search(value):
        return None
    try:
        parts = urlsplit(value)
        _ = parts.port  # a malformed port raises only here
    except ValueError:
        return None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        return None
    return None if "@" in parts.netloc else value


def preview(
    rows: Iterable[Mapping[str, Any]], limit: int = PREVIEW_CHARS, rows_limit: int = 20
) -> list[dict[str, str | int | float | bool | None]]:
    """Return at most `rows_limit` rows with every string inert, for a table of a page.

    Numbers, booleans and None stay what they are; anything else becomes its plain text.
    """
    shown: list[dict[str, str | int | float | bool | None]] = []
    for row in rows:
        if len(shown) == rows_limit:
            break
        shown.append(
            {
                plain(name, 64): value
                if value is None or isinstance(value, (bool, int, float))
                else plain(value, limit)
                for name, value in row.items()
            }
        )
    return shown
