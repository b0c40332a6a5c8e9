-- letters_missed
with missed as (
    select d.id, d.settled_at is null as is_open, d.gone,
           d.missed_at < now() - $5::float8 * interval '1 second' as is_certain
    from dead_letters d
    where d.kind = $1 and d.copies > 0
      and d.noted_at < now() - ($4::float8 + $5) * interval '1 second'
      and exists (select from unnest($2::text[]) i(id) where i.id = d.id) <> $3
    -- The order in which all statements lock letters.
    order by d.id for no key update of d
)
update dead_letters d
set missed_at = case when m.is_certain then null else coalesce(d.missed_at, now()) end,
    gone = case when m.is_certain then '{}' else d.gone end,
    -- An open letter may miss only an earlier message.
    copies = case when not coalesce(m.is_certain, false) then d.copies
                  when m.is_open and m.gone <> '{}' then greatest(d.copies - 1, 1)
                  else 0 end,
    settled_at = case when m.is_certain and m.is_open and m.gone = '{}' then now()
                      else d.settled_at end,
    settled_as = case when m.is_certain and m.is_open and m.gone = '{}' then 'taken'
                      else d.settled_as end
from missed m where d.id = m.id
