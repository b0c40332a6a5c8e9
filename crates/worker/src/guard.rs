//! The guards of a delivery while it is attempted: one keeps its job from being acknowledged, the other
//! is a permit for an attempt.
//!
//! A slow attempt gives back both ([`crate::slow_attempt`]), so that a host that begins to hang fills
//! neither the permits nor the prefetch of a worker.

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::error::WorkerError;

/// A job that may not be acknowledged yet. Each of its deliveries has a clone.
#[derive(Clone)]
pub(crate) struct JobGuard(mpsc::Sender<WorkerError>);

/// The end of a job.
pub(crate) struct JobEnd(mpsc::Receiver<WorkerError>);

impl JobGuard {
    /// A guard of a job, and the end that waits until all guards of the job are dropped.
    pub(crate) fn new() -> (Self, JobEnd) {
        let (guard, end) = mpsc::channel(1);
        (Self(guard), JobEnd(end))
    }

    /// Lets the job be requeued, because of this error.
    pub(crate) fn fail(self, error: WorkerError) {
        // The first error is enough.
        let _ = self.0.try_send(error);
    }
}

impl JobEnd {
    /// Waits until all guards of the job are dropped.
    ///
    /// # Errors
    ///
    /// A delivery failed; the job is to be requeued.
    pub(crate) async fn wait(mut self) -> Result<(), WorkerError> {
        let Some(error) = self.0.recv().await else { return Ok(()) };
        while self.0.recv().await.is_some() {}
        Err(error)
    }
}

/// The guards of one delivery.
pub(crate) struct DeliveryGuard {
    job: Option<JobGuard>,
    permit: Option<OwnedSemaphorePermit>,
}

impl DeliveryGuard {
    /// The guard of a job, and a permit if there is one for the delivery.
    pub(crate) fn new(job: JobGuard, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { job: Some(job), permit }
    }

    /// Gives back the permit.
    pub(crate) fn release_permit(&mut self) {
        self.permit = None;
    }

    /// Releases the job: if the worker dies, the reconciler publishes the delivery again.
    pub(crate) fn release_job(&mut self) {
        self.job = None;
    }

    /// Ends the delivery, whose follow-up is published unless `result` is an error.
    pub(crate) fn end(self, result: Result<(), WorkerError>) {
        match (result, self.job) {
            (Ok(()), _) => {}
            (Err(error), Some(job)) => job.fail(error),
            (Err(error), None) => {
                let error = fanfare_core::chain::chain(&error);
                tracing::info!(
                    error,
                    "failed to publish the follow-up of a slow attempt; the reconciler publishes it again"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;

    #[tokio::test]
    async fn a_job_ends_when_all_of_its_guards_are_dropped() {
        let (job, end) = JobGuard::new();
        let mut guards = [DeliveryGuard::new(job.clone(), None), DeliveryGuard::new(job, None)];
        let end = end.wait();
        tokio::pin!(end);
        guards[0].release_job();
        assert!(poll!(&mut end).is_pending());
        let [released, other] = guards;
        other.end(Ok(()));
        assert!(end.await.is_ok());
        released.end(Ok(()));
    }

    #[tokio::test]
    async fn a_job_with_a_failed_delivery_fails_when_the_others_are_over() {
        let (job, end) = JobGuard::new();
        let (one, other) = (DeliveryGuard::new(job.clone(), None), DeliveryGuard::new(job, None));
        one.end(Err(WorkerError::Stopping));
        let end = end.wait();
        tokio::pin!(end);
        assert!(poll!(&mut end).is_pending());
        other.end(Ok(()));
        assert!(end.await.is_err());
    }
}
