"""Who evaluates candidates: this process, processes of their own, or a Ray cluster."""
