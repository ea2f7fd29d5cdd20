"""What the hot path needs of a caller, made once per principal and route instead of once per request."""

from sidecar.admission import Admission, Gate, Seat
from sidecar.core.records import Caller, Outcome, principal_fragment, text_fragment
from sidecar.core.values import Principal
from sidecar.gateway.rules import RoutePlan
from sidecar.identity import UpstreamSigner
from sidecar.metering import Tallies, Tally

ANONYMOUS = Principal(tenant="", key_id="", plan="")


class Passage:
    """One caller on one route: the gate, the texts that are written for each of their calls, and their tallies.

    ``assumed``: the meters of a call whose end is never known (core.records, position 18); None where it is free.
    """

    __slots__ = (
        "_classes",
        "_plan",
        "_tallies",
        "assumed",
        "caller",
        "gate",
        "load",
        "meters",
        "outcome",
        "route",
    )

    def __init__(self, principal: Principal, plan: RoutePlan, gate: Gate, tallies: Tallies) -> None:
        route = plan.route
        self.gate = gate
        self.meters = plan.meters
        self.assumed = plan.assumed
        who = principal_fragment(principal.tenant, principal.key_id, principal.plan, sandbox=principal.sandbox)
        self.caller = Caller(who, text_fragment(route.name))
        self.outcome = Outcome()
        self.route = route
        self.load = tallies.route(route.name)
        self._plan = principal.plan
        self._tallies = tallies
        self._classes: list[Tally | None] = [None] * 6

    def tally(self, status: int) -> Tally:
        """Where a call with this status is counted."""
        index = status // 100
        if not 0 <= index < 6:
            index = 0
        found = self._classes[index]
        if found is None:
            found = self._classes[index] = self._tallies.get(self.route.name, self._plan, index * 100)
        return found


class Account:
    """A resolved caller: what the identity cache keeps."""

    __slots__ = ("_passages", "_seat", "_signer", "_tallies", "identity", "principal", "signs")

    def __init__(self, principal: Principal, seat: Seat, tallies: Tallies, signer: UpstreamSigner | None) -> None:
        self.principal = principal
        self._seat = seat
        self._tallies = tallies
        self._signer = signer
        self.signs = signer is not None
        self._passages: dict[RoutePlan, Passage] = {}
        self.identity = (
            f"X-Tenant-ID: {principal.tenant}\r\nX-Key-ID: {principal.key_id}\r\nX-Plan: {principal.plan}\r\n".encode()
        )

    def passage(self, plan: RoutePlan) -> Passage:
        """This caller on this route; made at the first call. At most one per route of the policy."""
        found = self._passages.get(plan)
        if found is None:
            gate = self._seat.gate(plan.route)
            found = Passage(self.principal, plan, gate, self._tallies)
            self._passages[plan] = found
        return found

    def renew(self) -> None:
        """Forgets the routes of the rules that were in force."""
        self._passages = {}
        self._seat.renew()

    def token_line(self) -> bytes:
        """The signed identity's header line, empty when it is not switched on."""
        return b"" if self._signer is None else self._signer.header_line(self.principal)


def anonymous_passage(admission: Admission, plan: RoutePlan, tallies: Tallies) -> Passage:
    """Callers without a key on a route with ``auth: none``."""
    gate = admission.anonymous(plan.route)
    return Passage(ANONYMOUS, plan, gate, tallies)
