//! Statements end with the requests that they are for.
//!
//! A future that is dropped while it waits for the database leaves a statement that goes on there,
//! and a connection that serves nobody until it ends. [`cancel_on_drop`] marks a future whose
//! connections are then abandoned: the database is asked to end the statement, and the connection
//! does not serve anybody again.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use deadpool::managed;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::connect::{Connector, Pooled};

/// Requests to end a statement that are under way at a time. Each is a connection to the database;
/// beyond them connections are closed without one.
const MAX_CANCELLING: usize = 16;

static CANCELLING: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(MAX_CANCELLING)));

thread_local! {
    /// Whether a future of [`cancel_on_drop`] is being dropped on this thread before its end.
    static IS_CANCELLED: Cell<bool> = const { Cell::new(false) };
}

/// A future whose statements end when it is dropped before its end.
#[must_use = "futures do nothing unless polled"]
pub struct CancelOnDrop<F>(Option<Pin<Box<F>>>);

/// Has the database end a statement that `future` waits for when it is dropped. What it spawned is
/// not affected.
pub fn cancel_on_drop<F: Future>(future: F) -> CancelOnDrop<F> {
    CancelOnDrop(Some(Box::pin(future)))
}

impl<F: Future> Future for CancelOnDrop<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.0 else {
            // It has ended; nobody polls a future after its end.
            return Poll::Pending;
        };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<F> Drop for CancelOnDrop<F> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take() {
            let before = IS_CANCELLED.replace(true);
            drop(future);
            IS_CANCELLED.set(before);
        }
    }
}

/// A connection from the pool.
pub(crate) struct Object {
    pooled: managed::Object<Connector>,
    connector: Connector,
}

impl Object {
    pub(crate) fn new(pooled: managed::Object<Connector>, connector: Connector) -> Self {
        Self { pooled, connector }
    }
}

impl Deref for Object {
    type Target = Pooled;

    fn deref(&self) -> &Pooled {
        &self.pooled
    }
}

impl DerefMut for Object {
    fn deref_mut(&mut self) -> &mut Pooled {
        &mut self.pooled
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if !IS_CANCELLED.get() {
            return;
        }
        self.pooled.abandon();
        let (Ok(runtime), Ok(permit)) =
            (Handle::try_current(), Arc::clone(&CANCELLING).try_acquire_owned())
        else {
            return;
        };
        let (connector, token) = (self.connector.clone(), self.pooled.cancel_token());
        runtime.spawn(async move {
            if let Err(error) = connector.cancel(&token).await {
                tracing::debug!(error, "failed to cancel a statement that nobody waits for");
            }
            drop(permit);
        });
    }
}
