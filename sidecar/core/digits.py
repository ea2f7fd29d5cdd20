"""Texts of numbers, made once. A thousand of each, because a greater table would be looked up in memory that no cache
holds: what the hot path writes differs with each call. Who imports them gives them a name of its own: compiled code has
those in place, and looks imported ones up by name at each use."""

from typing import Final

THOUSAND: Final = 1000
PLAIN: Final = [b"%d" % number for number in range(THOUSAND)]
PADDED: Final = [b"%03d" % number for number in range(THOUSAND)]
