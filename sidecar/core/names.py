"""What things may be called. Names become header values, counter keys and file text, so each kind has a grammar.

Every ``check_`` returns the name unchanged, or raises ValueError with a sentence that says what to write.
"""

import re

TENANT_NAME_MAX = 64  # characters
KEY_NAME_MAX = 64
SCOPE_MAX = 128
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# A scope-token of RFC 6749, 3.3, without the comma, which separates scopes on the command line.
_SCOPE = re.compile(r"[!#-+\--\[\]-~]{1,128}")


def check_tenant_name(text: str) -> str:
    """Letters, digits, ``.``, ``_``, ``-``; begins with a letter or digit; at most 64. Case matters."""
    if _TENANT.fullmatch(text) is None:
        raise ValueError(
            f"{_shown(text)} is not a tenant's name; write 1 to {TENANT_NAME_MAX} of A-Z, a-z, 0-9, '.', '_', '-', "
            "beginning with a letter or a digit"
        )
    return text


def check_key_name(text: str) -> str:
    """Printable text of 1 to 64 characters without spaces around it."""
    if not (0 < len(text) <= KEY_NAME_MAX and text.isprintable() and text == text.strip()):
        raise ValueError(
            f"{_shown(text)} is not a key's name; write 1 to {KEY_NAME_MAX} printable characters, such as ci or web-1"
        )
    return text


def check_scope(text: str) -> str:
    """Printable ASCII without space, comma, quote and backslash, at most 128: ``read``, ``orders:write``."""
    if _SCOPE.fullmatch(text) is None:
        raise ValueError(
            f"{_shown(text)} is not a scope; write 1 to {SCOPE_MAX} of printable ASCII without spaces, commas, "
            "quotes and backslashes, such as read or orders:write"
        )
    return text


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")
