"""Where the project's own files are: dagster.yaml, workspace.yaml, the demo's lead scripts."""

from pathlib import Path

from leadscrub_pipeline.errors import UsageError


def project_path(name: str) -> Path:
    """A file or folder of the checkout, by its path from the top.

    Raises:
        UsageError: the program was installed without the project around it.
    """
    path = Path(__file__).resolve().parents[2] / name
    if not path.exists():
        raise UsageError(f"{path} is missing. Run leadscrub from a checkout of the project.")
    return path
