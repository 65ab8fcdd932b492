"""One module a stage: read pinned inputs, call the library, write, record.

Each `build_…` function asks the ledger first and computes only what is not there. Dagster assets
call them; so can a test or a person. They know no Dagster.
"""

from fm_platform.stages.common import CheckResult, Reporter, SilentReporter, StageResult

__all__ = ["CheckResult", "Reporter", "SilentReporter", "StageResult"]
