"""Whole columns of phones looked up: which of them are ten digits, and the answers about them as columns.

The rule is that of ``DncRegistry.look_up``; a property test holds the two together.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from leadscrub_pipeline.dnc.number_set import AREA, AREA_CODES, Numbers
from leadscrub_pipeline.domain.verdicts import LISTED, Answer

Mask = npt.NDArray[np.bool_]

_DIGITS: Final = 10
_CODE: Final = re.compile(r"[0-9]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """A column of texts, of which those of ten digits can be asked about."""

    is_number: Mask
    """Of every text of the column."""
    texts: pa.Array
    """Those of ten digits, in their order."""
    numbers: Numbers
    """The same as numbers."""

    def among(self, found: Collection[str]) -> Mask:
        """Of each number, whether it is among those found."""
        return _mask(pc.is_in(self.texts, value_set=pa.array(list(found), pa.string())))


def ten_digits(phones: pa.Array) -> Asked:
    is_number = _mask(pc.and_(pc.equal(pc.binary_length(phones), _DIGITS), pc.ascii_is_decimal(phones)))
    texts = phones.filter(pa.array(is_number))
    return Asked(is_number, texts, pc.cast(texts, pa.int64()).to_numpy(zero_copy_only=False))


def answer_column(
    asked: Asked,
    listed: Mask,
    area_codes: Collection[str],
    *,
    absent: Answer,
    not_covered: Answer,
    otherwise: Answer,
) -> tuple[pa.Array, pa.Array]:
    """Verdict and reason of every text of a column: listed when found, absent only where the area code is covered."""
    covered = np.zeros(AREA_CODES, np.bool_)
    covered[[int(code) for code in area_codes if _CODE.fullmatch(code)]] = True
    said = (LISTED, absent, not_covered, otherwise)
    kinds = np.full(len(asked.is_number), said.index(otherwise), np.int8)
    kinds[asked.is_number] = np.where(listed, 0, np.where(covered[asked.numbers // AREA], 1, 2))
    places = pa.array(kinds)
    verdicts = pa.array([answer.verdict.value for answer in said], pa.string())
    reasons = pa.array([None if answer.reason is None else answer.reason.value for answer in said], pa.string())
    return verdicts.take(places), reasons.take(places)


def _mask(values: pa.Array) -> Mask:
    found: Mask = values.to_numpy(zero_copy_only=False)
    return found
