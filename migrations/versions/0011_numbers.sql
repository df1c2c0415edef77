-- Numbers that looking a name up has used up: what lies behind the last one in use is given back. From here on only a
-- name that is new takes a number, so that 2,147,483,647 of them suffice for names, of which each has a row.

LOCK TABLE usage.upstream, usage.channel, usage.credential, usage.client_key, usage.dimension, usage.origin, usage.price
    IN SHARE ROW EXCLUSIVE MODE;

ALTER TABLE usage.credential ALTER COLUMN credential_id TYPE bigint;

SELECT setval(pg_get_serial_sequence('usage.upstream', 'upstream_id'), coalesce(max(upstream_id), 0) + 1, false)
FROM usage.upstream;
SELECT setval(pg_get_serial_sequence('usage.channel', 'channel_id'), coalesce(max(channel_id), 0) + 1, false)
FROM usage.channel;
SELECT setval(pg_get_serial_sequence('usage.credential', 'credential_id'), coalesce(max(credential_id), 0) + 1, false)
FROM usage.credential;
SELECT setval(pg_get_serial_sequence('usage.client_key', 'client_key_id'), coalesce(max(client_key_id), 0) + 1, false)
FROM usage.client_key;
SELECT setval(pg_get_serial_sequence('usage.dimension', 'dimension_id'), coalesce(max(dimension_id), 0) + 1, false)
FROM usage.dimension;
SELECT setval(pg_get_serial_sequence('usage.origin', 'origin_id'), coalesce(max(origin_id), 0) + 1, false)
FROM usage.origin;
SELECT setval(pg_get_serial_sequence('usage.price', 'price_id'), coalesce(max(price_id), 0) + 1, false)
FROM usage.price;
