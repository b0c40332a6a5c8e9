//! What a delivery holds while it is attempted: its job, which is not acknowledged, and a slot among the
//! attempts that are under way.
//!
//! A POST that takes longer than usual lets go of both ([`crate::release`]), so that a host that begins
//! to hang fills neither the slots nor what the broker hands to a worker at a time.

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::error::WorkerError;

/// A job that may not be acknowledged yet. Each of its deliveries has a clone.
#[derive(Clone)]
pub(crate) struct JobHold(mpsc::Sender<WorkerError>);

/// The end of a job.
pub(crate) struct JobEnd(mpsc::Receiver<WorkerError>);

impl JobHold {
    /// A hold on a job, and what waits until nothing holds the job any more.
    pub(crate) fn new() -> (Self, JobEnd) {
        let (hold, end) = mpsc::channel(1);
        (Self(hold), JobEnd(end))
    }

    /// Lets the job come again, because of this error.
    pub(crate) fn fail(self, error: WorkerError) {
        // One reason is enough.
        let _ = self.0.try_send(error);
    }
}

impl JobEnd {
    /// Waits until nothing holds the job any more.
    ///
    /// # Errors
    ///
    /// Something was not done; the job is to come again.
    pub(crate) async fn wait(mut self) -> Result<(), WorkerError> {
        let Some(error) = self.0.recv().await else { return Ok(()) };
        while self.0.recv().await.is_some() {}
        Err(error)
    }
}

/// What one delivery holds.
pub(crate) struct Hold {
    job: Option<JobHold>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Hold {
    /// A hold on a job, and on a slot if there is one for it.
    pub(crate) fn new(job: JobHold, slot: Option<OwnedSemaphorePermit>) -> Self {
        Self { job: Some(job), slot }
    }

    /// The delivery needs no slot any more.
    pub(crate) fn free_slot(&mut self) {
        self.slot = None;
    }

    /// The delivery needs its job no more: if the worker dies, the ledger brings it back.
    pub(crate) fn release_job(&mut self) {
        self.job = None;
    }

    /// The delivery is over, and what follows from it is published, or was not.
    pub(crate) fn end(self, result: Result<(), WorkerError>) {
        match (result, self.job) {
            (Ok(()), _) => {}
            (Err(error), Some(job)) => job.fail(error),
            (Err(error), None) => {
                let error = fanfare_core::chain::chain(&error);
                tracing::info!(error, "what follows from a slow attempt is left to the ledger");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;

    #[tokio::test]
    async fn a_job_ends_when_none_of_its_deliveries_holds_it() {
        let (job, end) = JobHold::new();
        let mut holds = [Hold::new(job.clone(), None), Hold::new(job, None)];
        let end = end.wait();
        tokio::pin!(end);
        holds[0].release_job();
        assert!(poll!(&mut end).is_pending());
        let [released, other] = holds;
        other.end(Ok(()));
        assert!(end.await.is_ok());
        released.end(Ok(()));
    }

    #[tokio::test]
    async fn a_job_of_which_one_delivery_failed_comes_again_when_the_others_are_over() {
        let (job, end) = JobHold::new();
        let (one, other) = (Hold::new(job.clone(), None), Hold::new(job, None));
        one.end(Err(WorkerError::Stopping));
        let end = end.wait();
        tokio::pin!(end);
        assert!(poll!(&mut end).is_pending());
        other.end(Ok(()));
        assert!(end.await.is_err());
    }
}
