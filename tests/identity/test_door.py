import subprocess
import sys

import sidecar.identity


def test_the_door_names_what_it_has() -> None:
    assert sorted(sidecar.identity.__all__) == sidecar.identity.__all__
    assert all(hasattr(sidecar.identity, name) for name in sidecar.identity.__all__)


def test_cryptography_is_not_imported_until_it_is_needed() -> None:
    """Ready in under 0.5 s: PyJWT and cryptography cost 44 ms and only issuers or signing need them."""
    code = "import sys, sidecar.identity; print(sorted({'jwt', 'cryptography', 'aiohttp'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
