"""``sidecar notify``: what would go out, and who is told."""

from pathlib import Path

import pytest

from sidecar.cli import main

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
CONFIG = """\
billing:
  notices:
    webhook: http://127.0.0.1:1/hook
    secret: ${HOOK}
    mail: {host: 127.0.0.1, port: 1, security: none, sender: api@example.com, to: [ops@example.com]}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOOK", SECRET)
    file = tmp_path / "sidecar.yaml"
    file.write_text(CONFIG)
    return str(file)


def test_a_dry_run_shows_both_and_no_secret(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify", "--dry-run", "--config", config, "--kind", "access.grace", "--tenant", "acme-eu"]) == 0
    shown = capsys.readouterr().out
    assert "webhook-signature: v1," in shown
    assert "Subject: [sidecar] acme-eu owes" in shown
    assert SECRET.removeprefix("whsec_") not in shown


def test_who_cannot_be_told_is_said(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify", "--config", config]) == 1
    assert "webhook: ClientConnectorError" in capsys.readouterr().out


def test_nobody_and_nothing(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify", "--dry-run", "--config", config, "--kind", "access.lost"]) == 1
    assert "write one of access.grace" in capsys.readouterr().err
    empty = tmp_path / "empty.yaml"
    empty.write_text("drain: 5s\n")
    assert main(["notify", "--dry-run", "--config", str(empty)]) == 1
    assert "nobody is told" in capsys.readouterr().err
