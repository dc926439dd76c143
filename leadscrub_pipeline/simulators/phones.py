"""The phones that simulated people have, and which of them are litigators or on the registry.

Both lists are decided by a seeded hash of the number, so any process knows them without a
table. Who owns a phone does not belong here.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

LITIGATOR_SHARE: Final = 0.02
LISTED_SHARE: Final = 0.12

# Written out, not derived from phonenumbers: a new version of it must not change the demo.
_AREA_CODES: Final = """
201 202 203 205 206 207 208 209 210 212 213 214 215 216 217 218 219 224 225 228 229 231 234 239 240 248 251 252
253 254 256 260 262 267 269 270 276 281 301 302 303 304 305 307 308 309 310 312 313 314 315 316 317 318 319 320
321 323 325 330 331 334 336 337 339 346 347 351 352 360 361 385 386 401 402 404 405 406 407 408 409 410 412 413
414 415 417 419 423 424 425 430 432 434 435 440 442 443 458 469 470 475 478 479 480 484 501 502 503 504 505 507
508 509 510 512 513 515 516 517 518 520 530 531 534 539 540 541 551 559 561 562 563 567 570 571 573 574 575 580
585 586 601 602 603 605 606 607 608 609 610 612 614 615 616 617 618 619 620 623 626 630 631 636 641 646 650 651
657 660 661 662 667 669 678 681 682 701 702 703 704 706 707 708 712 713 714 715 716 717 718 719 720 724 727 731
732 734 737 740 747 754 757 760 762 763 765 769 770 772 773 774 775 779 781 785 786 801 802 803 804 805 806 808
810 812 813 814 815 816 817 818 828 830 831 832 843 845 847 848 850 856 857 858 859 860 862 863 864 865 870 872
878 901 903 904 906 907 908 909 910 912 913 914 915 916 917 918 919 920 925 928 929 931 936 937 938 940 941 947
949 951 952 954 956 959 970 971 972 973 978 979 980 984 985 989
"""
AREA_CODES: Final = tuple(_AREA_CODES.split())

CONTROL_NUMBERS: Final = ("2025550198", "2125550199", "3125550198")
"""Known litigators of every seed; nobody's phone."""

_LARGE_EXCHANGES: Final = ("234", "345", "456", "567", "678")
_MASK: Final = (1 << 64) - 1


class PhoneSpace(StrEnum):
    """Which numbers contacts are drawn from."""

    FICTIONAL = "fictional"
    """555-0100 to 555-0189 in every area code: 26,640 numbers, so people share some. For up to 5,000 leads."""
    LARGE = "large"
    """Five exchanges in every area code, 14.8 million numbers. At run time and on loopback only, never committed."""


def space_size(space: PhoneSpace) -> int:
    return len(AREA_CODES) * (90 if space is PhoneSpace.FICTIONAL else 10_000 * len(_LARGE_EXCHANGES))


def phone_at(index: int, space: PhoneSpace) -> str:
    """The number at a place below ``space_size``."""
    rest, area = divmod(index, len(AREA_CODES))
    if space is PhoneSpace.FICTIONAL:
        return f"{AREA_CODES[area]}55501{rest:02d}"
    line, exchange = divmod(rest, len(_LARGE_EXCHANGES))
    return f"{AREA_CODES[area]}{_LARGE_EXCHANGES[exchange]}{line:04d}"


def relatives_phone(draw: int) -> str:
    """A number of somebody other than the lead: 555-0190 to 555-0197, never a contact's own."""
    rest, area = divmod(draw, len(AREA_CODES))
    return f"{AREA_CODES[area]}55501{90 + rest % 8}"


def is_relatives_phone(phone: str) -> bool:
    return phone[3:9] == "555019" and phone[9] < "8"


def is_litigator(phone: str, *, seed: int) -> bool:
    return phone in CONTROL_NUMBERS or mix(int(phone), seed, 1) < LITIGATOR_SHARE * _MASK


def is_listed(phone: str, *, seed: int) -> bool:
    """Whether the simulated registry holds the number."""
    return mix(int(phone), seed, 2) < LISTED_SHARE * _MASK


def listed_phones(space: PhoneSpace, *, seed: int) -> Iterator[npt.NDArray[np.uint64]]:
    """All numbers of the space for which ``is_listed`` holds, ascending, one array an area code."""
    lines = range(10_000) if space is PhoneSpace.LARGE else range(100, 190)
    exchanges = _LARGE_EXCHANGES if space is PhoneSpace.LARGE else ("555",)
    tails = np.array([int(exchange) * 10_000 + line for exchange in exchanges for line in lines], dtype=np.uint64)
    for area_code in AREA_CODES:
        phones = tails + np.uint64(int(area_code) * 10_000_000)
        yield phones[_mixed(phones, seed, 2) < np.uint64(LISTED_SHARE * _MASK)]


def mix(value: int, seed: int, salt: int) -> int:
    """64 even bits from a number (splitmix64); the same as ``_mixed`` does for arrays."""
    z = (value + _start(seed, salt)) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _mixed(values: npt.NDArray[np.uint64], seed: int, salt: int) -> npt.NDArray[np.uint64]:
    z = values + np.uint64(_start(seed, salt))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _start(seed: int, salt: int) -> int:
    return ((seed * 31 + salt) * 0x9E3779B97F4A7C15) & _MASK
