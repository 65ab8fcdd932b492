"""Hostile row text becomes inert in HTML, Markdown, terminals, spreadsheets and scripts."""

from __future__ import annotations

import csv
import html
import html.parser
import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from fm_platform import display

PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</SCRIPT ><ScRiPt>alert(1)//",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script src=https://evil.example/x.js></script>",
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)//",
    "<svg><script>alert(1)</script></svg>",
    "<img src=x onerror=alert(1)>",
    '<img src="https://evil.example/pixel.png">',
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=data:text/html,<script>alert(1)</script>>",
    "<embed src=https://evil.example/>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>@import 'https://evil.example/x.css'</style>",
    "<form action=https://evil.example/><button>go</button></form>",
    "<details open ontoggle=alert(1)>",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "[click](javascript:alert(1))",
    "[click](https://evil.example/)",
    "![beacon](https://evil.example/pixel.png)",
    "![beacon][1]\n\n[1]: https://evil.example/pixel.png",
    "<https://evil.example/>",
    "https://evil.example/",
    "see www.evil.example for more",
    "mail a@evil.example now",
    "[![x](https://evil.example/p.png)](javascript:alert(1))",
    "`code` **bold** _em_ ~~gone~~ # head",
    "# heading",
    "- item\n- item",
    "1. one",
    "> quote",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "```html\n<script>alert(1)</script>\n```",
    "    <script>indented</script>",
    "$$\\href{javascript:alert(1)}{x}$$",
    "{{7*7}}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    "${7*7} #{7*7} <%= 7*7 %>",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    '\t=HYPERLINK("https://evil.example/")',
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07 \x1b]8;;https://evil.example/\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[1;1H\x1bc cleared",
    "\x9b31m\x9d0;t\x9c one-character forms",
    "\u202egnp.exe\u202c \u2066hidden\u2069",
    "zero\u200bwidth\ufeff\u2060",
    "nul\x00byte \x08\x08\x08 bell\x07 del\x7f",
    "lone \ud800 surrogate",
    "[bold red]markup[/bold red] [link=https://evil.example/]x[/link] [/]",
    "line\r\nfake log line\u2028another",
]
ALLOWED_TAGS = {"p"}
# Format characters that are drawn (Arabic, Syriac, Kaithi and hieroglyph signs), and the joiners.
VISIBLE_FORMAT = {"\u200c", "\u200d", "\u06dd", "\u070f", "\u0890", "\u0891", "\u08e2"}
VISIBLE_FORMAT |= {"\U000110bd", "\U000110cd", *map(chr, range(0x600, 0x606))}
VISIBLE_FORMAT |= set(map(chr, range(0x13430, 0x13440)))


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_comment(self, data: str) -> None:
        self.tags.append("!--")

    def unknown_decl(self, data: str) -> None:
        self.tags.append("![")


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    return tags


def assert_visible(text: str) -> None:
    for char in text:
        category = unicodedata.category(char)
        assert category not in ("Cc", "Cs", "Zl", "Zp"), hex(ord(char))
        assert category != "Cf" or char in VISIBLE_FORMAT, hex(ord(char))


def test_the_corpus_has_sixty_payloads() -> None:
    assert len(set(PAYLOADS)) >= 60


@pytest.mark.parametrize("payload", PAYLOADS)
def test_plain_is_one_visible_line(payload: str) -> None:
    text = display.plain(payload)

    assert_visible(text)
    assert len(text) <= display.PREVIEW_CHARS
    assert text == display.plain(text)


def test_plain_of_every_character_is_visible() -> None:
    for start in range(0, 0x110000, 0x1000):
        assert_visible(display.plain("".join(map(chr, range(start, start + 0x1000))), None))


