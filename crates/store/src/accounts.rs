//! Local accounts: who may sign in, with which password.

use argon2::Argon2;
use argon2::password_hash::{self, PasswordHasher as _, PasswordVerifier as _};
use fanfare_core::name::Name;

use crate::error::StoreError;
use crate::pool::Store;

/// A hash that no password is known for, at the parameters of all others: checking against it
/// takes as long as checking the password of an account that exists.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA\
                      $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

impl Store {
    /// Adds an account, or gives an existing one this password and role, which ends its sessions.
    /// Returns whether it is new.
    pub async fn account_put(
        &self,
        name: &Name,
        password: &str,
        administrator: bool,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- account_put
            with ended as (delete from sessions where account_key = $1)
            insert into accounts (name_key, name, password_hash, administrator)
            values ($1, $2, $3, $4)
            on conflict (name_key) do update
                set name = excluded.name, password_hash = excluded.password_hash,
                    administrator = excluded.administrator
            returning (xmax = 0)";
        let password = password.to_owned();
        // Hashing takes tens of milliseconds of pure work by design.
        let hash = tokio::task::spawn_blocking(move || hash_password(&password))
            .await
            .map_err(|error| StoreError::Password(error.to_string()))??;
        let client = self.client().await?;
        client
            .query_one(SQL, &[&name.key(), &name.as_str(), &hash, &administrator])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(StoreError::at("save the account"))
    }

    /// The hash of an account's password; `None` when there is no such account.
    pub async fn account_password(&self, name: &Name) -> Result<Option<String>, StoreError> {
        const SQL: &str = "-- account_password
            select password_hash from accounts where name_key = $1";
        let client = self.client().await?;
        client
            .query_opt(SQL, &[&name.key()])
            .await
            .and_then(|row| row.map(|row| row.try_get(0)).transpose())
            .map_err(StoreError::at("look up the account"))
    }
}

/// Whether this is the password that was hashed. Without a hash it is not, and finding that out
/// takes as long.
///
/// This is tens of milliseconds of pure work and 19 MiB of memory: not for an async task, and not
/// for any number of threads at a time.
pub fn verify_password(password: &str, hash: Option<&str>) -> Result<bool, StoreError> {
    match Argon2::default().verify_password(password.as_bytes(), hash.unwrap_or(NOBODY)) {
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
    fn only_the_password_that_was_hashed_is_right() {
        let hash = hash_password("right").unwrap();
        assert!(verify_password("right", Some(&hash)).unwrap());
        assert!(!verify_password("wrong", Some(&hash)).unwrap());
        assert!(verify_password("right", Some("nonsense")).is_err());
    }

    #[test]
    fn nobody_s_hash_costs_what_others_cost() {
        let hash = hash_password("any").unwrap();
        let parameters = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(parameters(NOBODY), parameters(&hash));
        assert!(!verify_password("any", None).unwrap());
    }
}
