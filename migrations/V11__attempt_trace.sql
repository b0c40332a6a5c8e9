-- How a POST went on its way: {"dns_ms": 1, "connect_ms": 2, "tls_ms": 8, "first_byte_ms": 40,
-- "headers": [["name", "value"], …], "more_headers": true}; a key that is missing has nothing to
-- tell. What is left of the duration is for reading the body; "headers" are the answer's.
--
-- Null for a plain success: over a connection that was open already, with hardly a time but the
-- receiver's. For a row without a POST too. '{}' when nothing is known, as of rows from before this
-- column, which are not rewritten, and of those by workers that don't know it.
alter table attempts add column trace jsonb default '{}';
