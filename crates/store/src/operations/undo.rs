//! Restoring what an operation discarded.

use fanfare_core::audit::{Author, Entry};
use uuid::Uuid;

use crate::audit;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

impl Store {
    /// Restores the dead deliveries that an operation discarded, as long as the operation has its letters
    /// and the ledger has the deliveries. Returns how many. Discarded events have no content any more.
    pub async fn operation_undo(&self, id: Uuid, author: &Author) -> Result<i64, StoreError> {
        const SQL: &str = include_str!("../sql/operation_undo.sql");
        let mut client = self.connection("restore what an operation discarded").await?;
        let transaction = client.transaction().await?;
        let restored = transaction.query_one(SQL, &[&id]).await?.column("restored")?;
        if restored > 0 {
            audit::add(&transaction, author, &[Entry::operation_undone(id, restored)]).await?;
        }
        transaction.commit().await?;
        Ok(restored)
    }
}