@given(st.text(alphabet=st.characters(codec=None), max_size=300))
def test_plain_of_any_text_is_visible_and_stable(text: str) -> None:
    shown = display.plain(text)

    assert_visible(shown)
    shown.encode("utf-8")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_html_opens_no_tag_and_no_attribute(payload: str) -> None:
    shown = display.as_html(payload)

    assert parsed(f"<p>{shown}</p>").tags == ["p"]
    inside = parsed(f'<p title="{shown}">x</p>')
    assert (inside.tags, [name for name, _ in inside.attributes]) == (["p"], ["title"])
    assert html.unescape(shown) == display.plain(payload)


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("preset", ["commonmark", "js-default"])
def test_markdown_renders_as_one_paragraph_of_text(payload: str, preset: str) -> None:
    renderer = MarkdownIt(preset, {"html": True})
    rendered = parsed(renderer.render(display.as_markdown(payload)))

    assert set(rendered.tags) <= ALLOWED_TAGS
    assert rendered.attributes == []


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markdown_stays_within_its_table_cell(payload: str) -> None:
    table = f"| a | b |\n|---|---|\n| {display.as_markdown(payload)} | end |\n"
    rendered = parsed(MarkdownIt("js-default", {"html": True}).render(table))

    assert rendered.tags.count("td") == 2
    assert set(rendered.tags) <= {"table", "thead", "tbody", "tr", "th", "td"}


def test_markdown_breaks_bare_addresses() -> None:
    shown = display.as_markdown("http://a.b www.a.b c@d.e")

    for address in ("://", "www.", "c@d"):
        assert address not in html.unescape(shown).replace("\\", "")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_rich_markup_prints_the_text_itself(payload: str) -> None:
    out = io.StringIO()
    Console(file=out, width=10_000, force_terminal=True, color_system="truecolor",
            highlight=False).print(display.as_rich(payload), emoji=False)  # fmt: skip

    assert out.getvalue().strip() == display.plain(payload)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_csv_cell_is_no_formula(payload: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([display.as_csv_cell(payload)])
    cell = next(csv.reader(io.StringIO(out.getvalue())))[0]

    assert not cell.startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_json_in_a_script_block_cannot_close_it(payload: str) -> None:
    shown = display.json_for_html({payload: payload})

    assert "<" not in shown
    assert "\u2028" not in shown
    assert json.loads(shown) == {payload: payload}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_inert_markup_opens_no_tag(payload: str) -> None:
    assert parsed(display.inert_markup(payload)).tags == []


@pytest.mark.parametrize(
    "address",
    ["http://localhost:3000/runs/1", "https://example.org/a?b=c#d", "HTTPS://example.org/"],
)
def test_safe_url_keeps_web_addresses(address: str) -> None:
    assert display.safe_url(address) == address


@pytest.mark.parametrize(
    "address",
    [
        *[payload for payload in PAYLOADS if payload != "https://evil.example/"],
        "file:///etc/passwd", "ftp://a.b/", "//evil.example/x", "/relative", "", "http://",
        "http:///path", "https://user:secret@a.b/", "https://a.b@evil.example/",
        "https://a.b\\@evil.example/", " https://a.b/", "https://a.b/\nx", "http://a.b:port/",
        "http://[::1", "https://a.b/" + "x" * 3000, None, 7,
    ],
)  # fmt: skip
def test_safe_url_refuses_everything_else(address: object) -> None:
    assert display.safe_url(address) is None


def test_plain_cuts_with_an_ellipsis_and_bounds_its_work() -> None:
    assert display.plain("x" * 300) == "x" * 199 + "\u2026"
    assert display.plain("x" * 10_000_000, 10) == "x" * 9 + "\u2026"
    assert display.plain(None) == ""


def test_plain_keeps_emoji_and_other_scripts() -> None:
    for text in ("👩\u200d👩\u200d👧", "می\u200cخواهم", "café 日本語"):
        assert display.plain(text) == text


def test_an_unfinished_escape_hides_nothing_after_it() -> None:
    assert display.plain("a\x1b]0;b c") == "a0;b c"


def test_preview_makes_names_and_values_inert_and_stops() -> None:
    rows = [{"te\x1b[1mxt": "a\x00", "n": 1, "p": 0.5, "ok": True, "none": None, "l": ["<"]}] * 30

    shown = display.preview(rows)

    assert len(shown) == 20
    assert shown[0] == {"text": "a\u2400", "n": 1, "p": 0.5, "ok": True, "none": None, "l": "['<']"}
