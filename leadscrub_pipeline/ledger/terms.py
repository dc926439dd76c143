"""What the caller tells the ledger: the terms of a run's lookups, and how one of them ended."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from leadscrub_pipeline.domain.purposes import Purpose
from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.ledger.units import dollars_to_micros

ANY_PURPOSE = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupTerms:
    """For whom, at what price and within which bounds a run looks people up.

    Raises:
        RefusedError: a daily budget without a price, or a price of more than six decimals.
    """

    provider: str
    endpoint: str
    """Stable identity of the vendor's address: an answer never serves another endpoint."""
    purpose: Purpose
    run_id: str
    partition_key: str
    key_version: int
    price: Decimal = Decimal(0)
    """Dollars a lookup."""
    reuse_across_purposes: bool = False
    cache_days: int = 180
    miss_days: int = 30
    unknown_policy: Literal["retry", "hold"] = "retry"
    max_unknown_repeats: int = 1
    max_lookups_per_run: int | None = None
    daily_budget: Decimal | None = None
    """Dollars of one UTC day, over all runs."""

    def __post_init__(self) -> None:
        if self.daily_budget is not None and self.price <= 0:
            raise RefusedError("A daily budget needs a price above zero: set IDICORE_PRICE_PER_LOOKUP.")
        try:
            dollars_to_micros(self.price)
            dollars_to_micros(self.daily_budget or Decimal(0))
        except ValueError:
            raise RefusedError(
                "A price or budget has more than six decimals: see IDICORE_PRICE_PER_LOOKUP and IDICORE_DAILY_BUDGET."
            ) from None

    @property
    def scope(self) -> str:
        return ANY_PURPOSE if self.reuse_across_purposes else self.purpose.name

    @property
    def price_micros(self) -> int:
        return dollars_to_micros(self.price)

    @property
    def daily_budget_micros(self) -> int | None:
        return None if self.daily_budget is None else dollars_to_micros(self.daily_budget)

    @property
    def allowed_unknowns(self) -> int:
        """How many requests of unknown outcome a person may have and still be asked about once more."""
        return self.max_unknown_repeats if self.unknown_policy == "retry" else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How one request ended.

    ``failed`` is a request that was certainly not billed; it returns its reservation.
    ``unknown`` may have been billed; it keeps it. A hit or miss costs the price claimed,
    or nothing when the vendor is known not to bill it.
    """

    state: Literal["hit", "miss", "failed", "unknown"]
    reason: str | None = None
    http_status: int | None = None
    answer: dict[str, Any] | None = None
    parser_version: int | None = None
    billed: bool = True
