"""A reverse-proxy sidecar that knows who calls, decides whether they may, forwards, measures and writes it down.

The house, top floor first. A module imports from floors below its own and from its own room; it enters another room
only through that room's door (the package's ``__init__``); rooms on one floor are strangers; only ``app`` goes down
to ``storage``. ``tests/test_architecture.py`` reads the imports and enforces this.

==================  ==================================================================================================
``cli``             the commands: parse, call one function, print
``serve``           signals, readiness, drain: the life of the processes
``app``             composition root, the only module that names a concrete store
``config``          ``sidecar.yaml`` and ``policies/*.yaml`` to frozen types, every fault at once
``gateway``         the client's side of the lane, the journey of a request, the hand-over to aiohttp
``admin``           the operators' API, probes, metrics
``identity``        API keys, JWT, the identity passed upstream
``admission``       sliding windows, concurrency, quotas, the headers that announce them
``upstream``        the target's side of the lane, connection pool, health, breaker
``metering``        what a call took: cost, meters, histograms
``ledger``          journal, shipping, entries
``billing``         Stripe: the catalogue that follows from the policies, events, sums, what follows from payment
``storage``         the SQLite and PostgreSQL adapters of the ports
``http1``           heads: what crosses, what is stripped, what framing is refused (pure)
``core``            values, the policy snapshot, window arithmetic, money, clock, errors, problem documents, ports
==================  ==================================================================================================

One request, left to right::

    client -> gateway -> identity -> admission -> upstream -> metering -> journal -> ledger
"""
