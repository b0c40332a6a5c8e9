//! Local accounts and their passwords.

use argon2::Argon2;
use argon2::password_hash::{self, PasswordHasher as _, PasswordVerifier as _};
use chrono::{DateTime, Utc};
use fanfare_core::audit::entry::AccountState;
use fanfare_core::audit::{Author, Entry};
use fanfare_core::name::Name;
use tokio_postgres::Row;

use crate::audit;
use crate::connection::Transaction;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// A hash whose password is not known, with the parameters of all others. A check against it takes
/// as long as the check for an account that exists.
const UNKNOWN_ACCOUNT_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA\
                      $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The data by which a sign-in to an account is checked.
#[derive(Clone)]
pub struct Credentials {
    pub password_hash: String,
    /// Whether the account is a System Administrator's.
    pub administrator: bool,
}

/// A local account as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name as it was given.
    pub name: String,
    /// Whether the account is a System Administrator's.
    pub administrator: bool,
    pub created_at: DateTime<Utc>,
    /// The time since which it is disabled, and the reason; `None` when it is enabled.
    pub disabled: Option<(DateTime<Utc>, Option<String>)>,
    /// The number of its sessions that have not expired.
    pub sessions: i64,
}

impl Store {
    /// Adds an account. An existing one gets this password and role, is enabled, and its sessions
    /// end. Returns whether the account is new.
    pub async fn account_put(
        &self,
        name: &Name,
        password: &str,
        administrator: bool,
        author: &Author,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- account_put
            with ended as (delete from sessions where account_key = $1)
            insert into accounts (name_key, name, password_hash, administrator)
            values ($1, $2, $3, $4)
            on conflict (name_key) do update
                set name = excluded.name, password_hash = excluded.password_hash,
                    administrator = excluded.administrator, disabled_at = null,
                    disabled_reason = null, generation = accounts.generation + 1
            returning xmax = 0 as is_new";
        let hash = hashed(password).await?;
        let mut client = self.connection("save the account").await?;
        let transaction = client.transaction().await?;
        let before = state(&transaction, name).await?;
        let row = transaction
            .query_one(SQL, &[&name.key(), &name.as_str(), &hash, &administrator])
            .await?;
        let is_new = before.is_none() && row.column("is_new")?;
        let after = AccountState { administrator, disabled: false };
        let entry = if is_new {
            Entry::account_created(name, administrator)
        } else {
            // Another process may have added the account since it was looked for.
            Entry::account_replaced(name, before.unwrap_or(after), after)
        };
        audit::add(&transaction, author, &[entry]).await?;
        transaction.commit().await?;
        Ok(is_new)
    }

