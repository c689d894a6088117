"""Kernels for cores with the RISC-V vector extension: lanes are output channels."""
