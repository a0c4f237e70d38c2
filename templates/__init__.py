"""Jinja templates of the generated code: loops and names only, no decisions."""
