"""Contracts and declared cleaning rules; whatever they refuse goes to quarantine with a reason."""
