"""Numbers that are written with a unit, such as 12 kg, $1,200 or 45%: they are told, not read."""

import re
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MARKS = str.maketrans("\u2212", "-", "$€£¥%‰°()<>~≈'\"′″ \u2019\u00a0\u2009\u202f")
"""What people write around and within a number: units, spaces, the minus sign of typesetters, brackets for it."""

BARE = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:,\d{2,3})+|\d{1,3}(?:\.\d{3})+)?(?:(?<=\d)[.,]?|[.,]\d+)$")
"""A number without those marks, in any country's writing."""

THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,'’ \u00a0\u2009\u202f])\d{3}(\1\d{3})*(?:[.,]\d+)?$")
"""A number with a mark between its thousands."""

NUMBER = r"\d+(?:[.,' \u00a0\u202f]\d+)*"
LETTERS = r"[^\W\d_]"
UNIT = rf"{LETTERS}{{1,12}}[²³23]?\.?(?:/{LETTERS}{{1,12}}[²³23]?)?"
CURRENCY = r"(?:USD|EUR|GBP|CHF|JPY|CNY|INR|RUB|AUD|CAD|SEK|NOK|DKK|PLN|CZK|HUF|TRY|BRL|MXN|ZAR|KRW|Rs\.?|R\$|kr\.?|zł)"
WITH_UNIT = re.compile(rf"[+-]?(?:{NUMBER}\s?{UNIT}\s?){{1,3}}$|{CURRENCY}\s?[+-]?{NUMBER}$")
SIZE = re.compile(r"\d[.,]\d|\d\s")
"""Where there is a fraction or a space behind the number, other letters are other units; 12A and 12B are names."""

LONGEST, LOOKED_AT, MOST_UNITS = 40, 1000, 3


class Quantities(NamedTuple):
    """What the texts of a column are that are numbers with units."""

    example: str
    different: int
    """how many different ones there are among the texts that were looked at"""


def are_like_numbers(texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of these texts are numbers but for a mark around or within them, such as 12%, (1.30) and 1'200."""
    return np.array([BARE.match(text.translate(MARKS)) is not None for text in texts], dtype=bool)


def find_quantities(texts: Sequence[str | None]) -> Quantities | None:
    """What more than half of these texts are, if these are numbers with the same few units, such as 1.5 kg and 300 g.

    Looks at the first thousand.
    """
    looked_at = list(islice((text for text in texts if text is not None), LOOKED_AT))
    found = [text for text in looked_at if len(text) <= LONGEST and WITH_UNIT.match(text)]
    if not found or 2 * len(found) <= len(looked_at):
        return None
    units = {tuple(re.findall(rf"{LETTERS}+", text)) for text in found}
    if len(units) > (MOST_UNITS if any(map(SIZE.search, found)) else 1):
        return None
    return Quantities(found[0], len(set(found)))
