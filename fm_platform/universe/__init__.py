"""Whole universes: everything of a project back to a moment, and branches beside main."""
