"""A history: settings, people and events, all drawn from one seed. Carrying it out does not belong here."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final

from leadscrub_pipeline.failpoints import POINTS
from leadscrub_pipeline.simulators import Fault
from leadscrub_pipeline_tests.asset_calls import ASSETS
from leadscrub_pipeline_tests.children import Kill, Strike
from leadscrub_pipeline_tests.histories.cast import UNUSABLE, Row, Somebody, make_cast

EVERYONE: Final = "everyone"
"""The script of the last, undisturbed run: it selects all people there are."""


@dataclass(frozen=True)
class Scrub:
    """One run of one script."""

    script: str
    row_limit: int | None = None
    include: bool = False
    assets: tuple[str, ...] = ASSETS
    resume: bool = False
    """Begin with the step that failed in the script's last run, as a retry from failure does."""
    end: Kill | Strike | None = None
    interrupt: Kill | None = None
    """An orderly stop at a point."""
    start_after: float = 0.0
    holds_lease: bool = False
    """For the whole run, as ``leadscrub run`` does; else each step takes it for itself."""
    skew: timedelta = timedelta(0)
    """How far its clock is off from those of the others."""


@dataclass(frozen=True)
class Runs:
    """Runs at the same time, and what goes wrong at the vendors meanwhile."""

    scrubs: tuple[Scrub, ...]
    faults: tuple[tuple[str, Fault], ...] = ()


@dataclass(frozen=True)
class ClockStep:
    step: timedelta


@dataclass(frozen=True)
class Registry:
    """The Do-Not-Call file is replaced, or something is wrong with it from now on."""

    state: str
    listed_share: float = 0.2
    without_area_codes: bool = False


@dataclass(frozen=True)
class Settings:
    """What an operator changes between runs."""

    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Restock:
    """A script's source table changes: people come and go."""

    script: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Pause:
    paused: bool


Event = Runs | ClockStep | Registry | Settings | Restock | Pause


@dataclass
class History:
    seed: int
    people: tuple[Somebody, ...]
    scripts: tuple[str, ...]
    first_rows: dict[str, tuple[Row, ...]]
    settings: dict[str, str]
    events: list[Event]
    spellings: list[tuple[Somebody, Row]]
    from_nothing: bool
    """Begin without ledger and warehouse; else with empty ones, which saves a third of a second."""
    latency: float
    through_dagster: bool = False
    everyone: tuple[Row, ...] = field(default_factory=tuple)


MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_STEPS: Final = (2 * MINUTE, HOUR, 26 * HOUR, 12 * DAY, 32 * DAY, 32 * DAY, 181 * DAY, -2 * MINUTE, -9 * MINUTE)
_REGISTRIES: Final = ("fresh", "fresh", "fresh", "older", "three_column", "stale", "undated", "gone", "truncated")

_RETRIED: Final = ("gone", "truncated", "unauthorized", "forbidden")
"""What Dagster's retry policy waits seconds for; left to the child processes."""

_IDICORE: Final[tuple[dict[str, Any], ...]] = (
    {"kind": "timeout_before_billing", "seconds": 2.0},
    {"kind": "timeout_after_billing", "seconds": 2.0},
    {"kind": "timeout_after_billing", "seconds": 2.0},
    {"kind": "reset_before_billing"},
    {"kind": "reset_after_billing"},
    {"kind": "server_error"},
    {"kind": "server_error", "status": 500, "billed": True},
    {"kind": "too_many_requests"},
    {"kind": "unauthorized"},
    {"kind": "forbidden"},
    {"kind": "bad_request"},
    {"kind": "html"},
    {"kind": "empty_body"},
    {"kind": "cut_body"},
    {"kind": "slow_body", "seconds": 2.0},
    {"kind": "wrong_type"},
    {"kind": "short_answer"},
    {"kind": "long_answer"},
    {"kind": "no_match"},
    {"kind": "too_many_matches"},
    {"kind": "other_person"},
    {"kind": "unauthorized", "operation": "sign_in"},
    {"kind": "server_error", "operation": "sign_in"},
    {"kind": "html", "operation": "sign_in"},
)
_CCC: Final[tuple[dict[str, Any], ...]] = (
    {"kind": "timeout_after_billing", "seconds": 2.0},
    {"kind": "reset_after_billing"},
    {"kind": "server_error"},
    {"kind": "too_many_requests"},
    {"kind": "unauthorized"},
    {"kind": "forbidden"},
    {"kind": "bad_request"},
    {"kind": "html"},
    {"kind": "empty_body"},
    {"kind": "cut_body"},
    {"kind": "wrong_type"},
    {"kind": "short_answer"},
    {"kind": "long_answer"},
    {"kind": "all_false"},
    {"kind": "other_phone"},
    {"kind": "contradiction"},
    {"kind": "missing_control"},
    {"kind": "clear_control"},
)


