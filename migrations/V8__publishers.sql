-- The accounts of report servers that publish over HTTP. Each has one access token, which only the
-- publisher knows.
create table publishers (
    token_digest bytea       primary key,            -- SHA-256 of the access token
    name_key     text        not null,               -- folded
    name         text        not null,               -- as written
    created_at   timestamptz not null default now(), -- the time at which it was added
    last_used_at timestamptz, -- the time at which the token was last accepted, to the minute; null before the first time
    revoked_at   timestamptz  -- the time at which the token was revoked; null while it is accepted
);
-- A revoked account keeps its row, and its name is free for another account.
create unique index publishers_name on publishers (name_key) where revoked_at is null;
