-- One meter's sum for one tenant over the minutes [:since, :until).
SELECT coalesce(sum(value), 0)
FROM meter_rollups
WHERE tenant = :tenant AND meter = :meter AND minute >= :since AND minute < :until AND sandbox = :sandbox
