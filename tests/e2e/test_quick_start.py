"""A newcomer's first commands: two lines in front of an API, tenants and keys with the sidecar running and stopped."""

import json
import stat

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import READY, Sidecar, command


def test_one_line_in_front_of_any_api(make: Make, api: Api) -> None:
    """The ready line says where it listens, what it protects, and where the admin side is."""
    sidecar = make("--upstream", api.url).start()
    match = READY.match(sidecar.ready_line)
    assert match is not None
    assert match[3] == api.url
    assert sidecar.call("GET", "/echo").status == 401
    key = sidecar.key("acme", plan="pro")
    assert sidecar.call("GET", "/echo", key).status == 200
    assert sidecar.stop() == 0
    assert sidecar.errors.count("Traceback") == 0


def test_two_lines_in_front_of_an_api(make: Make, api: Api) -> None:
    """Keys may be made before the first start; the run that follows knows them."""
    sidecar = make("--upstream", api.url)
    key = sidecar.key("acme")
    sidecar.start()
    assert sidecar.call("GET", "/echo", key).status == 200


def test_what_was_made_is_there_after_a_restart(make: Make, api: Api) -> None:
    sidecar = make("--upstream", api.url).start()
    key = sidecar.key("acme")
    assert sidecar.stop() == 0
    assert json.loads(sidecar.cli("keys", "list", "acme", "--json").stdout)
    sidecar.start()
    assert sidecar.call("GET", "/echo", key).status == 200


def test_keys_create_prints_the_key_alone(front: Sidecar) -> None:
    front.cli("tenants", "add", "alone", "--plan", "free")
    done = front.cli("keys", "create", "alone", "--name", "ci")
    assert len(done.stdout.split()) == 1
    assert done.stdout.strip() not in done.stderr
    listed = front.cli("keys", "list", "alone", "--json").stdout
    assert done.stdout.strip() not in listed


def test_a_bearer_token_carries_the_key_too(front: Sidecar) -> None:
    key = front.key("bearer")
    assert front.call("GET", "/echo", headers={"Authorization": f"Bearer {key}"}).status == 200


def test_a_rotated_key_works_during_the_overlap(front: Sidecar) -> None:
    """field-bugs 31: awslabs/aws-api-gateway-developer-portal#162."""
    old = front.key("rotating")
    key_id = front.call("GET", "/echo", old).json()["headers"]
    seen = {name.lower(): value for name, value in key_id}["x-key-id"]
    new = front.cli("keys", "rotate", seen, "--overlap", "24h").stdout.strip()
    assert new != old
    assert [front.call("GET", "/echo", key).status for key in (old, new)] == [200, 200]


def test_a_second_writer_is_refused(make: Make, api: Api) -> None:
    """One SQLite file never has two writers: a second `run` on the same folder ends at once and says why."""
    sidecar = make("--upstream", api.url).start()
    second = make("--upstream", api.url)
    words = (
        "run",
        "--upstream",
        api.url,
        "--data",
        str(sidecar.data),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    )
    done = command(*words, cwd=second.folder, code=1)
    assert done.stderr.strip()
    assert str(sidecar.data) in done.stderr or "data" in done.stderr
    key = sidecar.key("acme")
    assert sidecar.call("GET", "/echo", key).status == 200


def test_the_admin_token_is_readable_by_its_owner_alone(make: Make, api: Api) -> None:
    sidecar = make("--upstream", api.url).start()
    secrets = [path for path in sidecar.data.rglob("*") if path.is_file() and "token" in path.name]
    assert secrets
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_an_unknown_tenant_is_a_clear_message(front: Sidecar) -> None:
    done = front.cli("keys", "create", "nobody", "--name", "ci", code=1)
    assert "nobody" in done.stderr
    assert done.stdout == ""


def test_a_tenant_is_made_once(front: Sidecar) -> None:
    front.cli("tenants", "add", "twice", "--plan", "free")
    done = front.cli("tenants", "add", "twice", "--plan", "free", code=1)
    assert "twice" in done.stderr


def test_a_plan_that_nobody_defined_is_refused(front: Sidecar) -> None:
    """field-bugs 8: a limit that cannot be found never means unlimited."""
    done = command("tenants", "add", "astray", "--plan", "platinum", "--data", str(front.data), cwd=front.folder)
    assert done.returncode in (1, 2)
    assert "platinum" in done.stderr
