"""The company's own list and the consents beside the registry's answers: a scrub leaves evidence of what they decide.

Flags and CALLABLE_PHONES take them from their tables themselves. How entries come there stands in own_lists.py.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.steps.evidence import sealed_chain
from leadscrub_pipeline.warehouse.own_lists import OWN_LISTS, entries_of, has_entries, store_found
from leadscrub_pipeline.warehouse.phone_verdicts import Check, Phones
from leadscrub_pipeline.warehouse.protocol import Warehouse


def witness(
    warehouse: Warehouse, ledger: Ledger, phones: Phones, check: Check, report: Callable[[str], None]
) -> dict[str, int]:
    """Leave evidence of every phone that is on the company's list, and of every consent that is made use of.

    Returns:
        How many there are of each, by source.
    """
    found = {own.source: 0 for own in OWN_LISTS}
    with warehouse.session() as session:
        if not has_entries(session):
            return found
    for own in OWN_LISTS:
        told = replace(check, asset=f"{check.asset}_{own.asset}", source=own.source)
        with sealed_chain(warehouse, ledger, told) as chain:
            for page in entries_of(warehouse, own, phones, utc_now()):
                with warehouse.session() as session:
                    chain.extend(partial(store_found, session, page, told, now=utc_now()))
                found[own.source] += page.num_rows
        if found[own.source]:
            report(f"{found[own.source]:,} entries of {own.table.name} decide about these phones.")
    return found
