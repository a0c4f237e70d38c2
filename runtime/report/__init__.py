"""The report of a search: one HTML file that needs no network. No torch is loaded to write it."""

from runtime.report.writing import render_run, report

__all__ = ["render_run", "report"]