    /// Changes an account's password, and ends its sessions. Returns whether there is such an
    /// account.
    pub async fn account_set_password(
        &self,
        name: &Name,
        password: &str,
        author: &Author,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- account_set_password
            with ended as (delete from sessions where account_key = $1)
            update accounts set password_hash = $2, generation = generation + 1
            where name_key = $1";
        let hash = hashed(password).await?;
        let mut client = self.connection("change the account's password").await?;
        let transaction = client.transaction().await?;
        if transaction.execute(SQL, &[&name.key(), &hash]).await? == 0 {
            return Ok(false);
        }
        audit::add(&transaction, author, &[Entry::account_password_changed(name)]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Disables an account, and ends its sessions. An account that is disabled already keeps its
    /// first reason. Returns whether there is such an account.
    pub async fn account_disable(
        &self,
        name: &Name,
        reason: &str,
        author: &Author,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- account_disable
            with ended as (delete from sessions where account_key = $1)
            update accounts a
            set disabled_reason = case when o.enabled then $2 else a.disabled_reason end,
                disabled_at = coalesce(a.disabled_at, now()), generation = a.generation + 1
            from (select name_key, disabled_at is null as enabled from accounts
                  where name_key = $1 for update) o
            where a.name_key = o.name_key
            returning o.enabled";
        let mut client = self.connection("disable the account").await?;
        let transaction = client.transaction().await?;
        let Some(row) = transaction.query_opt(SQL, &[&name.key(), &reason]).await? else {
            return Ok(false);
        };
        if row.column("enabled")? {
            let entry = Entry::account_disabled(name, reason);
            audit::add(&transaction, author, &[entry]).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Enables an account again. Its earlier sessions stay ended. Returns whether there is such an
    /// account.
    pub async fn account_enable(&self, name: &Name, author: &Author) -> Result<bool, StoreError> {
        const READ: &str = "-- account_enable
            select disabled_at is not null as disabled, disabled_reason from accounts
            where name_key = $1 for update";
        const SQL: &str = "-- account_enable
            update accounts
            set disabled_at = null, disabled_reason = null, generation = generation + 1
            where name_key = $1";
        let mut client = self.connection("enable the account").await?;
        let transaction = client.transaction().await?;
        let Some(row) = transaction.query_opt(READ, &[&name.key()]).await? else {
            return Ok(false);
        };
        transaction.execute(SQL, &[&name.key()]).await?;
        if row.column("disabled")? {
            let reason: Option<&str> = row.column("disabled_reason")?;
            let entry = Entry::account_enabled(name, reason);
            audit::add(&transaction, author, &[entry]).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes an account with its sessions. Returns whether there was such an account.
    pub async fn account_remove(&self, name: &Name, author: &Author) -> Result<bool, StoreError> {
        const SQL: &str = "-- account_remove\ndelete from accounts where name_key = $1";
        let mut client = self.connection("remove the account").await?;
        let transaction = client.transaction().await?;
        let Some(before) = state(&transaction, name).await? else {
            return Ok(false);
        };
        transaction.execute(SQL, &[&name.key()]).await?;
        audit::add(&transaction, author, &[Entry::account_removed(name, before)]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Lists all accounts by name.
    pub async fn accounts_list(&self) -> Result<Vec<Account>, StoreError> {
        const SQL: &str = "-- accounts_list
            select a.name, a.administrator, a.created_at, a.disabled_at, a.disabled_reason,
                   (select count(*) from sessions s
                    where s.account_key = a.name_key and s.expires_at > now()
                      and s.account_generation = a.generation) as sessions
            from accounts a order by a.name_key";
        let client = self.connection("list the accounts").await?;
        let rows = client.query(SQL, &[]).await?;
        rows.iter().map(account).collect()
    }

    /// Reads the credentials of an account; `None` when there is no such account or it is disabled.
    pub async fn account_credentials(
        &self,
        name: &Name,
    ) -> Result<Option<Credentials>, StoreError> {
        const SQL: &str = "-- account_credentials
            select password_hash, administrator from accounts
            where name_key = $1 and disabled_at is null";
        let client = self.connection("look up the account").await?;
        let row = client.query_opt(SQL, &[&name.key()]).await?;
        let read = |row: Row| {
            Ok(Credentials {
                password_hash: row.column("password_hash")?,
                administrator: row.column("administrator")?,
            })
        };
        row.map(read).transpose()
    }
}

/// The state of an account, whose row is locked until the transaction ends; `None` when there is
/// none.
async fn state(
    transaction: &Transaction<'_>,
    name: &Name,
) -> Result<Option<AccountState>, StoreError> {
    const SQL: &str = "-- account_state
        select administrator, disabled_at is not null as disabled from accounts
        where name_key = $1 for update";
    let row = transaction.query_opt(SQL, &[&name.key()]).await?;
    let read = |row: Row| {
        let (administrator, disabled) = (row.column("administrator")?, row.column("disabled")?);
        Ok(AccountState { administrator, disabled })
    };
    row.map(read).transpose()
}

fn account(row: &Row) -> Result<Account, StoreError> {
    let disabled_at: Option<DateTime<Utc>> = row.column("disabled_at")?;
    let reason: Option<String> = row.column("disabled_reason")?;
    Ok(Account {
        name: row.column("name")?,
        administrator: row.column("administrator")?,
        created_at: row.column("created_at")?,
        disabled: disabled_at.map(|at| (at, reason)),
        sessions: row.column("sessions")?,
    })
}

/// Hashes a password outside of the async threads, because it takes tens of milliseconds by design.
async fn hashed(password: &str) -> Result<String, StoreError> {
    let password = password.to_owned();
    tokio::task::spawn_blocking(move || hash_password(&password))
        .await
        .map_err(|error| StoreError::Password(error.to_string()))?
}

/// Checks a password against a hash. Without a hash the answer is `false`, after the same time.
///
/// The check needs tens of milliseconds of computing and 19 MiB of memory. It must not run on an
/// async thread, and the number of checks at a time must be limited.
pub fn verify_password(password: &str, hash: Option<&str>) -> Result<bool, StoreError> {
    match Argon2::default()
        .verify_password(password.as_bytes(), hash.unwrap_or(UNKNOWN_ACCOUNT_HASH))
    {
        Ok(()) => Ok(hash.is_some()),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(StoreError::Password(error.to_string())),
    }
}

/// Hashes with argon2id and a random salt, at the library's parameters (19 MiB, 2 passes, OWASP's
/// first choice).
fn hash_password(password: &str) -> Result<String, StoreError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| StoreError::Password(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verify_password_accepts_only_the_password_that_was_hashed() {
        let hash = hash_password("right").unwrap();
        assert!(verify_password("right", Some(&hash)).unwrap());
        assert!(!verify_password("wrong", Some(&hash)).unwrap());
        assert!(verify_password("right", Some("nonsense")).is_err());
    }

    #[test]
    fn verify_password_without_a_hash_costs_as_much_and_is_false() {
        let hash = hash_password("any").unwrap();
        let parameters = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(parameters(UNKNOWN_ACCOUNT_HASH), parameters(&hash));
        assert!(!verify_password("any", None).unwrap());
    }
}
