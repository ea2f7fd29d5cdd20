"""The table ``costs:`` of ``policies/*.yaml``."""

import re
from collections.abc import Mapping
from typing import Any

from sidecar.config.kinds import FREE, MONEY, ScalarKind, text_of
from sidecar.config.network import TOKEN
from sidecar.config.reading import Scalar, quoted
from sidecar.config.tables import Field, Table
from sidecar.core.money import Money
from sidecar.core.policy import Costs
from sidecar.metering import format_buffer, parse_buffer

RATES = ("per_ms", "per_gib_in", "per_gib_out", "per_call", "per_gib_s")
HEADERS = ("memory_header", "external_header")
# Reply fields that frame the message, belong to one connection, are the sidecar's own, or that clients need.
_RESERVED = frozenset(
    "cache-control connection content-disposition content-encoding content-length content-range content-type date etag "
    "expires keep-alive last-modified location proxy-authenticate proxy-connection ratelimit ratelimit-policy "
    "retry-after server set-cookie te trailer transfer-encoding upgrade vary via www-authenticate x-compute-cost "
    "x-request-id x-request-latency".split()
)


def _parse_header(scalar: Scalar) -> str:
    value = text_of(scalar)
    if re.fullmatch(TOKEN, value) is None:
        raise ValueError(f"{quoted(value)} is no header's name; write letters, digits and dashes")
    if value.lower() in _RESERVED:
        raise ValueError(f"the header {value} has a meaning of its own; write another, such as X-Memory-Bytes")
    return value.lower()


_HEADER = ScalarKind("a reply header's name", _parse_header, {"type": "string", "pattern": f"^{TOKEN}$"})
_PERCENT = ScalarKind(
    "a percentage from 0% to 100%",
    lambda scalar: parse_buffer(scalar.text),
    {"type": "string", "pattern": r"^\d{1,3}(\.\d{1,2})?\s*%$"},
    format_buffer,
)


def _make_costs(**given: Any) -> Costs:
    written = {attr: given[attr] for attr in RATES if given.get(attr, FREE) is not FREE}
    currencies = {money.currency for money in written.values()}
    if len(currencies) > 1:
        raise ValueError(f"costs mix {' and '.join(sorted(currencies))}; write them all in one currency")
    others = {attr: value for attr, value in given.items() if attr not in RATES}
    named = [others[attr] for attr in HEADERS if attr in others]
    if len(set(named)) < len(named):
        raise ValueError(f"memory_header and external_header are both {named[0]}; write two names")
    currency = currencies.pop() if currencies else "USD"
    return Costs(currency, **{attr: money.amount for attr, money in written.items()}, **others)


def _split_costs(costs: Costs) -> Mapping[str, Any]:
    rates = {attr: Money(getattr(costs, attr), costs.currency) for attr in RATES}
    return rates | {attr: getattr(costs, attr) for attr in (*HEADERS, "buffer")}


COSTS = Table(
    "costs",
    "What serving costs you; not what callers pay.",
    _make_costs,
    (
        Field("per_ms", MONEY, "Per millisecond of upstream time.", default=FREE, absent="nothing"),
        Field("per_gib_in", MONEY, "Per GiB of request bodies.", default=FREE, absent="nothing"),
        Field("per_gib_out", MONEY, "Per GiB of reply bodies.", default=FREE, absent="nothing"),
        Field("per_call", MONEY, "Per call.", default=FREE, absent="nothing"),
        Field(
            "per_gib_s",
            MONEY,
            "Per GiB of memory and second of upstream time; the reply says how much memory in `memory_header`.",
            default=FREE,
            absent="nothing",
        ),
        Field(
            "memory_header",
            _HEADER,
            "The reply header that holds the call's memory in bytes. It does not reach the client.",
            absent="none",
        ),
        Field(
            "external_header",
            _HEADER,
            "The reply header that holds what the call cost elsewhere, a decimal number in the currency of the costs. "
            "It does not reach the client.",
            absent="none",
        ),
        Field(
            "buffer",
            _PERCENT,
            "How far the price floor lies above the cost of a successful request.",
            default=Costs().buffer,
        ),
    ),
    _split_costs,
)
