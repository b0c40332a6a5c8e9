//! Cancellation of a statement when the request that needs it is dropped.
//!
//! A future that is dropped while it waits for the database leaves a statement that goes on there,
//! and a connection that can't be used until it ends. When a future of [`cancel_on_drop`] is
//! dropped, the database is asked to end the statement, and the pool closes the connection.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use deadpool::managed;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::connect::{Connector, Pooled};

/// The most requests to end a statement at a time. Each is a connection to the database. Beyond
/// this number connections are closed without such a request.
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

/// Has the database end the statement that `future` waits for when it is dropped. Tasks that it
/// spawned are not affected.
pub fn cancel_on_drop<F: Future>(future: F) -> CancelOnDrop<F> {
    CancelOnDrop(Some(Box::pin(future)))
}

impl<F: Future> Future for CancelOnDrop<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.0 else {
            // The future has ended, and must not be polled again.
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
                tracing::debug!(error, "failed to cancel a statement whose request was dropped");
            }
            drop(permit);
        });
    }
}
