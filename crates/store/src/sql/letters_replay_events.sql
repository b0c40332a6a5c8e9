-- letters_replay_events
with replayed as (
    select id, properties, body from kept_messages
    where id = any($1) and settled_at is null and kind = 'dead' and return_at is null
    order by id for update
), noted as (
    update kept_messages k
    set return_at = now() + $2::float8 * interval '1 second', returns = 0
    from replayed r where k.id = r.id
)
select id, properties, body from replayed order by id
