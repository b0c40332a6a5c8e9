//! What there is: messages, rows, a lease, processes.

/// A delivery has at most this many attempts.
pub(crate) const ATTEMPTS: u8 = 2;

/// A process, by its number among those of its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Process {
    /// A router, which is also a reconciler.
    Router(u8),
    /// A worker.
    Worker(u8),
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// Route the event.
    Event,
    /// Make the first attempt, without a question to the ledger unless it is in doubt.
    Inline,
    /// See whether the first attempt was made, when its outcome must be known.
    Recheck,
    /// Make the attempt that writes this row, under a lease.
    Attempt(u8),
}

/// A message in the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// What it asks for.
    pub body: Body,
    /// The broker has delivered it before, or it takes the place of such a job.
    pub redelivered: bool,
    /// Its consumer, which has not acknowledged it.
    pub holder: Option<Process>,
}

/// How a row ended its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Delivered.
    Delivered,
    /// Failed; another attempt follows.
    Retrying,
    /// Failed for the last time.
    Dead,
    /// Not sent, because the owner may not read the resource.
    Dropped,
}

/// The exclusive right to write a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lease {
    /// The row's number.
    pub(crate) seq: u8,
    /// The worker that has it.
    pub(crate) by: u8,
    /// It is not over: it has not expired, and its holder was not found dead.
    pub(crate) live: bool,
    /// The database session of its holder has ended, and the holder has not taken its lock again.
    pub(crate) orphan: bool,
}

impl Lease {
    pub(crate) fn new(seq: u8, by: u8) -> Self {
        Self { seq, by, live: true, orphan: false }
    }
}

/// What follows from a row, or from a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FollowUp {
    /// Nothing.
    None,
    /// A job.
    Job(Body),
    /// A job that takes the place of a redelivered one: a row may be there without what follows it.
    InDoubt(Body),
    /// A dead letter.
    DeadLetter,
}

/// Where a router is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Routing {
    /// It has no message.
    Idle,
    /// It has an event.
    Taken,
    /// The ledger has the plan; the job is to be published.
    Planned(FollowUp),
    /// The job is published; the event is to be acknowledged.
    Published,
}

/// Where a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Working {
    /// It has no job.
    Idle,
    /// It has a job, and has not looked at it.
    Taken(Body),
    /// It has a lease, and reads the history next.
    Leased(u8),
    /// It is about to send.
    Sending {
        /// The row's number.
        seq: u8,
        /// It has the lease.
        leased: bool,
        /// The access rule allowed it.
        allowed: bool,
        /// It is slow: its job may be acknowledged before the answer is there.
        slow: bool,
    },
    /// The answer is there: the row is to be written.
    Answered {
        /// The row's number.
        seq: u8,
        /// How the attempt ended.
        outcome: Outcome,
    },
    /// The row is there: what follows is to be published.
    Recorded(FollowUp),
    /// What follows is published: the job is to be acknowledged.
    Published,
}

/// The state of all peers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct State {
    /// A delivery is dead after this many attempts.
    pub(crate) last: u8,
    /// The messages, in no order.
    pub(crate) messages: Vec<Message>,
    /// The ledger has the event and its plan.
    pub(crate) planned: bool,
    /// The rows of the delivery: how each attempt ended.
    pub(crate) rows: Vec<Outcome>,
    /// The lease, live or expired.
    pub(crate) lease: Option<Lease>,
    /// There is a dead letter, or there was one before the broker lost its data.
    pub(crate) dead_letter: bool,
    /// The broker has lost its data. Dead deliveries are then in the ledger alone.
    pub(crate) wiped: bool,
    /// The owner's access was revoked.
    pub(crate) revoked: bool,
    /// How many POSTs each row number had.
    pub(crate) posts: [u8; ATTEMPTS as usize],
    /// How many POSTs of each row number could not be recorded in time, because their worker was killed
    /// or stopped: each may be made once more.
    pub(crate) excused: [u8; ATTEMPTS as usize],
    /// A POST left that the access rule refused.
    pub(crate) leaked: bool,
    /// The first attempt was planned so long ago that it is decided as a retry is.
    pub(crate) plan_is_old: bool,
    /// The routers.
    pub(crate) routers: Vec<Routing>,
    /// The workers.
    pub(crate) workers: Vec<Working>,
    /// The processes that are stopped, and the jobs that were held across a stop or a lost session.
    pub(crate) stopped: Vec<Process>,
    /// Workers whose job may have been redelivered.
    pub(crate) in_doubt: Vec<u8>,
    /// Workers that live and count as dead, because they were cut off for too long.
    pub(crate) cut_off: Vec<u8>,
    /// Faults that may still happen.
    pub(crate) faults: u8,
    /// Faults that happened.
    pub(crate) happened: u8,
}

