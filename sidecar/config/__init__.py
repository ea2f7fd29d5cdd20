"""``sidecar.yaml`` and ``policies/*.yaml`` to frozen types, every fault at once.

::

    bytes -tree-> nodes with lines -tables-> values with places -loading-> Snapshot -checks-> Snapshot or ConfigError

The tables in ``settings`` and ``policies`` are the only place that knows the keys. The loader, the suggestions for a
wrong key, the JSON Schemas, docs/configuration.md and ``config show --effective`` follow from them.
"""

from sidecar.config.checks.prices import price_lines
from sidecar.config.comparing import Change, compare, policy_set
from sidecar.config.display import effective
from sidecar.config.jsonschemas import schemas
from sidecar.config.loading import Overrides, load
from sidecar.config.manual import reference
from sidecar.config.reloading import Configuration
from sidecar.config.terms import TenantTerms

__all__ = [
    "Change",
    "Configuration",
    "Overrides",
    "TenantTerms",
    "compare",
    "effective",
    "load",
    "policy_set",
    "price_lines",
    "reference",
    "schemas",
]
