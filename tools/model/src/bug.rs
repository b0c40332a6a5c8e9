//! Mistakes that a test puts into the model.

/// A mistake that is put into the model on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bug {
    /// None.
    #[default]
    None,
    /// The job is acknowledged when it is taken.
    AckBeforeRecord,
    /// The follow-up is published and the job acknowledged, and then the row is written.
    RecordAfterAck,
    /// The event is acknowledged when it is taken, before its plan.
    EventAckBeforePlan,
    /// The job is acknowledged after the row, before what follows is published.
    AckBeforeFollowUp,
    /// What follows from a row is published twice.
    FollowUpTwice,
    /// Retries take no lease.
    RetryWithoutLease,
    /// The lease ends with the answer, before the row.
    LeaseGivenBack,
    /// Rechecks go through a queue of their own, so they may overtake the job.
    RecheckOvertakes,
    /// A recheck is attempted though a worker that lives may have the first attempt under way.
    RecheckWithoutAnswers,
    /// Retries are judged by the plan.
    RetryByPlan,
    /// A slow attempt acknowledges its job though a dead letter may follow, which the ledger does not
    /// bring back.
    LastIsReleased,
    /// A worker sends whatever happened since it looked.
    LateSend,
    /// Nothing looks for lost jobs.
    NoReconciler,
    /// A lease is void as soon as the database session of its holder has ended, without a grace in which
    /// a holder that lives begins another one.
    LeaseVoidWithoutGrace,
    /// The job that takes the place of a redelivered one does not say so.
    DeferralForgetsDoubt,
}
