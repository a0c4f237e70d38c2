"""Training, the supernet, evaluation, export and the command line."""
