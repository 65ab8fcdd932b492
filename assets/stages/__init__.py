"""One module a stage: each asset reads its pinned inputs and makes one call of the library.

These modules do without `from __future__ import annotations`: Dagster looks at the annotation of
`context` itself and refuses its text.
"""
