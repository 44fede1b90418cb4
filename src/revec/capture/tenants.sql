-- name: read_only
-- For this transaction: it may look and nothing else, and not for long.
SELECT set_config('statement_timeout', %(timeout)s, true) AS timeout,
       set_config('transaction_read_only', 'on', true) AS read_only;
