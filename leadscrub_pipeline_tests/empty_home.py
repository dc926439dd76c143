"""An empty ledger and warehouse, made once a process and copied: to make them takes as long as some tests."""

from pathlib import Path

from leadscrub_pipeline.deployment import open_ledger, open_warehouse
from leadscrub_pipeline.settings import load_settings

_files: dict[str, bytes] = {}


def place_empty_home(home: Path) -> None:
    """Fill the home of a demo deployment on the embedded engines, whose settings are in place."""
    if not _files:
        settings = load_settings()
        open_ledger(settings).close()
        with open_warehouse(settings).session():
            pass
        _files.update({path.name: path.read_bytes() for path in home.iterdir() if path.is_file()})
        return
    home.mkdir(mode=0o700)
    for name, content in _files.items():
        path = home / name
        path.touch(mode=0o600)
        path.write_bytes(content)
