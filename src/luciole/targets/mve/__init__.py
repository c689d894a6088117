"""Kernels for cores with the M-profile Vector Extension (Cortex-M55, M85): plain loops that become vectors."""
