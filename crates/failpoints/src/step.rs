//! The list of all steps.

/// Declares [`Step`] with the names of its values.
macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal $(refines $action:literal)?,)*) => {
        /// A step of the protocol: a durable action has been done, and the next one has not begun.
        ///
        /// A step that the model of the protocol has is called as the model's action. A step that is
        /// finer than the model names the action that it is a part of.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        impl Step {
            /// All steps.
            pub const ALL: &'static [Self] = &[$(Self::$step),*];

            /// The name of the failpoint.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)*
                }
            }

            /// The model's action that this step is a part of; `None` if the step is an action itself,
            /// or outside of the model.
            #[must_use]
            pub fn refines(self) -> Option<&'static str> {
                let action: &[&'static str] = match self {
                    $(Self::$step => &[$($action)?],)*
                };
                action.first().copied()
            }
        }
    };
}

steps! {
    /// A router has received events.
    RouterTakes = "router-takes",
    /// A router has applied the directory documents that came with events.
    RouterAppliesDocuments = "router-applies-documents" refines "Revoked",
    /// A router has committed the plans of events, or found them.
    RouterPlans = "router-plans",
    /// The jobs of a router are confirmed.
    RouterPublishes = "router-publishes",
    /// A router has written the rows of dead letters and held messages.
    RouterRecordsKept = "router-records-kept" refines "RouterPublishes",
    /// The dead letters and held messages of a router are confirmed.
    RouterKeeps = "router-keeps" refines "RouterPublishes",
    /// A router has acknowledged events whose jobs are confirmed.
    RouterAcknowledges = "router-acknowledges",
    /// A router has acknowledged messages whose dead letters or held messages are confirmed.
    RouterAcknowledgesKept = "router-acknowledges-kept" refines "RouterAcknowledges",

    /// A router has received directory documents.
    DirectoryTakes = "directory-takes" refines "Revoked",
    /// A router has applied directory documents.
    DirectoryApplies = "directory-applies" refines "Revoked",
    /// The dead letters of refused documents are confirmed.
    DirectoryPublishes = "directory-publishes" refines "Revoked",
    /// A router has acknowledged directory documents.
    DirectoryAcknowledges = "directory-acknowledges" refines "Revoked",

    /// The reconciler has leased what it found.
    ReconcilerLeases = "reconciler-leases" refines "Reconciles",
    /// The jobs of the reconciler are confirmed.
    Reconciles = "reconciles",
    /// The reconciler has noted that it has published.
    ReconcilerNotes = "reconciler-notes" refines "Reconciles",

    /// A router has noted that the broker has lost a queue, and has not declared it.
    RouterNotesLostQueue = "router-notes-lost-queue" refines "Reconciles",
    /// The letters of a lost queue are confirmed, and it is still noted as lost.
    RouterRestoresLetters = "router-restores-letters" refines "Reconciles",

    /// A worker has received a job.
    WorkerTakes = "worker-takes",
    /// A worker knows whether an attempt is its own: it has the lease where one is needed.
    WorkerBegins = "worker-begins",
    /// A worker has read the history under its lease, and access is decided.
    WorkerReads = "worker-reads",
    /// A worker has released the lease of an attempt that it does not begin.
    WorkerReleasesLease = "worker-releases-lease" refines "WorkerReads",
    /// A worker has put off an attempt that waited for too long, or whose webhook changed.
    WorkerPostpones = "worker-postpones" refines "WorkerSends",
    /// A slow attempt has its lease, and does not keep its job any longer. Its POST is under way.
    WorkerReleases = "worker-releases",
    /// The POST was made, and its answer was received.
    WorkerSends = "worker-sends",
    /// A worker has paused a webhook whose receiver answered 410.
    WorkerPauses = "worker-pauses" refines "WorkerRecords",
    /// A worker has committed the row of an attempt.
    WorkerRecords = "worker-records",
    /// A worker has noted deferrals in the ledger.
    WorkerNotesDeferral = "worker-notes-deferral" refines "WorkerPublishes",
    /// A dead letter of a worker is confirmed.
    WorkerPublishesDeadLetter = "worker-publishes-dead-letter" refines "WorkerPublishes",
    /// The follow-ups of a worker are confirmed, or left to the ledger.
    WorkerPublishes = "worker-publishes",
    /// A worker has acknowledged jobs.
    WorkerAcknowledges = "worker-acknowledges",
    /// A worker whose session is lost has leases on its attempts in flight.
    WorkerSecures = "worker-secures" refines "SessionLost",


    /// A step of a bulk operation has settled dead letters in the ledger.
    OperationSettles = "operation-settles" refines "Reconciles",
    /// The jobs and events of a bulk operation's step are confirmed.
    OperationPublishes = "operation-publishes" refines "Reconciles",

    /// A router has sent notices, and has not noted that.
    NoticesSent = "notices-sent" refines "Reconciles",
}
