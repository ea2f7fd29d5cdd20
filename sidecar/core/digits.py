"""Texts of numbers, made once: a hundred of each, two digits at a time. What the hot path writes differs with each
call, and the texts of a thousand numbers lie in memory that no close cache holds: each took two misses. Who imports
them gives them a name of its own: compiled code has those in place, and looks imported ones up by name at each use."""

from typing import Final

HUNDRED: Final = 100
PLAIN: Final = [b"%d" % number for number in range(HUNDRED)]
PADDED: Final = [b"%02d" % number for number in range(HUNDRED)]
