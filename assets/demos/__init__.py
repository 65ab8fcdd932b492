"""Demonstrations: each one command, in a home of its own."""
