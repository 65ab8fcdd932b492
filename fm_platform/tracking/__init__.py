"""MLflow: runs, registered models, aliases, the spool for a registry that is away, model cards.

Nothing here imports MLflow before something is published.
"""
