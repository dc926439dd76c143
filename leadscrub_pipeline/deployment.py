"""One deployment's parts, made from its settings: the one place that knows how settings become objects.

Dagster's resources and the command line both come here; nothing in it knows either. What a
part needs is imported when it is made: the code location loads without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

from leadscrub_pipeline.domain.people import KEY_VERSION
from leadscrub_pipeline.domain.purposes import Purpose, resolve_purpose
from leadscrub_pipeline.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from leadscrub_pipeline.dnc import DncRegistry
    from leadscrub_pipeline.dnc.build_rules import Limits
    from leadscrub_pipeline.domain.scripts import LeadScript
    from leadscrub_pipeline.ledger import Ledger, LookupTerms
    from leadscrub_pipeline.settings import Settings
    from leadscrub_pipeline.warehouse.protocol import Warehouse
    from leadscrub_pipeline.warehouse.snowflake_connection import Connect, QueryTag

Kind = Literal["demo", "live"]

PROVIDER: Final = "idicore"


def deployment_kind(settings: Settings) -> Kind:
    """Demo or live: what LEADSCRUB_KIND says, or what the vendors' addresses are.

    Raises:
        RefusedError: simulated and real vendors are mixed, or a demo would pay a real one.
    """
    from leadscrub_pipeline.vendors.transport import is_loopback_url

    addresses = {
        "IDICORE_AUTH_URL": settings.idicore_auth_url,
        "IDICORE_SEARCH_URL": settings.idicore_search_url,
        "CCC_API_URL": settings.ccc_api_url,
    }
    loopback = {name for name, url in addresses.items() if is_loopback_url(url)}
    if loopback and loopback != set(addresses):
        raise RefusedError(
            f"{', '.join(sorted(loopback))} point to this machine and the other vendor addresses do not. "
            "Simulated and real vendors are never mixed: set all three, or none."
        )
    if settings.leadscrub_kind == "demo" and not loopback:
        raise RefusedError(
            "LEADSCRUB_KIND is demo, but the vendor addresses are real ones. Set them to the simulators."
        )
    return settings.leadscrub_kind or ("demo" if loopback else "live")


def time_zone(settings: Settings) -> ZoneInfo:
    """Of the schedules and of the daily message.

    Raises:
        UsageError: LEADSCRUB_TIME_ZONE is none that this machine knows.
    """
    try:
        return ZoneInfo(settings.leadscrub_time_zone)
    except (KeyError, ValueError, OSError):
        raise UsageError(
            "LEADSCRUB_TIME_ZONE is no time zone of this machine. Name one as America/Chicago does."
        ) from None


def open_warehouse(settings: Settings, *, tag: QueryTag | None = None, connect: Connect | None = None) -> Warehouse:
    """The warehouse that LEADSCRUB_WAREHOUSE names; nothing is opened yet.

    Args:
        settings: the deployment's.
        tag: who asks, for Snowflake's history of statements.
        connect: makes connections to Snowflake; by default the connector does.

    Raises:
        UsageError: settings that Snowflake needs are missing, or its private key cannot be read.
        RefusedError: a role or an address is not to be used.
    """
    if settings.leadscrub_warehouse == "snowflake":
        return _open_snowflake(settings, tag, connect)
    from leadscrub_pipeline.warehouse.duckdb import DuckdbWarehouse

    return DuckdbWarehouse(
        settings.warehouse_path,
        kind=deployment_kind(settings),
        sources_folder=settings.leadscrub_sources,
        allowed_databases=settings.leadscrub_allowed_databases,
        default_database=settings.snowflake_database,
        default_schema=settings.snowflake_schema,
        memory_limit=settings.leadscrub_duckdb_memory,
        lock_wait=settings.leadscrub_lock_wait,
    )


def _open_snowflake(settings: Settings, tag: QueryTag | None, connect: Connect | None) -> Warehouse:
    from leadscrub_pipeline.warehouse.snowflake import SnowflakeWarehouse
    from leadscrub_pipeline.warehouse.snowflake_connection import SignIn, by_connector

    return SnowflakeWarehouse(
        SignIn.of(settings),
        connect or by_connector,
        kind=deployment_kind(settings),
        allowed_databases=settings.leadscrub_allowed_databases,
        tag=tag,
    )


def has_warehouse(settings: Settings) -> bool:
    """Whether there is one that anything can be in; the embedded one is made by the first run."""
    return settings.leadscrub_warehouse == "snowflake" or settings.warehouse_path.exists()


def open_ledger(settings: Settings) -> Ledger:
    from leadscrub_pipeline.ledger import Ledger

    return Ledger.open(
        _ledger_place(settings),
        kind=deployment_kind(settings),
        answer_keys=[key.get_secret_value() for key in settings.leadscrub_answer_key],
    )


@contextmanager
def read_ledger(settings: Settings) -> Iterator[Ledger | None]:
    """The ledger for reading only, without its keys; None when nobody was ever looked up."""
    from leadscrub_pipeline.ledger import Ledger

    ledger = Ledger.open_existing(_ledger_place(settings))
    try:
        yield ledger
    finally:
        if ledger is not None:
            ledger.close()


def _ledger_place(settings: Settings) -> str | Path:
    url = settings.leadscrub_ledger_url
    return url.get_secret_value() if url is not None else settings.ledger_path


def open_registry(settings: Settings) -> DncRegistry:
    from leadscrub_pipeline.dnc import DncRegistry

    return DncRegistry.open(
        settings.dnc_database_path,
        list_date=settings.dnc_list_date,
        max_age_days=settings.dnc_max_age_days,
    )


def list_path(settings: Settings) -> Path:
    """Where the list is kept.

    Raises:
        UsageError: it is not configured.
    """
    if settings.dnc_database_path is None:
        raise UsageError("No registry file is configured. Set DNC_DATABASE_PATH: the list is kept there.")
    return settings.dnc_database_path


def list_limits(settings: Settings) -> Limits:
    from leadscrub_pipeline.dnc.build_rules import Limits

    return Limits(
        shrink_share=settings.dnc_max_shrink_share,
        reject_share=settings.dnc_max_reject_share,
        gap=timedelta(hours=settings.dnc_max_gap_hours),
        keep=timedelta(days=settings.dnc_keep_days),
    )


def masked_subscription(settings: Settings) -> str | None:
    """The last two characters of the account number, which tell two accounts apart and no more."""
    if settings.dnc_subscription is None:
        return None
    number = settings.dnc_subscription.get_secret_value()
    return f"...{number[-2:]}" if len(number) > 6 else "..."


def purpose_of(settings: Settings, script: LeadScript) -> Purpose:
    return resolve_purpose(
        script.purpose,
        purposes=settings.leadscrub_purposes,
        glba=settings.idicore_glba,
        dppa=settings.idicore_dppa,
    )


def lookup_terms(
    settings: Settings, *, endpoint: str, purpose: Purpose, run_id: str, partition_key: str
) -> LookupTerms:
    """Under which terms a run looks people up.

    Raises:
        RefusedError: a daily budget is set and no price.
    """
    from leadscrub_pipeline.ledger import LookupTerms

    if settings.idicore_daily_budget is not None and settings.idicore_price_per_lookup is None:
        raise RefusedError("IDICORE_DAILY_BUDGET is set and IDICORE_PRICE_PER_LOOKUP is not: no budget can be kept.")
    return LookupTerms(
        provider=PROVIDER,
        endpoint=endpoint,
        purpose=purpose,
        reuse_across_purposes=settings.leadscrub_reuse_across_purposes,
        price=settings.idicore_price_per_lookup or Decimal(0),
        cache_days=settings.idicore_cache_days,
        miss_days=settings.idicore_miss_days,
        unknown_policy=settings.idicore_unknown_policy,
        max_unknown_repeats=settings.idicore_max_unknown_repeats,
        max_lookups_per_run=settings.idicore_max_lookups_per_run,
        daily_budget=settings.idicore_daily_budget,
        run_id=run_id,
        partition_key=partition_key,
        key_version=KEY_VERSION,
    )
