-- erase_answers_of
update attempts a
set response_body = null, error = null, trace = a.trace - 'headers' - 'more_headers',
    payload_removed = 'erased'
from (select distinct * from unnest($1::uuid[], $2::timestamptz[]) t(batch, received_at)) t
where a.batch = t.batch and a.received_at = t.received_at and a.received_at between $3 and $4
  and (a.response_body is not null or a.error is not null or a.trace ? 'headers'
       or a.payload_removed = 'age')
