-- How many entries of the batch were new.
SELECT coalesce(sum(requests), 0)::bigint FROM pg_temp.grouped
