"""Graphs -> model files of other tools."""
