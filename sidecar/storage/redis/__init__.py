"""Limits that nodes share, counted in Redis 6.2 or later: alone, behind Sentinel, or as a Cluster."""

from sidecar.storage.redis.store import RedisLimitStore

__all__ = ["RedisLimitStore"]
