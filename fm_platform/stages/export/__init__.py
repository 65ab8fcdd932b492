"""History for other systems: OpenLineage events and the model card, from the ledger alone."""
