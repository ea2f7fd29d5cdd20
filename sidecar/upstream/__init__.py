"""The target's side of the lane: connections, the pool that keeps them, balancing, the breaker, health."""

from sidecar.upstream.connection import ReplySink, UpstreamConnection
from sidecar.upstream.health import HealthChecks
from sidecar.upstream.pool import UpstreamPool
from sidecar.upstream.target import TargetPool, TargetReading

__all__ = ["HealthChecks", "ReplySink", "TargetPool", "TargetReading", "UpstreamConnection", "UpstreamPool"]
