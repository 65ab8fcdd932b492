"""The `fm` command: one module a group of commands, every one with `--json` where it answers."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `fm`; a deliberate error is printed without a traceback and ends with code 1."""
    from fm_platform.cli.app import app
    from fm_platform.display import plain
    from fm_platform.errors import FMError

    def _inert(error: FMError) -> str:
        return "\n".join(plain(line, limit=2_000) for line in str(error).splitlines())

    try:
        app(standalone_mode=True)
    except FMError as error:
        sys.stderr.write("error: " + _inert(error) + "\n")
        sys.exit(1)


__all__ = ["main"]
