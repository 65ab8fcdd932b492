"""fm_platform: a build system for foundation models whose source code is data.

The library never imports Dagster; `assets` does, and stays thin.
"""

__version__ = "0.1.0"
