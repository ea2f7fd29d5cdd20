"""The access log of a running sidecar: which calls are in it, where it goes, and what it may not cost."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.errors import SidecarError
from sidecar.core.listening import AccessLogSettings
from sidecar.core.policy import ApiKeySettings, Settings
from sidecar.gateway import AccessLog, AccessWriter
from sidecar.gateway.access.log import MAX_WAITING, unread
from tests.gateway.cruel import OK, CruelUpstream, until
from tests.gateway.rig import Options, Rig

LOGGED = Options(more="access_log: {file: calls.log}")
SOME = Options(more="access_log: {file: calls.log, one_in: 3}")
NOTE = unread(0, b"id", "192.0.2.7", 400, "bad_request")


def log_of(rig: Rig) -> Path:
    return Path(rig.app.snapshot.settings.data).parent / "calls.log"


async def lines(rig: Rig, count: int) -> list[dict[str, Any]]:
    """The first ``count`` lines, once they are there."""
    await until(lambda: log_of(rig).read_text().count("\n") >= count)
    return [json.loads(line) for line in log_of(rig).read_text().splitlines()]


@pytest.mark.parametrize("options", [LOGGED])
async def test_calls_refusals_and_broken_heads_each_have_one_line(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(OK)
    await rig.call("GET /a?q=1&token=s3cret HTTP/1.1", "User-Agent: t/1")
    client = await rig.client()
    client.send(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.message()
    broken = await rig.client()
    broken.send(b"GET /c HTTP/1.1\r\nHost : a\r\n\r\n")
    await broken.message()
    served, refused, unreadable = await lines(rig, 3)
    assert (served["status"], served["target"], served["tenant"]) == (200, "/a?q=1&token=***", "acme")
    assert (served["bytes_out"], served["user_agent"], served["outcome"]) == (2, "t/1", "ok")
    assert served["upstream"] == f"http://127.0.0.1:{upstream.port}"
    assert (refused["status"], refused["code"], "tenant" in refused) == (401, "key_missing", False)
    assert (unreadable["status"], unreadable["ip"]) == (400, "127.0.0.1")
    assert rig.key not in log_of(rig).read_text()
    assert served["id"].replace("-", "") == (await rig.only_entry()).event_id


@pytest.mark.parametrize("options", [SOME])
async def test_one_in_so_many_but_every_failure(rig: Rig, upstream: CruelUpstream) -> None:
    for _ in range(6):
        await rig.call()
    upstream.answers(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
    for wire in upstream.wires:
        wire.close()
    await until(lambda: not rig.pool.targets[0].idle)
    await rig.call()
    assert [entry["status"] for entry in await lines(rig, 3)] == [200, 200, 500]


@pytest.mark.parametrize("options", [LOGGED])
async def test_a_client_that_leaves_is_noted(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(b"")
    client = await rig.client()
    client.ask("GET /cancel HTTP/1.1")
    await until(lambda: bool(upstream.requests))
    client.reset()
    (entry,) = await lines(rig, 1)
    assert (entry["outcome"], entry["status"]) == ("client_gone", 0)


@pytest.mark.parametrize("options", [LOGGED])
async def test_a_file_that_was_moved_away_is_opened_anew_by_a_reload(rig: Rig) -> None:
    await rig.call()
    await lines(rig, 1)
    log_of(rig).rename(log_of(rig).with_suffix(".1"))
    await rig.app.reloads.now()
    await rig.call()
    await until(log_of(rig).exists)
    assert len(await lines(rig, 1)) == 1


async def test_a_reload_turns_it_on_and_off(rig: Rig) -> None:
    file = log_of(rig).parent / "sidecar.yaml"
    plain = file.read_text()
    file.write_text(plain + "access_log: {file: calls.log}\n")
    await rig.app.reloads.now()
    await rig.call()
    await lines(rig, 1)
    file.write_text(plain)
    await rig.app.reloads.now()
    assert rig.lane.access is None
    await rig.call()
    file.write_text(plain + "access_log: {file: nowhere/calls.log}\n")
    with pytest.raises(SidecarError, match="the access log cannot be opened: No such file"):
        await rig.app.reloads.now()
    assert len(await lines(rig, 1)) == 1


def test_notes_beyond_the_bound_are_dropped_and_counted() -> None:
    log = AccessLog(AccessLogSettings())
    for _ in range(MAX_WAITING + 5):
        log.note(NOTE)
    assert (len(log.waiting), log.dropped, log.noted) == (MAX_WAITING, 5, MAX_WAITING)


def test_what_cannot_be_written_is_dropped_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing takes the bytes: the reading end of the pipe is closed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(AccessLogSettings(str(pipe)))
    writer = AccessWriter(log, ApiKeySettings())
    writer.start()
    os.close(reader)
    for _ in range(1000):
        log.note(NOTE)
    writer.close()
    assert log.dropped == 1000
    assert [record.message for record in caplog.records] == [
        "the access log cannot be written, its lines are dropped: Broken pipe"
    ]


def test_a_line_that_cannot_be_made_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(AccessLogSettings(str(tmp_path / "log")))
    writer = AccessWriter(log, ApiKeySettings())
    writer.start()
    for note in (NOTE, NOTE._replace(wall_us=10**30), NOTE):  # beyond every calendar
        log.note(note)
    writer.close()
    assert (tmp_path / "log").read_bytes().count(b"\n") == 2
    assert (log.dropped, len(caplog.records)) == (1, 1)


def test_nothing_is_lost_at_the_end(tmp_path: Path) -> None:
    log = AccessLog(AccessLogSettings(str(tmp_path / "log")))
    writer = AccessWriter(log, ApiKeySettings())
    writer.start()
    for _ in range(5000):
        log.note(NOTE)
    writer.close()
    assert (tmp_path / "log").read_bytes().count(b"\n") == 5000
    assert Settings().access_log is None
