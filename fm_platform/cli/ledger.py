"""`fm ledger`: the record itself."""

from __future__ import annotations

import typer

from fm_platform.cli.export import export

ledger = typer.Typer(help="The ledger itself: export it.", no_args_is_help=True)
ledger.command()(export)
