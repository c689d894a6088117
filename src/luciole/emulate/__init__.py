"""Runs a compiled bundle object on an emulated core: no board, no cross tools."""
