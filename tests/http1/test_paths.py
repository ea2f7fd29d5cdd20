"""What a path means: a plain one itself, others both ways in which upstreams read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http1 import PathMeaning, read_path

_PLAIN = st.lists(st.text("abcXYZ019-_~!$&'()*+,=:@", min_size=1), max_size=5)


@given(_PLAIN)
def test_a_plain_path_means_itself(segments: list[str]) -> None:
    path = ("/" + "/".join(segments)).encode()
    assert read_path(path) == PathMeaning(path)


@given(_PLAIN)
def test_an_escaped_path_means_what_it_spells(segments: list[str]) -> None:
    escaped = b"".join(b"/" + b"".join(b"%%%02x" % byte for byte in segment.encode()) for segment in segments) or b"/"
    assert read_path(escaped) == PathMeaning(("/" + "/".join(segments)).encode())


@given(st.binary(max_size=40).map(lambda tail: b"/" + tail))
def test_every_reading_is_normal(path: bytes) -> None:
    meaning = read_path(path)
    for reading in (meaning.path, meaning.other or b"/"):
        assert reading.startswith(b"/")
        assert b"//" not in reading
        assert not {b".", b".."} & set(reading.split(b"/"))


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        (b"/v1/%61dmin", b"/v1/admin", None),
        (b"/v1//admin", b"/v1/admin", None),
        (b"/v1/x/../admin", b"/v1/admin", None),
        (b"/v1/x/%2e%2E/admin", b"/v1/admin", None),
        (b"/v1/x/.%2e/admin/", b"/v1/admin/", None),
        (b"/../../a", b"/a", None),
        (b"/a/.", b"/a/", None),
        (b"/a/./b", b"/a/b", None),
        (b"/open%2Fx", b"/open%2Fx", b"/open/x"),
        (b"/open%2fx", b"/open%2Fx", b"/open/x"),
        (b"/a/..%2fb", b"/a/..%2Fb", b"/b"),
        (b"/a\\..\\b", b"/a\\..\\b", b"/b"),
        (b"/a%5c..%5Cb", b"/a\\..\\b", b"/b"),
        (b"/admin;v=1/x", b"/admin;v=1/x", b"/admin/x"),
        (b"/a/..;/admin", b"/a/..;/admin", b"/admin"),
        (b"/%zz", b"/%zz", None),
        (b"/%252e", b"/%2e", None),
    ],
)
def test_readings(path: bytes, one: bytes, other: bytes | None) -> None:
    assert read_path(path) == PathMeaning(one, other)
