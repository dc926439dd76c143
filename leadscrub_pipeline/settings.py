"""Every setting: its name in the environment, type, default and what it is for.

Nothing else in the package reads the environment. ``load_settings`` reads it anew at every
call, so a change takes effect at the next run without a restart. What stands in the
settings file (``.env`` in the working folder, or the file named by ``LEADSCRUB_ENV_FILE``;
empty for none) wins over the environment, as it does in Dagster: a code server that was
started earlier still carries the old values in its environment.
"""

import functools
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from leadscrub_pipeline.errors import UsageError

Words = Annotated[tuple[str, ...], NoDecode]
"""Text parted by commas or blanks."""


class Settings(BaseSettings):
    """All settings of one deployment; the attribute is the environment's name in lower case."""

    model_config = SettingsConfigDict(
        extra="ignore", case_sensitive=False, frozen=True, env_ignore_empty=True, env_file_encoding="utf-8"
    )

    # --- where things are -------------------------------------------------------------
    leadscrub_home: Path = Field(
        Path(".leadscrub/live"),
        description="Folder for state: warehouse file, ledger, Dagster's home. Back it up; it holds paid answers.",
    )
    leadscrub_scripts: Path = Field(Path("sql/leads"), description="Folder of the lead scripts, one file a partition.")
    leadscrub_sources: Path | None = Field(
        None,
        description=(
            "Embedded warehouse: folder with DATABASE/SCHEMA/TABLE.csv or .parquet, readable as tables of those names."
        ),
    )
    leadscrub_warehouse: Literal["duckdb", "snowflake"] = Field(
        "duckdb", description="Which warehouse to use. duckdb is embedded and needs no account."
    )
    leadscrub_ledger_url: SecretStr | None = Field(
        None,
        description="Ledger on PostgreSQL: postgresql+psycopg2://... Default: a SQLite file in LEADSCRUB_HOME.",
    )
    dagster_postgres_url: SecretStr | None = Field(
        None,
        description=(
            "Dagster's runs, events and schedules on PostgreSQL: postgresql://user:password@host/dagster. "
            "Default: SQLite files in LEADSCRUB_HOME."
        ),
    )
    leadscrub_kind: Literal["demo", "live"] | None = Field(
        None,
        description="Stamp of ledger and warehouse. Default: demo when the vendors are on loopback, else live.",
    )
    leadscrub_allowed_databases: Words = Field(
        (),
        description=(
            "Databases that lead scripts may read, parted by commas. Embedded default: those under "
            "LEADSCRUB_SOURCES. Needed with Snowflake."
        ),
    )
    leadscrub_answer_key: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description=(
            "Fernet keys that seal stored answers, the newest first, parted by commas. "
            "Needed by a live ledger; the demo makes its own."
        ),
    )
    leadscrub_purposes: dict[str, dict[str, str]] = Field(
        {},
        description=(
            'Permissible purposes a script may name, as JSON: {"marketing": {"glba": "otheruse", "dppa": "none"}}. '
            "Default: one purpose named default, from IDICORE_GLBA and IDICORE_DPPA."
        ),
    )
    leadscrub_reuse_across_purposes: bool = Field(
        False, description="Serve an answer bought under one purpose to a script with another."
    )
    leadscrub_lock_wait: float = Field(
        300.0,
        gt=0,
        description="Seconds to wait for the embedded warehouse's file while another process holds it.",
    )
    leadscrub_duckdb_memory: str = Field(
        "256MB", pattern=r"^\d+(MB|GB)$", description="Memory limit of the embedded warehouse."
    )
    leadscrub_breaker_seconds: float = Field(
        60.0, gt=0, description="Seconds a vendor's breaker stays open before it sends one probe."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Log level of the command line."
    )

    # --- Dagster: schedules and links ----------------------------------------------------
    leadscrub_ui_url: str | None = Field(
        None, description="Address of the Dagster UI, for links in alerts: https://scrub.example.com."
    )
    leadscrub_time_zone: str = Field(
        "UTC", description="Time zone of the schedules and of the daily heartbeat: America/Chicago."
    )
    leadscrub_scrub_cron: str = Field(
        "0 2 * * *", description="When scripts whose header says schedule: nightly are scrubbed. Off until switched on."
    )
    leadscrub_rescrub_cron: str = Field(
        "0 5 * * *", description="When published phones are checked again. Off until switched on."
    )
    leadscrub_resilience_cron: str = Field(
        "0 6 * * 0", description="When evidence, ledger, tables and pools are verified. Off until switched on."
    )
    leadscrub_still_failed_cron: str = Field(
        "0 8 * * *", description="When what is still failed is reported. Off until switched on."
    )
    leadscrub_heartbeat_hour: int = Field(
        8, ge=0, le=23, description="Hour of the daily message that says that all is well, or what is not."
    )

    # --- idiCORE ----------------------------------------------------------------------
    idicore_client_id: SecretStr | None = Field(None, description="idiCORE sign-in. Needed for live lookups.")
    idicore_client_secret: SecretStr | None = Field(None, description="idiCORE sign-in. Needed for live lookups.")
    idicore_auth_url: str = Field(
        "https://login-api.idicore.com/apiclient",
        description="Sign-in address, in full. Plain HTTP on loopback only.",
    )
    idicore_search_url: str = Field(
        "https://api.idicore.com/search", description="Search address, in full. Plain HTTP on loopback only."
    )
    idicore_glba: str | None = Field(
        None, description="GLBA permissible purpose of the default purpose; your contract decides."
    )
    idicore_dppa: str | None = Field(
        None, description="DPPA permissible purpose of the default purpose; your contract decides."
    )
    idicore_timeout: float = Field(30.0, gt=0, description="Seconds one request may take.")
    idicore_min_workers: int = Field(10, ge=1, description="Fewest lookups in flight.")
    idicore_max_workers: int = Field(200, ge=1, le=1000, description="Most lookups in flight.")
    idicore_workers_scaling: float = Field(
        1.0, gt=0, description="Lookups in flight for each lead, between the two bounds."
    )
    idicore_requests_per_second: float | None = Field(
        None,
        gt=0,
        description="Pace: most requests started a second. Default: no pace, only the worker count.",
    )
    idicore_max_retries: int = Field(4, ge=0, description="Repeats of a request that was certainly not billed.")
    idicore_retry_base_delay: float = Field(
        1.0, gt=0, description="Seconds before the first repeat; doubles each time."
    )
    idicore_retry_max_delay: float = Field(30.0, gt=0, description="Longest wait between repeats, in seconds.")
    idicore_not_billed_statuses: Annotated[tuple[int, ...], NoDecode] = Field(
        (), description="Further HTTP statuses that your contract says are never billed, for example 503."
    )
    idicore_rank_best: Literal["lowest", "highest"] = Field(
        "lowest", description="Which rank is the best phone; accounts of it differ."
    )
    idicore_price_per_lookup: Decimal | None = Field(
        None, ge=0, description="Dollars a lookup. Needed for cost figures and for IDICORE_DAILY_BUDGET."
    )
    idicore_max_lookups_per_run: int | None = Field(None, ge=0, description="Cap on paid lookups of one run.")
    idicore_daily_budget: Decimal | None = Field(None, ge=0, description="Cap on dollars of one UTC day.")
    idicore_cache_days: int = Field(180, ge=1, description="Days a hit is served again without paying.")
    idicore_miss_days: int = Field(30, ge=1, description="Days a miss is served again without paying.")
    idicore_max_miss_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of misses over 100 lookups above which the step stops; 1 turns it off.",
    )
    idicore_unknown_policy: Literal["retry", "hold"] = Field(
        "retry", description="A request whose outcome is unknown: ask again within bounds, or hold the lead."
    )
    idicore_max_unknown_repeats: int = Field(
        1,
        ge=0,
        description="Repeats of an unknown request for one person and cache life, under policy retry.",
    )

    # --- CCC --------------------------------------------------------------------------
    ccc_api_key: SecretStr | None = Field(None, description="CCC loginId. Needed for live litigator checks.")
    ccc_api_url: str = Field(
        "https://dataapi.dncscrub.com/v1.5/Scrub/litigator",
        description="Litigator scrub address, in full. Plain HTTP on loopback only.",
    )
    ccc_timeout: float = Field(30.0, gt=0, description="Seconds one request may take.")
    ccc_batch_size: int = Field(1000, ge=1, le=10_000, description="Phones in one request, controls included.")
    ccc_control_numbers: Words = Field(
        (),
        description="Known litigator numbers that ride in every batch, parted by commas. None is a finding when live.",
    )
    ccc_min_workers: int = Field(2, ge=1, description="Fewest batches in flight.")
    ccc_max_workers: int = Field(16, ge=1, description="Most batches in flight.")
    ccc_workers_per_batch: float = Field(1.5, gt=0, description="Batches in flight for each batch, between the bounds.")
    ccc_max_retries: int = Field(4, ge=0, description="Repeats of a failed batch.")
    ccc_retry_base_delay: float = Field(1.0, gt=0, description="Seconds before the first repeat; doubles each time.")
    ccc_retry_max_delay: float = Field(30.0, gt=0, description="Longest wait between repeats, in seconds.")
    ccc_max_age_days: int = Field(31, ge=1, le=31, description="Days a litigator answer is good for.")

    # --- Do-Not-Call registry ------------------------------------------------------------
    dnc_database_path: Path | None = Field(
        None, description="The registry's SQLite file. Needed for Do-Not-Call checks."
    )
    dnc_list_date: date | None = Field(
        None, description="Day the list was obtained, for files that do not say it themselves: 2026-11-01."
    )
    dnc_max_age_days: int = Field(31, ge=1, le=31, description="Days a list is good for (16 CFR 310.4(b)(3)(iv)).")
    dnc_warn_age_days: int = Field(
        24, ge=1, le=31, description="Days after which a list's age is warned of, in a check and by an alert."
    )
    dnc_on_stale_list: Literal["fail", "null"] = Field(
        "fail",
        description="A list past its age or of unknown age: fail the step, or leave absent numbers unknown.",
    )

    dnc_downloads: Path | None = Field(
        None,
        description="Folder of downloads from the FTC, one folder each: full-20261121T0800Z or changes-20261122T0800Z, "
        "after when it was obtained.",
    )
    dnc_subscription: SecretStr | None = Field(
        None, description="Subscription account number at the FTC; lists that are built say it, masked."
    )
    dnc_max_shrink_share: float = Field(
        0.05, ge=0, lt=1, description="Share of its numbers that a next list, or an area code of it, may lose."
    )
    dnc_max_reject_share: float = Field(
        0.001, ge=0, lt=1, description="Share of a downloaded list's lines that may be no number."
    )
    dnc_max_gap_hours: int = Field(
        48, ge=1, description="Hours without a change between the list in place and a change list."
    )
    dnc_keep_days: int = Field(
        1827, ge=31, description="Days for which it is kept what stood on a list that was replaced (16 CFR 310.5)."
    )

    # --- The company's own list, and consents ------------------------------------------
    internal_dnc_imports: Path | None = Field(
        None, description="Folder of CSV files with requests not to be called: columns phone, requested_at, source."
    )
    consents_imports: Path | None = Field(
        None,
        description="Folder of CSV files with consents: columns phone, kind, given_at, proof, expires_at, source.",
    )

    # --- switches back to the old way ----------------------------------------------------
    etl_batch_size: int = Field(200, ge=1, le=10_000, description="Leads claimed from the ledger in one transaction.")
    etl_use_database_filtering: bool = Field(
        True, description="Leave out processed leads in SQL first; false sends everything through the stream."
    )
    dnc_use_batched_query: bool = Field(True, description="Ask the registry in batches; false: one SELECT a phone.")

    # --- ntfy -------------------------------------------------------------------------
    ntfy_enabled: bool = Field(False, description="Send alerts by ntfy.")
    ntfy_base_url: str = Field("https://ntfy.sh", description="Server. Plain HTTP on loopback only.")
    ntfy_token: SecretStr | None = Field(None, description="Access token, when the server asks for one.")
    ntfy_topic_jobs: SecretStr | None = Field(None, description="Topic for finished work. As good as a password.")
    ntfy_topic_errors: SecretStr | None = Field(None, description="Topic for failures. As good as a password.")
    ntfy_topic_system: SecretStr | None = Field(None, description="Topic for the system itself. As good as a password.")

    # --- Snowflake --------------------------------------------------------------------
    snowflake_account: str | None = Field(None, description="Account identifier: organization-account.")
    snowflake_user: str | None = Field(None, description="User that signs in with a key pair; passwords are not taken.")
    snowflake_private_key_path: Path | None = Field(
        None, description="File with the user's private key, PEM (PKCS 8). Or set SNOWFLAKE_PRIVATE_KEY."
    )
    snowflake_private_key: SecretStr | None = Field(
        None, description="The private key itself, PEM; line ends may be written as \\n."
    )
    snowflake_private_key_password: SecretStr | None = Field(
        None, description="Passphrase of the private key, when it has one."
    )
    snowflake_role: str | None = Field(None, description="Role that owns and writes our tables.")
    snowflake_reader_role: str | None = Field(
        None, description="Role that lead scripts run under: it reads sources and writes nothing of ours."
    )
    snowflake_warehouse: str | None = Field(None, description="Virtual warehouse that statements run in.")
    snowflake_database: str | None = Field(
        None,
        description="Database for names in scripts that do not say theirs. Embedded: the only one there is.",
    )
    snowflake_schema: str | None = Field(
        None, description="Schema for names in scripts that do not say theirs; else PUBLIC."
    )
    snowflake_statement_timeout: int = Field(1800, gt=0, description="Seconds one statement may take.")
    snowflake_network_timeout: int = Field(
        120, gt=0, description="Seconds for which a request is repeated while Snowflake does not answer or errs."
    )
    snowflake_login_timeout: int = Field(30, gt=0, description="Seconds one sign-in may take.")
    snowflake_allow_accountadmin: bool = Field(
        False, description="Let SNOWFLAKE_ROLE be ACCOUNTADMIN, which is refused otherwise."
    )
    snowflake_host: str | None = Field(None, description="Tests only: a server on this machine instead of an account.")
    snowflake_port: int | None = Field(None, ge=1, le=65535, description="Tests only: port of SNOWFLAKE_HOST.")
    snowflake_protocol: Literal["https", "http"] = Field(
        "https", description="Plain http is taken only with a SNOWFLAKE_HOST on this machine."
    )

    @field_validator(
        "leadscrub_allowed_databases",
        "ccc_control_numbers",
        "leadscrub_answer_key",
        "idicore_not_billed_statuses",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the hook's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the hook's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, dotenv_settings, env_settings

    @property
    def ledger_path(self) -> Path:
        return self.leadscrub_home / "ledger.sqlite"

    @property
    def warehouse_path(self) -> Path:
        return self.leadscrub_home / "warehouse.duckdb"

    @property
    def reports_folder(self) -> Path:
        return self.leadscrub_home / "reports"


def settings_file() -> Path | None:
    """The file whose settings win over the environment, or None."""
    name = os.environ.get("LEADSCRUB_ENV_FILE", ".env")
    return Path(name) if name else None


def load_settings(*, env_file: str | Path | None = None) -> Settings:
    """Read the settings file and the environment now; ``env_file`` stands in for the usual file.

    Raises:
        UsageError: a value cannot be understood; the message names the settings, not the values.
    """
    path = Path(env_file) if env_file is not None else settings_file()
    text = path.read_bytes() if path is not None and path.is_file() else None
    return _load(path, text, tuple(sorted(os.environ.items())))


@functools.lru_cache(maxsize=8)
def _load(path: Path | None, text: bytes | None, environment: tuple[tuple[str, str], ...]) -> Settings:  # noqa: ARG001
    """Read anew when the file or the environment differs: a step asks several times, and it takes 20 ms each."""
    try:
        return Settings(_env_file=path)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors(include_input=False)]
        raise UsageError("A setting cannot be understood. " + "; ".join(lines)) from None
    except ValueError as error:  # pydantic-settings wraps broken JSON in its own SettingsError
        raise UsageError(f"A setting cannot be understood: {type(error).__name__}. See .env.example.") from None
