"""Kernels of plain integer instructions, tiled by registers, for cores without a DSP or vector extension."""
