"""Every fault of the matrix: no FALSE that no source answered, or a failure by name that changes nothing."""

import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from leadscrub_pipeline_tests.fault_matrix import FAULTS, Fault
from leadscrub_pipeline_tests.fault_outcomes import common
from leadscrub_pipeline_tests.fault_trial import KEY, PUBLISHED, Template, Trial, make_template, trial_of
from leadscrub_pipeline_tests.tallies import tally

OFTEN = [fault for fault in FAULTS if fault.often]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("template"))


def meet(fault: Fault, template: Template, folder: Path, *, afterwards: bool = False) -> None:
    stage = fault.stage if fault.fixed else PUBLISHED
    with trial_of(template, folder, stage=stage) as trial:
        before = template.tables[stage]
        assert len(before.master) == 12
        assert len(before.callable_phones) > 5
        with fault.make(trial):
            run = fault.holds.run(trial)
        fault.holds.check(trial, run, before, common(trial))
        if afterwards:
            goes_on(trial)
    tally("faults")
    tally("faults through whole Dagster runs", int(stage == PUBLISHED))


def goes_on(trial: Trial) -> None:
    """With the fault gone and misses in doubt discarded, a run ends well; what was unknown in passing is known."""
    let_the_process_end(trial)
    with trial.graph.ledger() as ledger:
        ledger.release_suspects(provider="idicore", endpoint="loopback/search", believe=False)
    trial.graph.write_registry(listed=trial.template.listing.listed)
    trial.listing = trial.template.listing
    run = trial.graph.scrub(KEY)
    assert run.success, run.error
    for row in common(trial).published:
        reasons = set(json.loads(row["additional_data"])["provenance"]["null_reasons"].values())
        assert reasons <= {None, "no_phone", "malformed_by_vendor"}


def let_the_process_end(trial: Trial) -> None:
    """What a full disk kept a run from giving back ends with its process, which here is that of the tests."""
    with sqlite3.connect(trial.graph.home / "ledger.sqlite") as connection:
        connection.execute("UPDATE ledger_owners SET lease_until = 0")
    connection.close()


@pytest.mark.parametrize("fault", OFTEN, ids=str)
def test_a_fault_makes_no_flag_false_that_no_source_answered(fault: Fault, template: Template, tmp_path: Path) -> None:
    meet(fault, template, tmp_path / "trial")


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_every_fault_through_a_whole_run_and_what_a_run_after_it_makes_of_the_leads(
    fault: Fault, template: Template, tmp_path: Path
) -> None:
    meet(fault, template, tmp_path / "trial", afterwards=True)


def test_the_matrix_has_the_faults_that_were_promised() -> None:
    assert len(FAULTS) >= 60
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)
    often = Counter(fault.system for fault in OFTEN)
    assert often.total() >= 12
    assert min(often[system] for system in ("idicore", "ccc", "registry", "warehouse")) >= 3
