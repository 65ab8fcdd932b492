"""`fm ledger`: the record itself."""

from __future__ import annotations

import typer

from fm_platform.cli.export import export
from fm_platform.cli.rebuild import rebuild

ledger = typer.Typer(help="The ledger itself: export it, build it again.", no_args_is_help=True)
ledger.command()(export)
ledger.command()(rebuild)
