//! Test events, which the service makes itself, each for one webhook.

use chrono::{DateTime, Utc};
use fanfare_core::access::administrator_key;
use fanfare_core::event::Event;
use fanfare_core::explain::OwnerState;
use fanfare_core::ids::{BatchKey, WebhookId};
use fanfare_core::job::AttemptRef;
use fanfare_core::name::Name;
use fanfare_core::test_event::Readable;

use crate::access::{READABLE_SCOPES, owner_state, permission};
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// The state of a user, and the scopes that the user may read, as of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadableScopes {
    pub state: OwnerState,
    /// One target of each scope that the user may read.
    pub readable: Readable,
    /// The directory revision by which this is true.
    pub revision: i64,
}

impl Store {
    /// Reads the scopes that a user may read now.
    pub async fn readable_scopes(&self, user: &Name) -> Result<ReadableScopes, StoreError> {
        let client = self.connection("look up what a user may read").await?;
        let rows = client.query(READABLE_SCOPES, &[&user.key(), &administrator_key()]).await?;
        let first = rows
            .first()
            .ok_or(StoreError::Inconsistent { table: "directory_state", column: "singleton" })?;
        let readable = if first.column("administrator")? {
            Readable::Everything
        } else {
            let grants = rows.iter().filter_map(|row| permission(row).transpose());
            Readable::Through(grants.collect::<Result<_, _>>()?)
        };
        Ok(ReadableScopes {
            state: owner_state(first)?,
            readable,
            revision: first.column("revision")?,
        })
    }

    /// Stores a test event in the ledger, for this webhook alone, as decided by `revision`. Returns
    /// the job to publish, and the time of receipt.
    pub async fn test_event_add(
        &self,
        event: &Event,
        webhook: WebhookId,
        revision: i64,
    ) -> Result<(AttemptRef, DateTime<Utc>), StoreError> {
        const SQL: &str = "-- test_event_add
            with noted as (
                insert into event_keys (week, key, batch, received_at)
                values (date_trunc('week', now(), 'UTC'), $1, $1, now())
            )
            insert into events (key, batch, position, source, event_id, event_type, subject,
                                access_revision, decided_revision, notification, webhooks, look_at,
                                first_pending)
            values ($1, $1, 0, $2, $3, $4, $5, $6, $6, $7, array[$8::uuid],
                    now() + interval '20 seconds', false)
            returning received_at";
        let client = self.connection("store a test event").await?;
        let row = client
            .query_one(
                SQL,
                &[
                    /* key */ &event.key.0,
                    /* source */ &event.source,
                    /* event_id */ &event.id,
                    /* event_type */ &event.event_type,
                    /* subject */ &event.resource.to_string(),
                    /* revision */ &revision,
                    /* notification */ &event.notification,
                    /* webhook */ &webhook.0,
                ],
            )
            .await?;
        let received_at = row.column("received_at")?;
        Ok((AttemptRef::first(BatchKey::single(event.key), webhook, received_at), received_at))
    }
}
