-- Sessions of people whom an identity provider vouched for. They have no account here: what the
-- provider said of them stands in their session. All of these are null for a session of an account.
alter table sessions alter column account_key drop not null;
alter table sessions
    add column issuer        text,    -- the provider; with another one configured the session holds no more
    add column user_key      text,    -- the user's folded name
    add column user_name     text,    -- the user's name as the provider wrote it
    add column administrator boolean, -- whether the provider said so; the directory may say so too
    add constraint sessions_are_of_somebody check (
        (account_key is null) = (issuer is not null)
        and (issuer is null) = (user_key is null)
        and (issuer is null) = (user_name is null)
        and (issuer is null) = (administrator is null));
