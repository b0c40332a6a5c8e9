-- Who is signed in. The tokens themselves are known to their holders only.
create table sessions (
    token_digest bytea       primary key, -- SHA-256 of the access token
    account_key  text        not null references accounts (name_key) on delete cascade,
    created_at   timestamptz not null,
    expires_at   timestamptz not null     -- holds no more from here on; swept soon after
);
create index sessions_account on sessions (account_key);
create index sessions_expired on sessions (expires_at);
