"""Usage on its way to the payee: assigned to rows, sent, and never sent twice."""

from sidecar.billing.outbox.assigner import Assigner
from sidecar.billing.outbox.delivery import Rules
from sidecar.billing.outbox.events import Events, events_of
from sidecar.billing.outbox.sender import Sender

__all__ = ["Assigner", "Events", "Rules", "Sender", "events_of"]
