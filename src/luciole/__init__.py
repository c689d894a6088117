"""Luciole: an ahead-of-time neural-network compiler."""
