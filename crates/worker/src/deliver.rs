//! The deliveries of a job, from its receipt to its end: [`load`], [`decide`], [`act`], publish.
//!
//! Each delivery gives back its part of the job's permit and releases its job when it is over or slow,
//! so that a slow delivery keeps no more than its own part, and each job is settled on its own.

use fanfare_core::chain::chain;
use fanfare_core::delivery::decide;
use fanfare_core::job::{DeliveryGroup, first_attempts};
use fanfare_core::outcome::plan_holds;
use fanfare_failpoints::failpoint;
use futures_util::future::{join, join_all};
use tokio::sync::OwnedSemaphorePermit;

use crate::act::act;
use crate::context::{Context, InFlight};
use crate::delivery::DueDelivery;
use crate::error::WorkerError;
use crate::follow_up_publisher::FollowUpPublisher;
use crate::guard::{DeliveryGuard, JobGuard};
use crate::load::{Admission, Loaded, admit, admit_inline, arrival, load, load_inline};

/// What the deliveries of a job share.
#[derive(Clone, Copy)]
pub(crate) struct Pipeline<'a> {
    pub(crate) context: &'a Context,
    pub(crate) publisher: &'a FollowUpPublisher,
    /// The events that the job carries, if it carries any.
    pub(crate) groups: &'a [DeliveryGroup],
}

impl Pipeline<'_> {
    /// Works on the first attempts of a job that carries its events, and that the broker delivers for
    /// the first time: they need no lease.
    pub(crate) async fn run_inline(self, mut permit: OwnedSemaphorePermit, job: JobGuard) {
        let Self { context, groups, .. } = self;
        let now = context.now();
        if !groups.iter().all(|group| plan_holds(group.received_at, now)) {
            // The job waited too long in its queue, so access is decided again, as for retries.
            let first = |due| (DueDelivery::first(due), job.clone());
            let deliveries = first_attempts(groups).into_iter().map(first).collect();
            drop(job);
            return Box::pin(self.run_by_reference(deliveries, permit)).await;
        }
        // Tracked before the first await: when the session is lost, all attempts must be claimed.
        let dues = first_attempts(groups);
        let _in_flight: Vec<InFlight<'_>> = dues.iter().map(|due| context.track(*due)).collect();
        let deliveries = match load_inline(context, groups, dues, now).await {
            Ok(deliveries) => deliveries,
            Err(error) => return job.fail(error),
        };
        let mut each = Vec::with_capacity(deliveries.len());
        for loaded in deliveries {
            let mut loaded = Box::new(loaded);
            let guard = DeliveryGuard::new(job.clone(), permit.split(1));
            each.push(async move {
                match admit_inline(context, &mut loaded).await {
                    Ok(()) => self.conclude(loaded, guard).await,
                    Err(error) => guard.end(Err(error)),
                }
            });
        }
        // From here on, each delivery holds only its own part.
        drop((permit, job));
        join_all(each).await;
    }

    /// Works on deliveries that are named by reference, or about which something is in doubt: they
    /// need a lease.
    pub(crate) async fn run_by_reference(
        self,
        deliveries: Vec<(DueDelivery, JobGuard)>,
        mut permit: OwnedSemaphorePermit,
    ) {
        let (context, arrival) = (self.context, arrival(self.groups));
        let (deliveries, jobs): (Vec<DueDelivery>, Vec<JobGuard>) = deliveries.into_iter().unzip();
        let admissions = match admit(context, &deliveries, arrival).await {
            Ok(admissions) => admissions,
            Err(error) => return fail_all(&error, jobs),
        };
        // A delivery whose slot comes soon is attempted at its slot. The others do not wait for it.
        let (mut now, mut soon) = (Admitted::default(), Vec::new());
        for ((delivery, job), admission) in deliveries.into_iter().zip(jobs).zip(admissions) {
            let Admission::Soon(waiting) = admission else {
                now.push(delivery, job, admission);
                continue;
            };
            let own_permit = permit.split(1);
            soon.push(async move {
                let delivery = DueDelivery { slot: Some(waiting.wait().await), ..delivery };
                match admit(context, &[delivery], arrival).await {
                    Ok(admissions) => {
                        let (deliveries, jobs) = (vec![delivery], vec![job]);
                        let admitted = Admitted { deliveries, jobs, admissions };
                        self.run_admitted(admitted, own_permit).await;
                    }
                    Err(error) => fail_all(&error, vec![job]),
                }
            });
        }
        let at_once = self.run_admitted(now, Some(permit));
        join(Box::pin(at_once), join_all(soon.into_iter().map(Box::pin))).await;
    }

    /// Works on deliveries after the pacer and the limiter have answered.
    async fn run_admitted(self, admitted: Admitted, mut permit: Option<OwnedSemaphorePermit>) {
        let Admitted { deliveries, jobs, admissions } = admitted;
        let loaded = match load(self.context, &deliveries, admissions, self.groups).await {
            Ok(loaded) => loaded,
            Err(error) => return fail_all(&error, jobs),
        };
        let mut each = Vec::with_capacity(loaded.len());
        for (loaded, job) in loaded.into_iter().zip(jobs) {
            let own_permit = permit.as_mut().and_then(|permit| permit.split(1));
            each.push(self.conclude(Box::new(loaded), DeliveryGuard::new(job, own_permit)));
        }
        drop(permit);
        join_all(each).await;
    }

    /// Decides about a delivery, acts, and publishes the follow-up. Then its job may be acknowledged.
    ///
    /// The delivery is boxed, because each function that passes it on would hold its own copy: the
    /// futures of thousands of attempts stay small.
    async fn conclude(self, loaded: Box<Loaded<'_>>, mut guard: DeliveryGuard) {
        let delivery = loaded.delivery;
        let decision = decide(&loaded.facts);
        let follow_up = act(self.context, loaded, decision, &mut guard).await;
        guard.release_permit();
        let result = match follow_up {
            Ok(follow_up) => {
                let follow_up = follow_up.map(|it| delivery.keep_doubt(it));
                let published = self.publisher.publish(follow_up).await;
                published.inspect(|()| failpoint!(WorkerPublishes, [delivery.due]))
            }
            Err(error) => Err(error),
        };
        guard.end(result);
    }
}

/// Deliveries after the pacer and the limiter have answered; the lists have the same order.
#[derive(Default)]
struct Admitted {
    deliveries: Vec<DueDelivery>,
    jobs: Vec<JobGuard>,
    admissions: Vec<Admission>,
}

impl Admitted {
    fn push(&mut self, delivery: DueDelivery, job: JobGuard, admission: Admission) {
        self.deliveries.push(delivery);
        self.jobs.push(job);
        self.admissions.push(admission);
    }
}

/// Requeues the jobs of deliveries that could not be admitted or loaded.
fn fail_all(error: &WorkerError, jobs: Vec<JobGuard>) {
    // All have the same reason, which is logged once.
    tracing::warn!(error = chain(error), "failed to attempt due jobs; they are requeued");
    for job in jobs {
        job.fail(WorkerError::NotPublished);
    }
}
