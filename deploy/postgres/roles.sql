-- The roles that Fanfare's processes log in as. A superuser runs this once for a cluster, and then
-- database.sql in Fanfare's database, before `fanfare migrate`; a second time it changes nothing. It
-- sets no passwords: `alter role fanfare_router password '…'`, and so on.
--
--   fanfare_migrate  owns the database and makes its tables; for `fanfare migrate` alone
--   fanfare_router, fanfare_worker, fanfare_console
--                    one for each process; `fanfare migrate` gives them what grants.sql says
--   fanfare_all      for `fanfare all`, which is these three in one process; it may do what they may
--   fanfare_admin    for the commands of the people who run Fanfare: reads and changes all rows

do $$
declare
    wanted text;
begin
    foreach wanted in array array['fanfare_migrate', 'fanfare_router', 'fanfare_worker',
                                  'fanfare_console', 'fanfare_all', 'fanfare_admin']
    loop
        if not exists (select from pg_roles where rolname = wanted) then
            execute format('create role %I login nosuperuser nocreatedb nocreaterole', wanted);
        end if;
    end loop;
    grant fanfare_router, fanfare_worker, fanfare_console to fanfare_all;
end $$;
