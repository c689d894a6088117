"""Targets as data, and the registry of kernels that are better than an operator's generic loops."""
