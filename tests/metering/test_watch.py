"""What meters read out of replies: headers, trailers, JSON, streams; defaults, anomalies and factors."""

import json
from fractions import Fraction

import pytest

from sidecar.core.policy import Extract, Meter, Multiply
from sidecar.metering import MAX_VALUE, REASONS, WATCH_BYTES, RouteMeters
from tests.metering.replies import KINDS, ROUTE, at, head, run, tokens

JSON = head("application/json")
SSE = head("text/event-stream")
USAGE = at("usage", "total_tokens")


def chunk(**members: object) -> bytes:
    return b"data: " + json.dumps({"id": "c1", "model": "gpt-x"} | members).encode() + b"\n\n"


def event(kind: str, **members: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | members)}\n\n".encode()


OPENAI = [
    *(chunk(choices=[{"delta": {"content": f"w{n}"}}], usage=None) for n in range(20)),
    chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25}),
    b"data: [DONE]\n\n",
]
ANTHROPIC = [
    event("message_start", message={"usage": {"input_tokens": 25, "output_tokens": 1}}),
    event("ping"),
    event("content_block_delta", delta={"text": "Hi"}),
    event("message_delta", usage={"output_tokens": 15}),
    event("message_stop"),
]


def test_openai_without_a_stream() -> None:
    body = json.dumps({"choices": [], "usage": {"total_tokens": 25}}).encode()
    assert run(tokens(USAGE), JSON, [body]) == (25, [])


def test_openai_stream_with_usage_in_the_last_chunk() -> None:
    assert run(tokens(USAGE), SSE, OPENAI) == (25, [])


def test_openai_stream_without_usage_is_an_anomaly_or_the_default() -> None:
    """A missing value is not zero (litellm#37992)."""
    bare = [*OPENAI[:-2], OPENAI[-1]]
    assert run(tokens(USAGE), SSE, bare) == (None, ["missing"])
    assert run(tokens(USAGE, default=100), SSE, bare) == (100, [])


def test_anthropic_stream_has_input_and_output_in_different_events() -> None:
    """Usage spread over events is added up right (apache/apisix#13662)."""
    meters = RouteMeters(
        ROUTE,
        [
            Meter("in", "reply", at("message", "usage", "input_tokens")),
            Meter("out", "reply", at("usage", "output_tokens")),
        ],
    )
    watch = meters.watch(200, SSE)
    assert watch is not None
    for piece in ANTHROPIC:
        watch.body(piece)
    watch.end(b"")
    assert meters.charge(200, 1, 0, 0, 0, watch)[0] == {"in": 25, "out": 15}


@pytest.mark.parametrize(("take", "value"), [("last", 2), ("sum", 12), ("max", 7)])
@pytest.mark.parametrize("kind", ["sse", "ndjson"])
def test_take(take: str, value: int, kind: str) -> None:
    """An event without the value, with null, and one that is not JSON change nothing; an explicit zero counts."""
    events = ['{"n": 3}', "{}", '{"n": 0}', '{"n": null}', "[DONE]", '{"n": 7}', '{"n": broken', '{"n": 2}']
    body = "".join(f"data: {text}\n\n" if kind == "sse" else f"{text}\n" for text in events)
    assert run(tokens(at("n", take=take)), head(KINDS[kind]), [body.encode()]) == (value, [])


@pytest.mark.parametrize("take", ["last", "sum", "max"])
def test_an_explicit_zero_stays_zero(take: str) -> None:
    """apache/apisix#13662."""
    assert run(tokens(at("n", take=take), default=9), SSE, [b'data: {"n":0}\n\n']) == (0, [])
    assert run(tokens(at("n", take=take), default=9), JSON, [b'{"n":0}']) == (0, [])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12", 12), ("12.0", 12), ("1.2e1", 12), ('"12"', 12), ("0", 0), ("-0.0", 0), (str(MAX_VALUE), MAX_VALUE),
        (f'"{MAX_VALUE}"', MAX_VALUE),
    ],
)  # fmt: skip
def test_what_is_a_count(written: str, value: int) -> None:
    assert run(tokens(at("n")), JSON, [f'{{"n": {written}}}'.encode()]) == (value, [])


