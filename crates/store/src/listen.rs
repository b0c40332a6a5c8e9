//! Hearing of changes to webhooks.

use std::future::poll_fn;

use fanfare_core::ids::WebhookId;
use tokio_postgres::AsyncMessage;

use crate::error::StoreError;
use crate::pool::Store;

impl Store {
    /// Calls `on_ready` once it hears every change from then on, and `on_change` for each webhook
    /// that changes. Ends only with the connection.
    pub async fn listen_webhooks(
        &self,
        on_ready: impl FnOnce(),
        mut on_change: impl FnMut(WebhookId),
    ) -> Result<(), StoreError> {
        let doing = "listen for changes to webhooks";
        let opened = self.connector.open().await;
        let (client, mut connection) =
            opened.map_err(|unreachable| StoreError::Connect(Box::new(unreachable)))?;
        let messages = async {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) =
                    message.map_err(StoreError::at(doing))?
                    && let Ok(id) = notification.payload().parse()
                {
                    on_change(id);
                }
            }
            Ok(())
        };
        let listen = async {
            client.batch_execute("listen fanfare_webhooks").await.map_err(StoreError::at(doing))?;
            on_ready();
            // Keeps the client alive, without which the connection would end.
            std::future::pending::<Result<(), StoreError>>().await
        };
        tokio::select! {
            ended = messages => ended,
            failed = listen => failed,
        }
    }
}
