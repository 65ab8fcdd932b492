"""One module a stage: each asset reads its pinned inputs and makes one call of the library."""
