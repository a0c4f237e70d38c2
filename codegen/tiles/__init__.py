"""Kernels as data: the tile program, how it is built from a schedule, and what is read off it."""
