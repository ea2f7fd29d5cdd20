"""``config show --effective``: everything that applies, defaults and built-in policies too, as one sidecar.yaml."""

from typing import Any

import yaml

from sidecar.config import settings
from sidecar.config.kinds import MASKED, Masked
from sidecar.core.policy import Snapshot


def effective(snapshot: Snapshot) -> str:
    """YAML of the shape of sidecar.yaml; secrets are ``${MASKED}``. With that variable set it loads again."""
    values: dict[str, Any] = {
        attr: getattr(snapshot.settings, attr)
        for attr in settings.SIDECAR.attributes
        if hasattr(snapshot.settings, attr)
    }
    values |= {
        "policies": (),
        "upstreams": snapshot.upstreams,
        "meters": {} if _unseen(snapshot) else snapshot.meters,
        "routes": snapshot.routes,
        "plans": snapshot.plans,
        "tenants": snapshot.tenants,
        "costs": snapshot.costs,
    }
    shown = escaped(settings.SIDECAR.show_attributes(values))
    return yaml.dump(shown, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)


def _unseen(snapshot: Snapshot) -> bool:
    """Whether built-in meters stand beside plans that do not look at them: written out, they would be faults."""
    seen = {quota.meter for plan in snapshot.plans.values() for quota in plan.quotas}
    seen |= {price.meter for plan in snapshot.plans.values() if plan.price for price in plan.price.meters}
    return any(not meter.origin.line and meter.name not in seen for meter in snapshot.meters.values())


_DUMPER: type = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper


def escaped(value: Any) -> Any:
    """YAML data whose texts mean themselves: a ``${`` that is no mask is written ``$${``."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if isinstance(value, Masked):
        return str(value)
    if isinstance(value, str) and value is not MASKED:
        return value.replace("${", "$${")
    return value