impl State {
    /// The beginning: an event that the broker has confirmed.
    #[must_use]
    pub fn confirmed(routers: usize, workers: usize, faults: u8) -> Self {
        Self {
            last: ATTEMPTS,
            messages: vec![Message { body: Body::Event, redelivered: false, holder: None }],
            planned: false,
            rows: Vec::new(),
            lease: None,
            dead_letter: false,
            wiped: false,
            revoked: false,
            posts: [0; ATTEMPTS as usize],
            excused: [0; ATTEMPTS as usize],
            leaked: false,
            plan_is_old: false,
            routers: vec![Routing::Idle; routers],
            workers: vec![Working::Idle; workers],
            stopped: Vec::new(),
            in_doubt: Vec::new(),
            cut_off: Vec::new(),
            faults,
            happened: 0,
        }
    }

    /// A later beginning: the plan is in the ledger, and its job in the delivery queue.
    #[must_use]
    pub fn planned(workers: usize, faults: u8) -> Self {
        let job = Message { body: Body::Inline, redelivered: false, holder: None };
        Self { messages: vec![job], planned: true, ..Self::confirmed(1, workers, faults) }
    }

    /// The same with a delivery that is dead after its first attempt.
    #[must_use]
    pub fn with_one_attempt(self) -> Self {
        Self { last: 1, ..self }
    }

    /// Whether the delivery has ended as its ledger says.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self.rows.last() {
            Some(Outcome::Delivered | Outcome::Dropped) => true,
            Some(Outcome::Dead) => self.dead_letter || self.wiped,
            Some(Outcome::Retrying) | None => false,
        }
    }

    /// What follows from the row with this number, if it is the last one.
    #[must_use]
    pub(crate) fn follow_up(&self, seq: u8) -> FollowUp {
        match self.rows.last() {
            Some(outcome) if self.rows.len() == usize::from(seq) => match outcome {
                Outcome::Retrying => FollowUp::Job(Body::Attempt(seq + 1)),
                Outcome::Dead => FollowUp::DeadLetter,
                Outcome::Delivered | Outcome::Dropped => FollowUp::None,
            },
            _ => FollowUp::None,
        }
    }

    /// How many jobs carry the delivery. One whose worker has published what follows carries it no longer.
    pub(crate) fn jobs(&self) -> usize {
        let is_over = |holder| match holder {
            Some(Process::Worker(worker)) => {
                self.workers[usize::from(worker)] == Working::Published
            }
            Some(Process::Router(_)) | None => false,
        };
        let carries = |it: &&Message| it.body != Body::Event && !is_over(it.holder);
        self.messages.iter().filter(carries).count()
    }

    pub(crate) fn publish(&mut self, body: Body, in_doubt: bool) {
        self.messages.push(Message { body, redelivered: in_doubt, holder: None });
        self.messages.sort_unstable();
    }

    pub(crate) fn held(&self, by: Process) -> Option<usize> {
        self.messages.iter().position(|message| message.holder == Some(by))
    }

    pub(crate) fn acknowledge(&mut self, by: Process) {
        if let Some(at) = self.held(by) {
            self.messages.remove(at);
        }
    }

    /// The broker takes back what a process holds.
    pub(crate) fn requeue(&mut self, of: Process) {
        for message in &mut self.messages {
            if message.holder == Some(of) {
                message.holder = None;
                message.redelivered = true;
            }
        }
        self.messages.sort_unstable();
    }

    pub(crate) fn runs(&self, process: Process) -> bool {
        !self.stopped.contains(&process)
    }
}

pub(crate) fn index(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

pub(crate) fn is_first(working: Working) -> bool {
    match working {
        Working::Taken(body) => body == Body::Inline,
        Working::Sending { seq, leased, .. } => seq == 1 && !leased,
        Working::Answered { seq, .. } => seq == 1,
        _ => false,
    }
}
