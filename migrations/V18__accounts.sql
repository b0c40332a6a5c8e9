-- Local accounts that can be disabled. Sessions hold the generation of the account that they began
-- with: what disables an account, or changes its password, ends all of its sessions by moving on to
-- the next generation, those included that begin at the same moment.
alter table accounts
    add column disabled_at     timestamptz,
    add column disabled_reason text,
    add column generation      integer not null default 1;
comment on column accounts.disabled_at is 'since when nobody may sign in with the account; null while it is enabled';
comment on column accounts.disabled_reason is 'why it is disabled, as an operator or the service says; null while it is enabled';
comment on column accounts.generation is 'grows with each new password, each disabling and each enabling';

alter table sessions add column account_generation integer;
comment on column sessions.account_generation is 'the generation of the account when the session began; null for a session of an identity provider';
update sessions set account_generation = 1 where account_key is not null;
