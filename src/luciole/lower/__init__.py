"""Lowering: from a graph to a program of buffers and instructions."""
