"""The page of the labeling functions, beside the lineage page: what they do, and what to do."""
