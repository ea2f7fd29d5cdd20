"""The speed and memory of the sidecar beside its peers, measured in one run on one machine: ``python -m benchmarks``.

=============  =======================================================================================
``turns``      requests/s and latency of every peer, interleaved, each server alone on one core
``memory``     the sidecar's RSS at rest and with 10,000 idle client connections
``keys``       start-up time and the rate of a hot key, with few keys in the store and with a million
=============  =======================================================================================

``peers/`` holds the peers' configurations, ``sidecar/`` the sidecar's own. docs/benchmarks.md explains how to read it.
"""
