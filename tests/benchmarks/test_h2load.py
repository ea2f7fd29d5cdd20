import pytest

from benchmarks import h2load


def log(*rows: tuple[str, int]) -> str:
    return "".join(f"16952250000{number}\t{status}\t{us}\n" for number, (status, us) in enumerate(rows))


def test_a_log_is_read_into_rate_and_latency() -> None:
    text = log(*(("200", us) for us in range(1, 201)))
    assert h2load.read(text, 2) == h2load.Paced(rate=100.0, p50_ms=0.101, p99_ms=0.199, failed=0)


def test_what_was_not_answered_with_2xx_is_counted() -> None:
    assert h2load.read(log(("200", 5), ("429", 5), ("503", 5), ("-1", 0)), 1).failed == 3


def test_no_request_is_an_error() -> None:
    with pytest.raises(h2load.H2loadError, match="no request"):
        h2load.read("", 4)
