//! Local accounts: who may sign in, with which password.

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use fanfare_core::name::Name;

use crate::error::StoreError;
use crate::pool::Store;

impl Store {
    /// Adds an account, or gives an existing one this password and role. Returns whether it is new.
    pub async fn account_put(
        &self,
        name: &Name,
        password: &str,
        administrator: bool,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "-- account_put
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
}

/// Hashes with argon2id and a random salt, at the library's parameters (19 MiB, 2 passes, OWASP's
/// first choice).
fn hash_password(password: &str) -> Result<String, StoreError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| StoreError::Password(error.to_string()))
}
