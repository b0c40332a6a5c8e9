-- letters_found
insert into dead_letters as d (id, kind, source, webhook, owner, owner_key, event_type, event_id,
                               reason, detail, cause, status, attempts, died_at)
select distinct on (n.id) n.id, n.kind, 'broker', n.webhook, nullif(n.owner, ''),
       nullif(n.owner_key, ''), nullif(n.event_type, ''), nullif(n.event_id, ''), n.reason, n.detail,
       coalesce(error_cause(nullif(n.detail, '')), n.reason), n.status, n.attempts, n.died_at
from jsonb_to_recordset($1) as n(id text, kind text, webhook uuid, owner text, owner_key text,
                                 event_type text, event_id text, reason text, detail text,
                                 status integer, attempts integer, died_at timestamptz)
-- A row that stays as it is, is not locked.
where not exists (select from dead_letters k
                  where k.id = n.id
                    and (k.settled_at is null
                         or (k.source = 'ledger' and k.settled_as is distinct from 'taken')))
-- The order in which all statements lock letters.
order by n.id
on conflict (id) do update
set settled_at = null, settled_as = null, missed_at = null, noted_at = now(),
    copies = greatest(d.copies, 1)
where d.settled_at is not null and (d.source = 'broker' or d.settled_as = 'taken')
