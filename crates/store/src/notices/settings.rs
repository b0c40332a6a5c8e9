//! The channels that owners chose for notices about their own webhooks. The secret that signs is
//! sealed, and bound to the row's id.

use std::collections::HashMap;

use fanfare_core::audit::Author;
use fanfare_core::audit::webhook::notice_settings_changed;
use fanfare_core::ids::WebhookId;
use fanfare_core::mail_address::MailAddress;
use fanfare_core::name::Name;
use fanfare_core::notice::{Kind, OwnerChannels, OwnerWebhook};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::audit;
use crate::error::StoreError;
use crate::keyring::Keyring;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Values;

impl Store {
    /// Reads the channels that these owners chose, by the owners' folded names. Owners who chose none
    /// are left out.
    pub async fn notice_settings(
        &self,
        owners: &[&str],
    ) -> Result<HashMap<String, OwnerChannels>, StoreError> {
        const SQL: &str = "-- notice_settings
            select owner_key, id, types, uri, sealed, mail from notice_settings
            where owner_key = any($1)";
        let client = self.connection("read the channels of notices").await?;
        let rows = client.query(SQL, &[&owners]).await?;
        let read = |row: &Row| Ok((row.column("owner_key")?, channels(&self.keyring, row)?));
        rows.iter().map(read).collect()
    }

    /// Replaces the channels that an owner chose. `change` gets those from before, whose row is locked
    /// meanwhile. Returns the channels as they are now.
    pub async fn notice_settings_change(
        &self,
        owner: &Name,
        author: &Author,
        change: impl FnOnce(OwnerChannels) -> OwnerChannels + Send,
    ) -> Result<OwnerChannels, StoreError> {
        const READ: &str = "-- notice_settings_change
            select id, types, uri, sealed, mail from notice_settings where owner_key = $1 for update";
        const WRITE: &str = "-- notice_settings_change
            insert into notice_settings (owner_key, owner, id, types, uri, sealed, mail)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (owner_key) do update
                set owner = excluded.owner, id = excluded.id, types = excluded.types,
                    uri = excluded.uri, sealed = excluded.sealed, mail = excluded.mail,
                    changed_at = now()";
        let mut client = self.connection("change the channels of notices").await?;
        let transaction = client.transaction().await?;
        let row = transaction.query_opt(READ, &[&owner.key()]).await?;
        let (id, before) = match &row {
            Some(row) => (row.column("id")?, channels(&self.keyring, row)?),
            None => (Uuid::now_v7(), OwnerChannels::default()),
        };
        let after = change(before.clone());
        let codes: Vec<&str> = after.kinds.iter().map(|kind| kind.code()).collect();
        let sealed = match &after.webhook {
            Some(webhook) => {
                self.keyring.seal(webhook.secret.reveal().as_bytes(), id.as_bytes())?
            }
            None => Vec::new(),
        };
        let values: Values<'_> = &[
            /* owner_key */ &owner.key(),
            /* owner */ &owner.as_str(),
            /* id */ &id,
            /* types */ &codes,
            /* uri */ &after.webhook.as_ref().map(|webhook| webhook.uri.as_str()),
            /* sealed */ &sealed,
            /* mail */ &after.mail.as_ref().map(MailAddress::as_str),
        ];
        transaction.execute(WRITE, values).await?;
        let entry = notice_settings_changed(WebhookId(id), owner, &before, &after);
        audit::add(&transaction, author, entry.as_slice()).await?;
        transaction.commit().await?;
        Ok(after)
    }
}

fn channels(keyring: &Keyring, row: &Row) -> Result<OwnerChannels, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "notice_settings", column };
    let id: Uuid = row.column("id")?;
    let types: Vec<String> = row.column("types")?;
    let uri: Option<&str> = row.column("uri")?;
    let mail: Option<&str> = row.column("mail")?;
    let webhook = match uri {
        None => None,
        Some(uri) => {
            let secret = keyring.open(row.column("sealed")?, id.as_bytes())?;
            let secret = String::from_utf8(secret).map_err(|_| inconsistent("sealed"))?;
            Some(OwnerWebhook {
                uri: uri.parse().map_err(|_| inconsistent("uri"))?,
                secret: secret.parse().map_err(|_| inconsistent("sealed"))?,
            })
        }
    };
    Ok(OwnerChannels {
        // A type that only a later version knows is kept out.
        kinds: Kind::for_owners().filter(|kind| types.iter().any(|it| it == kind.code())).collect(),
        webhook,
        mail: mail.map(str::parse).transpose().map_err(|_| inconsistent("mail"))?,
    })
}
