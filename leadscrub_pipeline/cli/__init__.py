"""The command line: typer commands over the same functions that the assets call."""

from leadscrub_pipeline.cli.app import main

__all__ = ["main"]
