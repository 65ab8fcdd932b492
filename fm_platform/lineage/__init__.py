"""The ledger: what every version was made from, what came of it, and which one is in use."""

from fm_platform.lineage.build import BuildResult, build
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, Input, Produced, Recipe, RunContext

__all__ = [
    "ArtifactVersion",
    "BuildResult",
    "Input",
    "Ledger",
    "Produced",
    "Recipe",
    "RunContext",
    "build",
]
