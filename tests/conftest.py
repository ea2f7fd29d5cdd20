"""What every test may use: property tests that are the same on every machine, and no network by accident."""

import os

from hypothesis import HealthCheck, settings

# Shared machines stall; a deadline would make a slow machine a failing one. `HYPOTHESIS_PROFILE=deep` looks further.
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Nothing of the machine's own set-up may reach the processes under test.
for _name in ("SIDECAR_ADMIN", "SIDECAR_ADMIN_TOKEN", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
    os.environ.pop(_name, None)
