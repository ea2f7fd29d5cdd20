"""Where something of the configuration was written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something was written: the file as the user named it and the 1-based line; defaults are ``built-in``, 0."""

    file: str = "built-in"
    line: int = 0
