-- operation_undo
with wanted as (
    select l.position, l.letter, l.batch, l.webhook, l.entry
    from operation_letters l
    -- Its row is still there, and is its last one.
    cross join lateral (select a.entry from attempts a
                        where a.batch = l.batch and a.webhook = l.webhook
                          and a.received_at = l.received_at
                        order by a.entry desc limit 1) a
    where l.operation = $1 and l.state = 'discarded' and l.batch is not null and a.entry = l.entry
), undecided as (
    delete from discards d using wanted w
    where d.batch = w.batch and d.webhook = w.webhook and d.entry = w.entry
    returning w.position, w.letter
), opened as (
    update dead_letters d set settled_at = null, settled_as = null, noted_at = now()
    from undecided u where d.id = u.letter and d.settled_as = 'discarded'
    returning u.position
), noted as (
    update operation_letters l set state = 'restored'
    from opened o where l.operation = $1 and l.position = o.position
    returning l.position
)
select count(*) as restored from noted
