"""How a CCC answer goes wrong: each fault as a change of the rows that a sound answer would have.

When a fault comes, and what is broken below the rows, does not belong here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from leadscrub_pipeline.simulators.faults import Fault, Kind
from leadscrub_pipeline.simulators.phones import AREA_CODES, CONTROL_NUMBERS

Json = dict[str, object]


def altered(rows: list[Json], fault: Fault) -> object:
    """The answer as the fault has it; faults that are not about its rows leave it alone."""
    kind = Kind(fault.kind)
    if kind in _OF_A_ROW:
        return [_OF_A_ROW[kind](row) for row in rows]
    return _OF_THE_LIST[kind](rows) if kind in _OF_THE_LIST else rows


def _is_control(row: Json, controls: Sequence[str] = CONTROL_NUMBERS) -> bool:
    return str(row["Phone"]) in controls


def _spelt(phone: object) -> str:
    digits = str(phone)
    return f"({digits[:3]}) {digits[3:6]}-{digits[6:]}"


_OF_A_ROW: Final[Mapping[Kind, Callable[[Json], Json]]] = {
    Kind.ALL_FALSE: lambda row: {**row, "IsLitigator": False},
    Kind.CLEAR_CONTROL: lambda row: {**row, "IsLitigator": row["IsLitigator"] and not _is_control(row)},
    Kind.SOME_CONTROLS_CLEAR: lambda row: {
        **row,
        "IsLitigator": row["IsLitigator"] and not _is_control(row, CONTROL_NUMBERS[1:]),
    },
    Kind.TEXT_BOOLEAN: lambda row: {**row, "IsLitigator": str(row["IsLitigator"]).lower()},
    Kind.NULL_BOOLEAN: lambda row: {**row, "IsLitigator": None},
    Kind.NO_BOOLEAN: lambda row: {"Phone": row["Phone"]},
    Kind.TEXT_PHONE: lambda row: {**row, "Phone": str(row["Phone"])},
    Kind.FLOAT_PHONE: lambda row: {**row, "Phone": float(str(row["Phone"]))},
    Kind.SPELT_PHONE: lambda row: {**row, "Phone": _spelt(row["Phone"])},
}

_OTHER_TYPES: Final[tuple[object, ...]] = ("false", 0, None, "", [], {}, 1, "true")


def _with_strangers(rows: list[Json]) -> object:
    return rows + [{"Phone": int(f"{code}5550191"), "IsLitigator": True} for code in AREA_CODES]


def _about_strangers(rows: list[Json]) -> object:
    strangers = (int(f"{code}555019{last}") for last in (6, 7) for code in AREA_CODES)
    return [row if _is_control(row) else {**row, "Phone": next(strangers)} for row in rows]


_OF_THE_LIST: Final[Mapping[Kind, Callable[[list[Json]], object]]] = {
    Kind.WRONG_SHAPE: lambda rows: {"Results": rows},
    Kind.EMPTY_LIST: lambda _rows: [],
    Kind.SHORT_ANSWER: lambda rows: rows[: len(rows) * 2 // 3],
    Kind.LONG_ANSWER: _with_strangers,
    Kind.WRONG_TYPE: lambda rows: [
        {**row, "IsLitigator": _OTHER_TYPES[at % len(_OTHER_TYPES)]} for at, row in enumerate(rows)
    ],
    Kind.OTHER_PHONE: lambda rows: [{**row, "Phone": 2125550197} if at == 0 else row for at, row in enumerate(rows)],
    Kind.OTHER_PHONES: _about_strangers,
    Kind.MISSING_PHONES: lambda rows: [row for at, row in enumerate(rows) if at % 2 == 0 or _is_control(row)],
    Kind.MISSING_CONTROL: lambda rows: [row for row in rows if not _is_control(row)],
    Kind.DUPLICATE: lambda rows: [*rows, *rows],
    Kind.CONTRADICTION: lambda rows: [*rows, *({**row, "IsLitigator": not row["IsLitigator"]} for row in rows)],
}
