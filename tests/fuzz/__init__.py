"""Bytes that nobody sends in good faith, through the whole lane in memory: ``make fuzz``, and a short form by default.

The real connections, exchanges, journal and upstream pool stand between two transports that are byte arrays. h11, a
strict parser that the sidecar does not use, says what was asked and what was answered on either side.
"""
