-- bench_sizes
with part as (
    select p.parent, c.oid from ledger_partitions p join pg_class c on c.oid = to_regclass(p.name)
), ledger as (
    select coalesce(sum(pg_table_size(oid)) filter (where parent = 'events'), 0) as events,
           coalesce(sum(pg_table_size(oid)) filter (where parent = 'attempts'), 0) as attempts,
           coalesce(sum(pg_indexes_size(oid)) filter (where parent <> 'event_keys'), 0) as indexes,
           coalesce(sum(pg_total_relation_size(oid)) filter (where parent = 'event_keys'), 0) as keys
    from part
), others as (
    select sum(pg_total_relation_size(c.oid)) as bytes from pg_class c
    where c.relkind in ('r', 'm') and c.relnamespace in ('public'::regnamespace, 'pg_catalog'::regnamespace)
      and not exists (select from part where part.oid = c.oid)
)
select events / 1048576.0, attempts / 1048576.0, indexes / 1048576.0, bytes / 1048576.0, keys / 1048576.0
from ledger, others
