"""Which column of a script says what: the six identity fields, and the rest that travels along.

The columns are those of the result, known once the script has run. What their values are
worth belongs to ``people.py``.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from leadscrub_pipeline.domain.scripts import IDENTITY_FIELDS, ColumnName, LeadScript
from leadscrub_pipeline.errors import RefusedError


class ColumnMap(NamedTuple):
    """The result's column for each field, and the columns that have no field, in order."""

    first_name: str
    last_name: str
    address: str
    city: str | None
    state: str | None
    zip_code: str | None
    extras: tuple[str, ...]


_PLACES: Final = ("", "property", "mailing", "home", "site", "situs")
_SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "first_name": ("firstname", "fname", "first", "firstnm", "namefirst", "givenname", "forename"),
    "last_name": ("lastname", "lname", "last", "lastnm", "namelast", "surname", "familyname"),
    "address": tuple(
        place + word
        for place in _PLACES
        for word in ("address", "address1", "addressline1", "addr", "addr1", "street", "street1", "streetaddress")
    ),
    "city": tuple(place + word for place in _PLACES for word in ("city", "cityname", "town")),
    "state": tuple(place + word for place in _PLACES for word in ("state", "st", "statecode", "stateabbr")),
    "zip_code": tuple(
        place + word for place in _PLACES for word in ("zip", "zipcode", "zip5", "zipcd", "postalcode", "postcode")
    ),
}
_FIELD_OF: Final = {spelling: field for field, spellings in _SPELLINGS.items() for spelling in spellings}
_NEEDED: Final = ("first_name", "last_name", "address")
_EXAMPLES: Final = {
    "first_name": "given",
    "last_name": "family",
    "address": "property_address",
    "city": "town",
    "state": "region",
    "zip_code": '"Zip"',
}


def recognise_columns(output_columns: Sequence[str], script: LeadScript) -> ColumnMap:
    """The fields of a result: the header decides, then common spellings.

    Raises:
        RefusedError: a needed field has no column, a field has two, a column comes twice, or
            the header names a column that is not there. Tells the columns there are and the
            header line that would settle it.
    """
    return columns_of(output_columns, script.columns)


def columns_of(output_columns: Sequence[str], named: Mapping[str, ColumnName]) -> ColumnMap:
    """The same for columns that are no script's result, with the fields that are named."""
    _refuse_repeated(output_columns)
    found: dict[str, str] = {field: _named_column(name, field, output_columns) for field, name in named.items()}
    for field, columns in _claims(output_columns, taken=set(found.values())).items():
        if field in found:
            continue
        if len(columns) > 1:
            raise RefusedError(
                f"{_and(map(_written, columns))} both look like {field}. Say which it is in the header: "
                f"-- columns: {field} = {_written(columns[0])}"
            )
        found[field] = columns[0]
    _refuse_missing(found, output_columns)
    used = set(found.values())
    return ColumnMap(
        found["first_name"],
        found["last_name"],
        found["address"],
        found.get("city"),
        found.get("state"),
        found.get("zip_code"),
        tuple(column for column in output_columns if column not in used),
    )


def _claims(columns: Sequence[str], *, taken: set[str]) -> dict[str, list[str]]:
    claims: dict[str, list[str]] = {}
    for column in columns:
        field = _FIELD_OF.get(re.sub(r"[^a-z0-9]", "", column.lower()))
        if field is not None and column not in taken:
            claims.setdefault(field, []).append(column)
    return claims


def _named_column(name: ColumnName, field: str, columns: Sequence[str]) -> str:
    if name.text in columns:
        return name.text
    # DuckDB keeps the spelling of the file that the column came from.
    alike = [column for column in columns if column.lower() == name.text.lower()]
    if alike:
        return alike[0]
    raise RefusedError(
        f"The header takes {field} from {_written(name.text)}, and the result has no such column. {_listing(columns)}"
    )


def _refuse_repeated(columns: Sequence[str]) -> None:
    counted = Counter(column.lower() for column in columns)
    repeated = [column for column in columns if counted[column.lower()] > 1]
    if repeated:
        raise RefusedError(
            f"The result has more than one column named {_and(map(_written, repeated))}. "
            "Give each its own name with AS, or leave one out with EXCLUDE."
        )


def _refuse_missing(found: dict[str, str], columns: Sequence[str]) -> None:
    missing = [field for field in _NEEDED if field not in found]
    if "zip_code" not in found and not {"city", "state"} <= found.keys():
        missing.append("zip_code")
    if missing:
        what = ["zip_code (or city and state)" if field == "zip_code" else field for field in missing]
        line = ", ".join(f"{field} = {_EXAMPLES[field]}" for field in IDENTITY_FIELDS if field in missing)
        raise RefusedError(
            f"The result has no column that is plainly {_and(what)}. {_listing(columns)} "
            f"Name the right ones in the header, like this: -- columns: {line}"
        )


def _listing(columns: Sequence[str]) -> str:
    shown = [_written(column) for column in columns[:40]]
    more = f" and {len(columns) - 40} more" if len(columns) > 40 else ""
    return f"Its columns are: {', '.join(shown) or 'none'}{more}."


def _written(column: str) -> str:
    """A column's name as a header would write it. A name made from an expression may hold data."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", column):
        return column[:60]
    if "'" in column or '"' in column or len(column) > 60:
        return "(an expression without a name)"
    return f'"{column}"'


def _and(names: Iterable[str]) -> str:
    *earlier, last = names
    return f"{', '.join(earlier)} and {last}" if earlier else last
