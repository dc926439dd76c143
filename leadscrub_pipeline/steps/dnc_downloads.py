"""Making the next versions of the Do-Not-Call list from the downloads that wait. What makes a list stands in dnc/."""

from collections.abc import Callable, Iterator

from leadscrub_pipeline.deployment import list_limits, list_path, masked_subscription
from leadscrub_pipeline.dnc.build_rules import Order
from leadscrub_pipeline.dnc.building import Built, build
from leadscrub_pipeline.dnc.downloads import Download, find_downloads, waiting
from leadscrub_pipeline.dnc.list_files import read_facts
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.settings import Settings


def waiting_downloads(settings: Settings) -> list[Download]:
    """The downloads that are newer than the list in place, in the order in which they are to be applied.

    Raises:
        UsageError: no folder of downloads or no list is configured.
        UnavailableError: the folder or the list cannot be read.
    """
    if settings.dnc_downloads is None:
        raise UsageError("No folder of downloads is configured. Set DNC_DOWNLOADS.")
    path = list_path(settings)
    facts = read_facts(path) if path.exists() else None
    return waiting(find_downloads(settings.dnc_downloads), None if facts is None else facts.obtained_at)


def build_from_downloads(
    settings: Settings, *, allow_shrink: bool, allow_gap: bool, report: Callable[[str], None]
) -> Iterator[tuple[Download, Built]]:
    """Make a version of each download that waits, one on the other; what was made stays when a later one is refused."""
    for download in waiting_downloads(settings):
        report(f"{download.name}: {len(download.files)} files, {download.bytes:,} bytes.")
        order = Order(
            download.kind,
            download.files,
            download.obtained_at,
            subscription=masked_subscription(settings),
            allow_shrink=allow_shrink,
            allow_gap=allow_gap,
        )
        yield download, build(list_path(settings), order, list_limits(settings), report=report)
