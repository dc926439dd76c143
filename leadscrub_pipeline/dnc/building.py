"""Building the next version of the list: from full lists, from changes to the one there is, or from an older file.

A build works in a folder beside the list and writes down how far it is, so that the next one
goes on where it was ended. The list there is stays in place, whole, until the new one
replaces it in one step. What a next version may not do is judged in build_rules.py.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

import numpy as np

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.dnc.build_folder import BuildFolder, Plan, sync_folder
from leadscrub_pipeline.dnc.build_rules import Limits, Order, judge_changes, judge_list, judge_order, judge_source
from leadscrub_pipeline.dnc.bulk_index import build_index, index_facts, index_path, open_index
from leadscrub_pipeline.dnc.change_lists import Changes, read_changes
from leadscrub_pipeline.dnc.list_files import (
    ListFacts,
    SourceFacts,
    change_list,
    read_facts,
    read_old_list,
    write_facts,
    write_list,
)
from leadscrub_pipeline.dnc.number_set import NumberSet, NumberSetDraft, numbers_of, relabel
from leadscrub_pipeline.dnc.stamp import take_stamp
from leadscrub_pipeline.dnc.text_lists import Batch, is_in_plan, read_text_list
from leadscrub_pipeline.dnc.versions import Difference, KeptVersion, VersionBook
from leadscrub_pipeline.errors import RefusedError, UnavailableError, UsageError
from leadscrub_pipeline.progress import Progress, Report

_BYTES_A_ROW: Final = 11
_REWRITTEN_SHARE: Final = 0.05
"""Of more changes than that a list is written anew; of fewer, a copy of the one there is is changed."""


@dataclass(frozen=True, slots=True)
class _Base:
    """The list there is: what it says of itself, and its numbers."""

    facts: ListFacts
    numbers: NumberSet


@dataclass(slots=True)
class Built:
    """What came of an order."""

    facts: ListFacts
    added: int = 0
    removed: int = 0
    was_there: bool = False
    """The list in place is this very version already: nothing was done."""
    warnings: list[str] = field(default_factory=list)


def versions_path(path: Path) -> Path:
    """Where the versions of a list are kept."""
    return path.with_name(f"{path.name}.versions")


def build(
    path: Path,
    order: Order,
    limits: Limits,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    report: Report = lambda _text: None,
) -> Built:
    """Make the next version of the list at ``path`` and put it in place; go on with it where an earlier try was ended.

    Raises:
        UsageError: a source is not there or given twice, or there is no list that changes could go to.
        UnavailableError: a source is damaged, the disk is too full, or another build is at work.
        RefusedError: the next version does what ``limits`` forbid, or the order cannot be.
    """
    with BuildFolder(path) as folder:
        if folder.is_written:
            report("Putting a version in place that an earlier build had finished.")
            _place(path, folder, limits, now)
        sources = _identified(order.sources)
        facts_in_place = _facts_in_place(path, order)
        if facts_in_place is not None and _made(facts_in_place, path, order, sources):
            return Built(facts_in_place, was_there=True)
        warnings = judge_order(order, facts_in_place, now())
        if folder.start(_plan(order, facts_in_place, sources)):
            report("Going on with a build that was ended before.")
        try:
            with _base(path, facts_in_place, report) as base:
                built = _make(path, folder, order, base, sources, limits, now(), report)
        except RefusedError:
            folder.clear()
            raise
        except OSError as error:
            raise UnavailableError(
                f"The next list cannot be written in {folder.folder}: {error.strerror or type(error).__name__}. Make "
                "room and run the same command again; it goes on where it was."
            ) from None
        built.warnings = warnings
        if built.was_there:
            folder.clear()
            return built
        folder.note_written()
        failpoints.reached("list.written")
        _place(path, folder, limits, now)
    return built


def _make(
    path: Path,
    folder: BuildFolder,
    order: Order,
    base: _Base | None,
    sources: list[SourceFacts],
    limits: Limits,
    now: datetime,
    report: Report,
) -> Built:
    """Make the next version in the folder, whole, with what changed since the list there is."""
    facts = _gather(folder, order, base, sources, limits, now, report)
    judge_list(facts, None if base is None else base.facts, limits, order)
    if base is not None and base.facts.version == facts.version:
        return Built(base.facts, was_there=True)
    with NumberSet.open(folder.draft) as new:
        old = None if base is None else base.numbers
        added, removed = _changed(old, new)
        _write(path, folder, old, new, facts, added + removed, report)
        _keep(path, old, new, facts, added, removed, now)
    return Built(facts, added, removed)


def _facts_in_place(path: Path, order: Order) -> ListFacts | None:
    """What the list there is says of itself; None when there is none, or it is the file that is taken over."""
    if not path.exists():
        if order.kind == "changes":
            raise UsageError(f"There is no list at {path} that changes could go to. Build a full one first.")
        return None
    take_stamp(path)
    facts = read_facts(path)
    if facts is None and not _takes_over(path, order):
        raise UsageError(
            f"The registry file {path} was not built by this program, so it has no version that a next one could "
            "follow. Take it over with leadscrub dnc import, or set DNC_DATABASE_PATH to a new file."
        )
    return facts


def _takes_over(path: Path, order: Order) -> bool:
    """Whether the list in place is itself the older file that a list of ours is made of."""
    return order.kind == "import" and order.sources[0].resolve() == path.resolve()


def _made(facts: ListFacts, path: Path, order: Order, sources: list[SourceFacts]) -> bool:
    """Whether the list in place came of this very order: somebody gives it again after it was ended at its end."""
    same = {source.sha256 for source in sources} == {source.sha256 for source in facts.sources}
    return _takes_over(path, order) or (
        same and (facts.kind, facts.obtained_at) == (order.kind, order.obtained_at.astimezone(UTC))
    )


def _identified(paths: tuple[Path, ...]) -> list[SourceFacts]:
    found = []
    for path in paths:
        try:
            with path.open("rb") as file:
                digest = file_digest(file, "sha256").hexdigest()
                found.append(SourceFacts(path.name, digest, os.fstat(file.fileno()).st_size))
        except OSError as error:
            raise UsageError(f"The source {path} cannot be read: {type(error).__name__}.") from None
    counted = Counter(one.sha256 for one in found)
    same = sorted(one.name for one in found if counted[one.sha256] > 1)
    if same:
        raise UsageError(f"Of these sources some are the same file: {', '.join(same)}. Give each once.")
    return found


def _plan(order: Order, base: ListFacts | None, sources: list[SourceFacts]) -> Plan:
    return Plan(
        order.kind,
        order.obtained_at.astimezone(UTC).isoformat(),
        None if base is None else base.version,
        tuple((source.name, source.bytes, source.sha256) for source in sources),
    )


@contextmanager
def _base(path: Path, facts: ListFacts | None, report: Report) -> Iterator[_Base | None]:
    """The list there is, with its numbers by its bulk index, which is made when it is missing."""
    if facts is None:
        yield None
        return
    index = open_index(path)
    if index is None:
        progress = Progress(report, noun="numbers of the list in place", total=facts.rows)
        build_index(path, of_compact=True, done=progress.add)
        index = open_index(path)
    if index is None:
        raise UnavailableError(f"The registry file {path} changed while it was read. Try again.")
    with index:
        yield _Base(facts, index)


def _gather(
    folder: BuildFolder,
    order: Order,
    base: _Base | None,
    sources: list[SourceFacts],
    limits: Limits,
    now: datetime,
    report: Report,
) -> ListFacts:
    """Bring the numbers of all sources into the draft, and say what list they make."""
    is_change = base is not None and order.kind == "changes"
    with NumberSetDraft(folder.draft) as draft:
        if base is not None and is_change:
            read = _apply_changes(draft, order, base, sources, limits, report)
        else:
            read = _add_sources(folder, draft, order, sources, limits, report)
        contents = draft.finish()
    # Changes bring no area code that was not bought: what they say of one is a part of its numbers.
    covered = sorted(base.facts.area_codes if base is not None and is_change else contents.counts)
    identity = f"{contents.sha256} {order.obtained_at.astimezone(UTC).isoformat()} {covered}"
    return ListFacts(
        version=f"dnc-{order.obtained_at.astimezone(UTC):%Y-%m-%d}-{sha256(identity.encode()).hexdigest()[:8]}",
        obtained_at=order.obtained_at,
        built_at=now,
        rows=contents.rows,
        content_sha256=contents.sha256,
        area_codes={code: contents.counts.get(code, 0) for code in covered},
        kind=order.kind,
        sources=tuple(read),
        parent=None if base is None else base.facts.version,
        subscription=order.subscription,
    )


def _add_sources(
    folder: BuildFolder,
    draft: NumberSetDraft,
    order: Order,
    sources: list[SourceFacts],
    limits: Limits,
    report: Report,
) -> list[SourceFacts]:
    progress = Progress(report, noun="lines read", total=None)
    read = []
    for index, (path, source) in enumerate(zip(order.sources, sources, strict=True)):
        known = folder.was_read(index)
        if known is None:
            batches = _old_batches(path) if order.kind == "import" else read_text_list(path)
            known = _add_source(draft, source, batches, progress)
            judge_source(known, limits)
            draft.sync()
            failpoints.reached("list.source_added")
            folder.note_read(known)
        read.append(known)
    return read


def _add_source(
    draft: NumberSetDraft, source: SourceFacts, batches: Iterator[Batch], progress: Progress
) -> SourceFacts:
    lines, rejected = 0, Counter[str]()
    for batch in batches:
        draft.add(batch.numbers)
        lines += batch.lines
        rejected += batch.rejected
        progress.add(batch.lines)
        failpoints.reached("list.batch_added")
    return replace(source, lines=lines, rejected=dict(rejected))


def _old_batches(path: Path) -> Iterator[Batch]:
    for batch in read_old_list(path):
        in_plan = is_in_plan(batch.numbers)
        batch.rejected["not_nanp"] = int((~in_plan).sum())
        yield Batch(batch.numbers[in_plan], batch.lines, +batch.rejected)


def _apply_changes(
    draft: NumberSetDraft,
    order: Order,
    base: _Base,
    sources: list[SourceFacts],
    limits: Limits,
    report: Report,
) -> list[SourceFacts]:
    """Apply the change lists one after the other, in the order of their first changes."""
    found: list[tuple[SourceFacts, Changes]] = []
    for path, source in zip(order.sources, sources, strict=True):
        changes = read_changes(path)
        known = replace(source, lines=changes.lines, rejected=dict(changes.rejected))
        judge_source(known, limits)
        found.append((known, changes))
    found.sort(key=lambda one: (one[1].first_at or order.obtained_at, one[0].name))
    judge_changes([changes for _, changes in found], base.facts, limits, order)
    progress = Progress(report, noun="change lists applied", total=len(found))
    # From the start each time: reading them is quick, and half of them applied is a list of no time.
    draft.copy(base.numbers)
    for _, changes in found:
        listed, gone = changes.last_of_each()
        draft.add(listed)
        draft.remove(gone)
        failpoints.reached("list.batch_added")
        progress.add(1)
    draft.sync()
    return [source for source, _ in found]


def _changed(old: NumberSet | None, new: NumberSet) -> tuple[int, int]:
    """How many numbers came and how many went."""
    if old is None:
        return new.contents.rows, 0
    added = removed = 0
    for code in _codes(old, new):
        before, after = old.area(code).view(np.uint64), new.area(code).view(np.uint64)
        added += int(np.bitwise_count(after & ~before).sum())
        removed += int(np.bitwise_count(before & ~after).sum())
    return added, removed


def _differences(old: NumberSet, new: NumberSet) -> Iterator[Difference]:
    for code in _codes(old, new):
        before, after = old.area(code), new.area(code)
        if not np.array_equal(before, after):
            yield Difference(code, numbers_of(code, after & ~before), numbers_of(code, before & ~after))


def _codes(old: NumberSet, new: NumberSet) -> list[int]:
    return sorted(old.contents.counts.keys() | new.contents.counts.keys())


def _write(
    path: Path,
    folder: BuildFolder,
    old: NumberSet | None,
    new: NumberSet,
    facts: ListFacts,
    changed: int,
    report: Report,
) -> None:
    """Write the new list into the folder: all of it, or what changed into a copy of the one there is."""
    _require_room(path, _BYTES_A_ROW * facts.rows)
    if old is not None and changed <= _REWRITTEN_SHARE * facts.rows:
        report(f"Copying the list in place and changing {changed:,} numbers.")
        # What is left of an earlier try would be undone in this copy.
        for left in folder.folder.glob("list.sqlite*"):
            left.unlink()
        shutil.copyfile(path, folder.list)
        failpoints.reached("list.copied")
        change_list(folder.list, _differences(old, new))
    else:
        progress = Progress(report, noun="numbers written", total=facts.rows)

        def done(count: int) -> None:
            failpoints.reached("list.area_written")
            progress.add(count)

        write_list(folder.list, new, done=done)
    write_facts(folder.list, facts)
    folder.list.chmod(0o600)
    with folder.list.open("rb") as file:
        os.fsync(file.fileno())


def _keep(
    path: Path, old: NumberSet | None, new: NumberSet, facts: ListFacts, added: int, removed: int, now: datetime
) -> None:
    """Write down what changed with this version. It counts once the version is in place."""
    version = KeptVersion(
        version=facts.version,
        parent=facts.parent,
        obtained_at=facts.obtained_at,
        placed_at=now,
        rows=facts.rows,
        area_codes=frozenset(facts.area_codes),
        kind=facts.kind,
        added=added,
        removed=removed,
    )
    with VersionBook(versions_path(path), writing=True) as book:
        book.add(version, () if old is None else _differences(old, new))


def _place(path: Path, folder: BuildFolder, limits: Limits, now: Callable[[], datetime]) -> None:
    """Let the version that is whole in the folder replace the list, with its index; then forget the folder.

    Each step may be done again: an earlier try may have been ended after any of them.
    """
    if folder.list.exists():
        facts = read_facts(folder.list)
        if facts is None:
            raise UnavailableError(f"The file {folder.list} says no version. Remove {folder.folder} and build again.")
        if folder.draft.exists():
            relabel(folder.draft, **index_facts(take_stamp(folder.list), 0))
        _keep_older_file(path)
        with VersionBook(versions_path(path), writing=True) as book:
            book.placed(facts.version, now())
        failpoints.reached("list.before_replace")
        folder.list.replace(path)
        sync_folder(path.parent)
    failpoints.reached("list.replaced")
    if folder.draft.exists():
        folder.draft.replace(index_path(path))
    failpoints.reached("list.index_replaced")
    facts = read_facts(path)
    if facts is not None:
        with VersionBook(versions_path(path), writing=True) as book:
            book.prune(facts.version, now() - limits.keep)
    folder.clear()


def _keep_older_file(path: Path) -> None:
    """A file that this program did not build stays beside the one that takes its place."""
    if path.exists() and read_facts(path) is None:
        if any(path.with_name(path.name + end).exists() for end in ("-wal", "-journal")):
            raise UnavailableError(f"The registry file {path} is being written. Close it first.")
        older = path.with_name(f"{path.name}.old")
        older.unlink(missing_ok=True)
        os.link(path, older)


def _require_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UnavailableError(
            f"The new list needs about {needed / 1e9:.1f} GB in {path.parent}, and {free / 1e9:.1f} GB are free."
        )
