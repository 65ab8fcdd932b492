"""Merge adapters into one dense model: tensor functions, exactness checks, weight search."""
