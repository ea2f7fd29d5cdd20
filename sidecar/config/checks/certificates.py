"""Client certificates: each name is one tenant's, and somebody asks for them."""

from sidecar.config.reading import Reading, quoted
from sidecar.core.policy import Snapshot
from sidecar.core.values import Tenant


def check(snapshot: Snapshot, reading: Reading) -> None:
    tls = snapshot.settings.tls
    owners: dict[str, Tenant] = {}
    for tenant in snapshot.tenants.values():
        if tenant.certificates and (tls is None or tls.client_ca is None):
            message = "no client can show a certificate; write tls.client_ca, the authorities that sign them"
            reading.blame(tenant, "certificates", message)
        for name in tenant.certificates:
            owner = owners.setdefault(name, tenant)
            if owner is not tenant:
                message = f"{quoted(name)} is the tenant {quoted(owner.name)}'s already; a name is one tenant's"
                reading.blame(tenant, "certificates", message)
