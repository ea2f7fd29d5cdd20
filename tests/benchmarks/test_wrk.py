import pytest

from benchmarks import wrk

REPORT = """Running 4s test @ http://127.0.0.1:8080/v1/items/42
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.21ms    1.02ms  19.64ms   93.41%
    Req/Sec    25.31k     3.40k   32.61k    72.50%
  Latency Distribution
     50%  812.00us
     75%    1.31ms
     90%    2.04ms
     99%    {p99}
  100721 requests in 4.00s, 59.17MB read
{extra}Requests/sec:  25170.42
Transfer/sec:     14.79MB
"""


def test_a_clean_report() -> None:
    sample = wrk.parse(REPORT.format(p99="5.60ms", extra=""))
    assert sample == wrk.Sample(requests=100721, rate=25170.42, p50_ms=0.812, p99_ms=5.6, non_2xx=0, errors=0)


def test_refusals_and_socket_errors_are_counted_apart() -> None:
    extra = "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 77\n"
    sample = wrk.parse(REPORT.format(p99="1.25s", extra=extra))
    assert (sample.non_2xx, sample.errors, sample.p99_ms) == (77, 4321, 1250.0)


@pytest.mark.parametrize("text", ["", "unable to connect to 127.0.0.1:1 Connection refused", REPORT.split("99%")[0]])
def test_what_is_no_report_is_an_error_that_shows_it(text: str) -> None:
    with pytest.raises(wrk.WrkError, match="not a report"):
        wrk.parse(text)
