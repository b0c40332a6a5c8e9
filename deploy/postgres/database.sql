-- Makes the database that this is run in Fanfare's own: its owner makes the tables, the other roles
-- may connect, and no other role may. A superuser runs it after roles.sql.

do $$
begin
    execute format('alter database %I owner to fanfare_migrate', current_database());
    -- What every role of the cluster may do by default: connect, and make temporary tables.
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to fanfare_router, fanfare_worker, '
                   'fanfare_console, fanfare_admin', current_database());
end $$;

revoke create on schema public from public;
