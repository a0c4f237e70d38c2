"""The tile program as Triton text."""
