-- bench_scale
-- A minute counts as a day, and seven minutes as a week, in the functions that make and drop partitions and
-- remove payloads. Ages are passed to them in real days.
do $$
declare
    one record;
    text text;
begin
    for one in select p.oid, p.proname from pg_proc p
               where p.pronamespace = 'public'::regnamespace
                 and p.proname in ('make_partition', 'make_partitions', 'drop_day', 'sweep_kept',
                                   'remove_payloads') loop
        text := pg_get_functiondef(one.oid);
        text := replace(text, 'YYYYMMDD', 'YYYYMMDD_HH24MI');
        text := replace(text, 'date_trunc(''day''', 'date_trunc(''minute''');
        text := replace(text, 'interval ''24 hours''', 'interval ''1 minute''');
        text := replace(text, 'if older > now() - interval ''1 day'' then',
                        'older := now() - (now() - older) / 1440;
    if older > now() - interval ''1 minute'' then');
        execute text;
    end loop;
    -- The partitions of real days go, but for the keys of events, which are not scaled.
    for one in select name from ledger_partitions where parent <> 'event_keys' and not is_default loop
        execute format('drop table %I', one.name);
    end loop;
end $$;
select make_partitions(7)