def history_of(seed: int, *, through_dagster: bool = False) -> History:
    """The history of a seed: the same events always; what the operating system makes of them may differ."""
    return _Generator(seed, through_dagster=through_dagster).make()


class _Generator:
    def __init__(self, seed: int, *, through_dagster: bool) -> None:
        self.rng = Random(seed)
        self.seed = seed
        self.through_dagster = through_dagster
        self.people = make_cast(self.rng, self.rng.randint(8, 16))
        self.scripts = tuple(f"script_{letter}" for letter in "abc"[: self.rng.choice((2, 2, 3))])
        self.spellings: list[tuple[Somebody, Row]] = []
        self.paused = False

    def make(self) -> History:
        rng = self.rng
        first_rows = {script: self.rows() for script in self.scripts}
        settings = {
            "IDICORE_UNKNOWN_POLICY": rng.choice(("retry", "retry", "hold")),
            "IDICORE_MAX_UNKNOWN_REPEATS": str(rng.choice((0, 1, 1, 2))),
            "IDICORE_CACHE_DAYS": rng.choice(("180", "180", "40")),
            "IDICORE_MISS_DAYS": rng.choice(("30", "7")),
            "IDICORE_MIN_WORKERS": rng.choice(("1", "3", "10")),
            "ETL_BATCH_SIZE": rng.choice(("200", "3")),
            "ETL_USE_DATABASE_FILTERING": rng.choice(("true", "true", "false")),
            "DNC_ON_STALE_LIST": rng.choice(("fail", "null")),
            "DNC_USE_BATCHED_QUERY": rng.choice(("true", "true", "false")),
            "CCC_BATCH_SIZE": rng.choice(("1000", "8")),
        }
        if rng.random() < 0.3:
            settings |= dict(self.caps().values)
        if self.through_dagster:
            settings["DNC_ON_STALE_LIST"] = "null"
        everyone = tuple(self.spell(somebody) for somebody in self.people)
        return History(
            seed=self.seed,
            people=self.people,
            scripts=self.scripts,
            first_rows=first_rows,
            settings=settings,
            events=self.events(),
            spellings=self.spellings,
            from_nothing=rng.random() < 0.2,
            latency=rng.choice((0.0, 0.0, 0.002, 0.005)),
            through_dagster=self.through_dagster,
            everyone=everyone,
        )

    def events(self) -> list[Event]:
        rng = self.rng
        events: list[Event] = []
        runs = 0
        # Runs are what takes time: two to four a history, and the rest around them.
        wanted = rng.choice((2, 2, 2, 3))
        while runs < wanted and len(events) < 8:
            kind = rng.choices(
                ("run", "together", "clock", "registry", "settings", "restock", "pause"),
                weights=(26, 12, 18, 12, 14, 12, 4),
            )[0]
            match kind:
                case "run":
                    events.append(self.one_run())
                    runs += 1
                case "together":
                    events.append(self.together())
                    runs += 2
                case "clock":
                    events.append(ClockStep(rng.choice(_STEPS)))
                case "registry":
                    share = rng.choice((0.0, 0.1, 0.5))
                    states = [state for state in _REGISTRIES if not (self.through_dagster and state in _RETRIED)]
                    events.append(Registry(rng.choice(states), share, without_area_codes=rng.random() < 0.3))
                case "settings":
                    events.append(self.policy() if rng.random() < 0.5 else self.caps())
                case "restock":
                    events.append(Restock(rng.choice(self.scripts), self.rows()))
                case "pause":
                    self.paused = not self.paused
                    events.append(Pause(self.paused))
        return events

    def one_run(self) -> Runs:
        return Runs((self.scrub(self.rng.choice(self.scripts)),), self.faults())

    def together(self) -> Runs:
        rng = self.rng
        is_same = rng.random() < 0.35
        if is_same:
            script = rng.choice(self.scripts)
            wanted = [(script, True), (script, True)]
        else:
            count = 3 if len(self.scripts) == 3 and rng.random() < 0.3 else 2
            wanted = [(script, rng.random() < 0.5) for script in rng.sample(self.scripts, count)]
        # Clocks of hosts differ by seconds as a rule; now and then by more than a lease.
        skews = (timedelta(0), timedelta(0), 20 * timedelta(seconds=1), -20 * timedelta(seconds=1), 2 * HOUR)
        skew = rng.choice(skews) if rng.random() < 0.4 else timedelta(0)
        scrubs = [
            self.scrub(
                script,
                holds_lease=holds,
                start_after=rng.choice((0.0, 0.0, 0.05, 0.2)) if at else 0.0,
                skew=skew if at else timedelta(0),
            )
            for at, (script, holds) in enumerate(wanted)
        ]
        if is_same and rng.random() < 0.7:
            scrubs = [replace(scrub, end=None, interrupt=None) for scrub in scrubs]
        return Runs(tuple(scrubs), self.faults())

    def scrub(self, script: str, **values: Any) -> Scrub:
        rng = self.rng
        chosen: dict[str, Any] = {"script": script, "holds_lease": rng.random() < 0.3} | values
        if rng.random() < 0.15:
            chosen["row_limit"] = rng.choice((0, 1, 3, 6))
        chosen["include"] = rng.random() < 0.2
        if rng.random() < 0.1:
            chosen["assets"] = ASSETS[: rng.randrange(1, 5)]
        chosen["resume"] = rng.random() < 0.3
        chosen["end"] = self.end()
        if chosen["end"] is None and rng.random() < 0.1:
            chosen["interrupt"] = Kill(rng.choice(POINTS), rng.choice((1, 2, 4)))
        return Scrub(**chosen)

    def end(self) -> Kill | Strike | None:
        rng = self.rng
        draw = rng.random()
        if draw < 0.25:
            return Kill(rng.choice(POINTS), rng.choice((1, 1, 2, 3, 5, 8)))
        if draw < 0.33:
            return Strike(round(rng.uniform(0.0, 0.9), 3), orderly=False)
        if draw < 0.43:
            return Strike(round(rng.uniform(0.0, 0.9), 3), orderly=True)
        return None

    def faults(self) -> tuple[tuple[str, Fault], ...]:
        rng = self.rng
        if rng.random() < 0.5:
            return ()
        found = []
        for _ in range(rng.choice((1, 1, 2))):
            vendor, all_kinds = ("idicore", _IDICORE) if rng.random() < 0.7 else ("ccc", _CCC)
            amount: dict[str, Any] = rng.choice(
                ({"times": 1}, {"times": 3}, {"share": 0.3}, {"share": 0.3}, {"share": 1.0})
            )
            kinds = [kind for kind in all_kinds if not (self.through_dagster and kind["kind"] in _RETRIED)]
            found.append((vendor, Fault(**rng.choice(kinds), **amount)))
        return tuple(found)

    def policy(self) -> Settings:
        return Settings(
            (
                ("IDICORE_UNKNOWN_POLICY", self.rng.choice(("retry", "hold"))),
                ("IDICORE_MAX_UNKNOWN_REPEATS", str(self.rng.choice((0, 1, 2)))),
            )
        )

    def caps(self) -> Settings:
        """Caps come and go, are raised and lowered; an empty value is none."""
        rng = self.rng
        run = rng.choice(("", "", "0", "2", "5"))
        budget = rng.choice(("", "", str(Decimal("0.25") * rng.randint(1, 12)), "1.10"))
        return Settings((("IDICORE_MAX_LOOKUPS_PER_RUN", run), ("IDICORE_DAILY_BUDGET", budget)))

    def rows(self) -> tuple[Row, ...]:
        """Some of the people, some of them twice in other spellings, and now and then a row that names nobody."""
        rng = self.rng
        chosen = rng.sample(self.people, rng.randint(len(self.people) // 2, len(self.people)))
        rows = [self.spell(somebody) for somebody in chosen]
        rows += [self.spell(somebody) for somebody in rng.sample(chosen, min(len(chosen), rng.randint(0, 3)))]
        if rng.random() < 0.4:
            rows.append(rng.choice(UNUSABLE))
        rng.shuffle(rows)
        return tuple(rows)

    def spell(self, somebody: Somebody) -> Row:
        row = somebody.spelled(self.rng)
        self.spellings.append((somebody, row))
        return row
