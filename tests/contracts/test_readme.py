"""What the README tells people to type exists, and what the documents link to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from fm_platform.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FM = typer.main.get_command(app)
_FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```")
_LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")


def commands(markdown: str) -> list[list[str]]:
    """Return the words of every command in a `bash` or `console` block, without comments."""
    found = []
    for language, block in _FENCE.findall(markdown):
        if language not in ("bash", "console"):
            continue
        lines = block.replace("\\\n", " ").splitlines()
        if language == "console":  # the rest is what the commands print
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            for part in re.split(r"&&|\|\||;|\|", _without_comment(line)):
                words = shlex.split(part)
                if words:
                    found.append(words)
    return found


def inline(markdown: str) -> list[list[str]]:
    """Return the words of `fm ...` and `make ...` in running text on what is there."""
    text = _FENCE.sub("", re.sub(r"(?ms)^## What is not there yet.*?(?=^## |\Z)", "", markdown))
    spans = re.findall(r"`((?:fm|make) [^`\n]+)`", text)
    return [shlex.split(span) for span in spans if "…" not in span]


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line)


def targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8")))


def wrong(words: list[str]) -> str | None:
    """Return why a command cannot be typed as it stands, None if it can or is not one of ours."""
    if words[0] == "make":
        unknown = [w for w in words[1:] if "=" not in w and not w.startswith("-")]
        unknown = [w for w in unknown if w not in targets()]
        return f"the Makefile has no target {unknown[0]}" if unknown else None
    if Path(words[0]).name == "fm":
        return _wrong_fm(words[1:])
    return None


def _wrong_fm(words: list[str]) -> str | None:
    known = FM.commands  # type: ignore[attr-defined] # typer's group
    if not words:
        return None
    if words[0] not in known:
        return f"fm has no command {words[0]}"
    try:
        # parses, and does not run
        known[words[0]].make_context(words[0], list(words[1:]))
    except Exception as error:
        if type(error).__name__ == "Exit":  # --help
            return None
        told = error.format_message() if hasattr(error, "format_message") else repr(error)
        return f"{' '.join(words)}: {told}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_can_be_typed(document: Path) -> None:
    text = document.read_text("utf-8")
    found = [problem for words in commands(text) if (problem := wrong(words))]
    # running text may name a command without its arguments
    for words in inline(text):
        problem = wrong(words)
        if problem and "Missing" not in problem:
            found.append(problem)
    assert not found


def test_the_readme_shows_commands() -> None:
    found = commands((ROOT / "README.md").read_text("utf-8"))
    assert ["make", "demo"] in found
    assert ["make", "test"] in found
    assert any(Path(words[0]).name == "fm" for words in found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    missing = []
    for pair in _LINK.findall(_FENCE.sub("", document.read_text("utf-8"))):
        link = (pair[0] or pair[1]).partition("#")[0]
        if link and not re.match(r"[a-z]+:", link) and not (document.parent / link).exists():
            missing.append(link)
    assert not missing


def test_every_anchor_is_a_heading() -> None:
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for pair in _LINK.findall(_FENCE.sub("", text)):
            file, _, anchor = (pair[0] or pair[1]).partition("#")
            if not anchor or re.match(r"[a-z]+:", file):
                continue
            target = document.parent / file if file else document
            headings = re.findall(r"(?m)^#+ (.+)$", target.read_text("utf-8"))
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, f"{document.name}: {file}#{anchor}"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("make nothing", "no target nothing"),
        ("make ui PORT=4000", None),
        (".venv/bin/fm fly", "no command fly"),
        ("fm status sentiment --jsn", "No such option"),
        ("fm plan", "Missing argument"),
        ("fm run sentiment --from 2026-01-01", None),
        ("pip install fm", None),
    ],
)
def test_a_wrong_command_is_found(line: str, problem: str | None) -> None:
    found = wrong(shlex.split(line))
    assert (found is None) if problem is None else (found is not None and problem in found)


def test_commands_are_read_from_blocks() -> None:
    text = "```bash\nmake demo   # once\nfm plan x && fm run x\n```\n"
    text += "```console\n$ fm fsck\nmake x\n```\n"
    assert commands(text) == [
        ["make", "demo"],
        ["fm", "plan", "x"],
        ["fm", "run", "x"],
        ["fm", "fsck"],
    ]
    assert commands("```yaml\nmake: nothing\n```\n") == []
