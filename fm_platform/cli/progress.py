"""Progress of a command that takes long: one line of the terminal, and nothing in a pipe."""

from __future__ import annotations

import sys

import typer


class TerminalReporter:
    """A `Reporter` that writes progress over itself on standard error, where that is a terminal."""

    def info(self, message: str) -> None:
        """Drop the words of a stage."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Show the newest step; the line goes when the task is done."""
        if not sys.stderr.isatty():
            return
        told = "" if done >= total else f"{task}: {done:,} of {total:,} {note}".rstrip()
        typer.echo(f"\r\x1b[2K{told}", nl=False, err=True)
