"""May they? Sliding windows, concurrency and quotas as one all-or-nothing decision, made in process or by leases.

::

    seat = await admission.seat(principal)      # once per principal; reads the ledger the first time
    gate = seat.gate(route)                     # cached
    ticket = gate.admit(method, ip, header)     # Ticket or Refused; synchronous
    ticket.settle(meter_values)                 # at the end, exactly once
"""

from sidecar.admission.explaining import Asker, Check, Explanation, Standing
from sidecar.admission.gate import Gate, Pending, Ticket
from sidecar.admission.quotas import MeterTotal
from sidecar.admission.refusals import PolicyUse, Refused
from sidecar.admission.room import Admission, Readings, Seat
from sidecar.admission.spending import SpendReader
from sidecar.admission.thresholds import Tell

__all__ = [
    "Admission",
    "Asker",
    "Check",
    "Explanation",
    "Gate",
    "MeterTotal",
    "Pending",
    "PolicyUse",
    "Readings",
    "Refused",
    "Seat",
    "SpendReader",
    "Standing",
    "Tell",
    "Ticket",
]
