"""What operators see and do: tenants, keys, usage, probes, metrics.

::

    Operations         what can be done; the admin API and the offline command line call the same methods
    Desk               what they do about billing: the report, rows that wait for a person
    Explainer          why a request would be refused, or pass
    CreditDesk         what they do about prepaid credits
    make_admin_app     the admin port: /livez, /readyz, /metrics, /api/v1/...
    make_public_app    /_sidecar/... on the public port
    RunningMargin      reckons the margin of the running month in the background, for the metrics
    Sources            where the metrics come from; read_admission, read_journal, read_upstreams fill its readings
"""

from sidecar.admin.api import Readiness, make_admin_app
from sidecar.admin.credits import CreditDesk
from sidecar.admin.desk import Desk
from sidecar.admin.explaining import Explainer
from sidecar.admin.exports import Export
from sidecar.admin.gather import read_admission, read_journal, read_upstreams
from sidecar.admin.operations import Changed, Mint, Operations
from sidecar.admin.public import make_public_app
from sidecar.admin.running import RunningMargin
from sidecar.admin.sources import (
    AdmissionReading,
    Build,
    Connections,
    JournalReading,
    MarginReading,
    Readings,
    ReloadReading,
    Sources,
    UpstreamReading,
    WorkersReading,
)
from sidecar.admin.terms import TermsDesk
from sidecar.admin.waiting import make_waiting_app

__all__ = [
    "AdmissionReading",
    "Build",
    "Changed",
    "Connections",
    "CreditDesk",
    "Desk",
    "Explainer",
    "Export",
    "JournalReading",
    "MarginReading",
    "Mint",
    "Operations",
    "Readiness",
    "Readings",
    "ReloadReading",
    "RunningMargin",
    "Sources",
    "TermsDesk",
    "UpstreamReading",
    "WorkersReading",
    "make_admin_app",
    "make_public_app",
    "make_waiting_app",
    "read_admission",
    "read_journal",
    "read_upstreams",
]
