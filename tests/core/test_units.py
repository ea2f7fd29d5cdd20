"""Durations, sizes and amounts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.units import format_duration_ns, format_size, parse_duration_ns, parse_money, parse_size


@given(st.integers(0, 10**15).map(lambda us: us * 1_000))
def test_durations_are_read_back(ns: int) -> None:
    assert parse_duration_ns(format_duration_ns(ns)) == ns


@given(st.integers(0, 2**50))
def test_sizes_are_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_units() -> None:
    assert parse_duration_ns("1.5h") == 5_400 * 10**9
    assert parse_duration_ns(" 250 ms ") == 250 * 10**6
    assert (parse_size("1kB"), parse_size("1KiB"), parse_size("0.5MiB")) == (1000, 1024, 512 * 1024)
    assert (format_duration_ns(60 * 10**9), format_size(10 * 2**20)) == ("1m", "10MiB")


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1 fortnight", "1e3s", "0.0000001us", "1s1s", "inf s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_duration_ns(text)


@pytest.mark.parametrize("text", ["", "1", "1kb", "1KB", "-1B", "0.5B", "1 MiBs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "1", "USD", "1 usd", "1 XXX", "1,5 USD", "1e3 USD", "$1", "NaN USD"])
def test_what_is_no_money(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_money(text)