@pytest.mark.parametrize(
    "written",
    [
        "true", "false", "-1", "12.5", "NaN", "Infinity", "-Infinity", "1e300", str(MAX_VALUE + 1), "[]", "{}",
        '""', '"12.0"', '" 1"', '"-1"', '"١٢"', '"1e3"', f'"{MAX_VALUE + 1}"', "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_count_is_invalid_even_with_a_default(written: str) -> None:
    assert run(tokens(at("n"), default=5), JSON, [f'{{"n": {written}}}'.encode()]) == (None, ["invalid"])


@pytest.mark.parametrize("body", [b"", b"{}", b'{"n":null}', b'{"m":{"n":1}}', b"[1]"])
def test_absent_and_null_are_missing(body: bytes) -> None:
    assert run(tokens(at("n")), JSON, [body]) == (None, ["missing"])
    assert run(tokens(at("n"), default=4), JSON, [body]) == (4, [])


@pytest.mark.parametrize("body", [b'{"n":1', b'{"n":1}x', b'"n" \xff', b'"n"' + b"[" * 100_000])
def test_a_body_that_is_not_json_is_invalid(body: bytes) -> None:
    assert run(tokens(at("n")), JSON, [body]) == (None, ["invalid"])


@pytest.mark.parametrize(
    ("path", "value"),
    [((0,), 1), ((-1, "k"), 2), ((1, "k"), 2), ((2,), None), ((-3,), None), (("k",), None), ((0, "k"), None)],
)
def test_paths_into_lists(path: tuple[str | int, ...], value: int | None) -> None:
    assert run(tokens(at(*path)), JSON, [b'[1,{"k":2}]'])[0] == value


@pytest.mark.parametrize("key", ["total", "é", "a/b", 'q"', "back\\slash", "tab\t", "中"])
def test_keys_are_found_however_they_are_escaped(key: str) -> None:
    """The cheap test before decoding must not take an escaped key for an absent one."""
    spellings = {
        json.dumps(key), json.dumps(key, ensure_ascii=False), json.dumps(key).replace("/", "\\/"),
        '"' + "".join(f"\\u{ord(letter):04x}" for letter in key) + '"',
    }  # fmt: skip
    for spelling in spellings:
        body = f"{{{spelling}:8}}".encode()
        assert run(tokens(at(key)), JSON, [body]) == (8, []), spelling
        assert run(tokens(at(key)), SSE, [b"data:" + body + b"\n\n"]) == (8, []), spelling


@pytest.mark.parametrize(
    ("content_type", "value"),
    [
        ("application/json", 1), ("Application/JSON; charset=utf-8", 1), ("application/problem+json", 1),
        ("text/html", None), ("text/plain", None), ("", None), ("application/json, text/html", None),
    ],
)  # fmt: skip
def test_the_content_type_decides(content_type: str, value: int | None) -> None:
    found = run(tokens(at("n", places=("json",))), head(content_type), [b'{"n":1}'])
    assert found == (value, [] if value else ["content_type"])
    assert run(tokens(at("n", places=("json",)), default=3), head(content_type), [b'{"n":1}'])[0] == value or 3


def test_a_stream_is_no_place_of_a_json_meter() -> None:
    assert run(tokens(at("n", places=("json",))), SSE, [b'data: {"n":1}\n\n']) == (None, ["content_type"])
    assert run(tokens(at("n", places=("sse",))), JSON, [b'{"n":1}']) == (None, ["content_type"])


def test_headers_and_trailers() -> None:
    header, trailer = Extract(("header",), "x-tokens"), Extract(("trailer",), "x-tokens")
    block = head("text/plain", "", "X-Tokens: \t42 ")
    assert run(tokens(header), block, [b"any"]) == (42, [])
    assert run(tokens(header), head("text/plain", "", "X-Tokens-2: 1"), []) == (None, ["missing"])
    assert run(tokens(header, default=2), head("text/plain", "", "X-Tokens:"), []) == (2, [])
    for wrong in ("-1", "1.0", "1,2", "0x1", "twelve"):
        assert run(tokens(header, default=2), head("a/b", "", f"X-Tokens: {wrong}"), []) == (None, ["invalid"])
    assert run(tokens(header), head("a/b", "", "X-Tokens: 1", "x-tokens: 2"), []) == (None, ["invalid"])
    assert run(tokens(trailer), block, [b"any"], trailers=b"x-TOKENS: 7\r\n") == (7, [])
    assert run(tokens(trailer), block, [b"any"]) == (None, ["missing"])
    assert run(tokens(trailer, default=1), block, [b"any"], ended=False) == (None, ["incomplete"])


def test_of_several_places_the_first_that_has_the_value_counts() -> None:
    meters = tokens(Extract(("trailer", "header", "json"), "x-tokens", ("n",)))
    plain, both = JSON, head("application/json", "", "X-Tokens: 2")
    assert run(meters, both, [b'{"n":3}'], trailers=b"X-Tokens: 1\r\n") == (1, [])
    assert run(meters, both, [b'{"n":3}']) == (2, [])
    assert run(meters, plain, [b'{"n":3}']) == (3, [])
    assert run(meters, plain, [b"{}"]) == (None, ["missing"])
    assert run(meters, head("text/html"), [b"{}"]) == (None, ["content_type"])


def factor(*path: str, otherwise: Fraction | None = None, header: str = "") -> Multiply:
    where = Extract(("header",), header) if header else at(*path)
    return Multiply(where, {"gpt-x": Fraction(2), "gpt-y": Fraction(1, 2), "4": Fraction(3)}, otherwise)


@pytest.mark.parametrize(
    ("members", "value", "reasons"),
    [
        ({"n": 3, "model": "gpt-x"}, 6, []),
        ({"n": 5, "model": "gpt-y"}, 2, []),  # 2.5 to even
        ({"n": 7, "model": "gpt-y"}, 4, []),  # 3.5 to even
        ({"n": 3, "model": 4}, 9, []),
        ({"n": 3, "model": "other"}, None, ["factor"]),
        ({"n": 3, "model": None}, None, ["factor"]),
        ({"n": 3}, None, ["factor"]),
        ({"n": 3, "model": ["gpt-x"]}, None, ["factor"]),
        ({"n": 0}, 0, []),
        ({"model": "gpt-x"}, 50, []),  # the default is what the reply counts as, factor and all
        ({"n": MAX_VALUE, "model": "gpt-x"}, None, ["invalid"]),
    ],
)
def test_a_factor_by_another_field(members: dict[str, object], value: int | None, reasons: list[str]) -> None:
    body = json.dumps(members).encode()
    meters = tokens(at("n"), factor("model"), default=50)
    assert run(meters, JSON, [body]) == (value, reasons)
    assert run(meters, SSE, [b"data: " + body + b"\n\n"]) == (value, reasons)
    if reasons == ["factor"]:
        assert run(tokens(at("n"), factor("model", otherwise=Fraction(10))), JSON, [body]) == (30, [])


def test_a_factor_by_a_header() -> None:
    meters = tokens(at("n"), factor(header="x-model"))
    assert run(meters, head("application/json", "", "X-Model: gpt-x"), [b'{"n":4}']) == (8, [])
    assert run(meters, JSON, [b'{"n":4}']) == (None, ["factor"])


def test_in_a_stream_the_field_that_was_seen_last_decides() -> None:
    meters = tokens(at("n", take="sum"), factor("model"))
    same = [chunk(n=1), chunk(x=1), chunk(x=2), chunk(x=3)]
    assert run(meters, SSE, same) == (2, [])
    # It begins like the others and then says something else: a member that stands twice counts as its last (RFC 8259).
    twice = b'data: {"id": "c1", "model": "gpt-x", "x": 1, "model": "gpt-y"}\n\n'
    assert run(meters, SSE, [*same, twice]) == (0, [])
    escaped = b'data: {"id": "c1", "model": "gpt-x", "x": 1, "\\u006dodel": "gpt-y"}\n\n'
    assert run(meters, SSE, [chunk(n=3), *same, escaped]) == (2, [])
    assert run(meters, SSE, [*same, b'data: {"model": "gpt-x", "n": broken\n\n']) == (2, [])


def test_a_reply_under_way_counts_as_far_as_it_is_known() -> None:
    """The client goes away: what was used so far is billed (litellm#14457, #36008)."""
    meters = tokens(at("n", take="sum"))
    watch = meters.watch(200, SSE)
    assert watch is not None
    assert meters.charge(200, 1, 0, 0, 0, watch) == ({}, b'{"t?":1}')
    assert watch.anomalies == [("t", "incomplete")]
    for sum_so_far in (2, 4, 6):
        watch.body(b'data: {"n":2}\n\ndata: {"n":')
        watch.body(b"")
        assert meters.charge(200, 1, 0, 0, 0, watch) == ({"t": sum_so_far}, b'{"t":%d}' % sum_so_far)
        assert watch.anomalies == []
        watch.body(b"null}\n\n")
    watch.end(b"")
    watch.body(b'data: {"n":2}\n\n')
    watch.end(b"")
    assert meters.charge(200, 1, 0, 0, 0, watch)[0] == {"t": 6}


def test_json_that_was_cut_off_is_incomplete_even_with_a_default() -> None:
    assert run(tokens(at("n"), default=1), JSON, [b'{"n":12'], ended=False) == (None, ["incomplete"])
    assert run(tokens(at("n"), default=1), JSON, [b'{"n":12}'], ended=False) == (None, ["incomplete"])


def test_statuses_that_do_not_count_are_not_looked_at() -> None:
    """A refused or failed call is not billed (Kong/developer.konghq.com#6691)."""
    meters = tokens(at("n"))
    for status in (0, 101, 400, 429, 500, 999):
        assert meters.watch(status, JSON) is None
        assert meters.charge(status, 1, 0, 0, 0) == ({}, b"{}")
    assert RouteMeters(ROUTE, [Meter("calls", "requests")]).watch(200, JSON) is None


def test_a_charge_without_its_watch_is_an_anomaly() -> None:
    """So it is for a call that was killed before its head came."""
    meters = RouteMeters(ROUTE, [Meter("calls", "requests"), Meter("t", "reply", at("n")), Meter("out", "bytes_out")])
    assert meters.charge(200, 1, 0, 9, 0) == ({"calls": 1, "out": 9}, b'{"calls":1,"t?":1,"out":9}')


def test_an_invalid_event_keeps_the_rest_of_a_sum_and_is_told() -> None:
    pieces = [b'data: {"n":2}\n\n', b'data: {"n":-1}\n\n', b'data: {"n":3}\n\n']
    assert run(tokens(at("n", take="sum")), SSE, pieces) == (5, ["invalid"])
    assert run(tokens(at("n", take="max")), SSE, pieces) == (3, ["invalid"])
    assert run(tokens(at("n")), SSE, pieces) == (3, [])
    assert run(tokens(at("n")), SSE, pieces[:2]) == (None, ["invalid"])


def test_what_is_too_large_is_told_and_not_kept() -> None:
    big = b'{"x":"' + b"y" * WATCH_BYTES + b'","n":1}'
    assert run(tokens(at("n"), default=1), JSON, [big[:1000], big[1000:]]) == (None, ["too_large"])
    events = [b'data: {"n":5}\n\n', b"data: " + big + b"\n\n"]
    assert run(tokens(at("n", take="sum")), SSE, events) == (5, ["too_large"])
    assert run(tokens(at("n", take="sum")), head(KINDS["ndjson"]), [b'{"n":5}\n', big + b"\n"]) == (5, ["too_large"])
    assert run(tokens(at("n")), SSE, [*events, b'data: {"n":6}\n\n']) == (6, [])


def test_every_reason_is_known() -> None:
    assert len(set(REASONS)) == len(REASONS) == 7
