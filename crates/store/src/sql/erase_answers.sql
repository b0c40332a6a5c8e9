-- erase_answers
with chosen as materialized (
    select a.batch, a.webhook, a.entry, a.received_at, a.since from attempts a
    where a.webhook = $1 and (a.since, a.batch, a.entry) > ($2, $3, $4)
      and (a.response_body is not null or a.error is not null or a.trace ? 'headers')
    order by a.since, a.batch, a.entry limit $5
), erased as (
    update attempts a
    set response_body = null, error = null, trace = a.trace - 'headers' - 'more_headers',
        payload_removed = 'erased'
    from chosen c
    where a.batch = c.batch and a.webhook = c.webhook and a.entry = c.entry
      and a.received_at = c.received_at
    returning 1
)
select c.since, c.batch, c.entry from chosen c order by c.since, c.batch, c.entry
