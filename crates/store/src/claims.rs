//! Claims: the exclusive right to make one attempt, for a time.
//!
//! A claim is made before an attempt and ends by itself. While it is live, neither another worker
//! nor a person's restart gets at the same entry. A claim that ran out without a row of its entry
//! stands for an attempt that began and was never recorded; the next claim counts it.

use std::time::Duration;

use fanfare_core::job::Due;
use fanfare_core::suspect::Unrecorded;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::attempts::columns;
use crate::error::StoreError;
use crate::pool::Store;

/// What claiming an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours for the time asked. So many attempts of this entry began before and were never
    /// recorded.
    Ours(Unrecorded),
    /// Another worker has it.
    HeldElsewhere,
    /// The delivery has moved past it.
    Past,
}

/// How to claim attempts.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// Marks the claims of one call. The same call, repeated because its answer was lost, gets its
    /// own claims again; a second call needs another token, also in the same process.
    pub token: Uuid,
    /// How long the claims hold.
    pub length: Duration,
    /// Whether claims that ran out are free. After an outage of the database they are not for a
    /// while: their holders may have made POSTs that they could not record yet.
    pub may_take_over: bool,
}

impl Lease {
    /// A lease for one call.
    #[must_use]
    pub fn new(length: Duration, may_take_over: bool) -> Self {
        Self { token: Uuid::now_v7(), length, may_take_over }
    }
}

impl Store {
    /// Claims attempts for a time; the answers are in their order. The claim of an attempt that was
    /// made is not given back but runs out: a row written just before is then seen by whoever
    /// claims next.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: whether the claims were made is not known; repeat it with the same token.
    pub async fn attempts_claim(
        &self,
        dues: &[Due],
        lease: Lease,
    ) -> Result<Vec<Claim>, StoreError> {
        // Not waited for until it is on the disk: only a crash of the database could lose a claim, and
        // then two workers need copies of one job to attempt it twice. A server that has just
        // started answers workers that hold unrecorded POSTs: claims that ran out while it was
        // down are not free yet.
        //
        // The entry of a claim never goes back: a restart has raised it in the same moment in which
        // it wrote the entry's row, and a claim that waited for its lock must not get the old one.
        const SQL: &str = include_str!("sql/attempts_claim.sql");
        let doing = "claim attempts";
        let (batches, webhooks, entries) = columns(dues);
        let Lease { token, length, may_take_over } = lease;
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        let rows = client
            .query(
                &statement,
                &[&batches, &webhooks, &entries, &length.as_secs_f64(), &token, &may_take_over],
            )
            .await
            .map_err(StoreError::at(doing))?;
        rows.iter().map(claim).collect::<Result<_, _>>().map_err(StoreError::at(doing))
    }

    /// Says of this lease's claims that no attempt began: they are free at once, and count for
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the claims may run out instead.
    pub async fn claims_release(&self, dues: &[Due], lease: Lease) -> Result<(), StoreError> {
        const SQL: &str = "-- claims_release
            update claims c set until = now(), token = null, alone = false
            from unnest($1::uuid[], $2::uuid[]) as d(batch, webhook)
            where c.batch = d.batch and c.webhook = d.webhook and c.token = $3";
        let doing = "release claims";
        let (batches, webhooks, _) = columns(dues);
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        let released = client.execute(&statement, &[&batches, &webhooks, &lease.token]).await;
        released.map(drop).map_err(StoreError::at(doing))
    }

    /// Renews a claim for an attempt that is made while its worker does nothing else, and says so in
    /// it. Returns whether the claim was still this lease's.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: whether it was renewed is not known; repeat it.
    pub async fn claim_alone(&self, due: Due, lease: Lease) -> Result<bool, StoreError> {
        const SQL: &str = "-- claim_alone
            update claims set until = now() + $5::float8 * interval '1 second', alone = true
            where batch = $1 and webhook = $2 and entry = $3 and token = $4";
        let doing = "claim an attempt for a worker alone";
        let client = self.client().await?;
        client
            .execute(
                SQL,
                &[
                    &due.batch.0,
                    &due.webhook.0,
                    &due.entry,
                    &lease.token,
                    &lease.length.as_secs_f64(),
                ],
            )
            .await
            .map(|rows| rows == 1)
            .map_err(StoreError::at(doing))
    }
}

fn claim(row: &Row) -> Result<Claim, tokio_postgres::Error> {
    let unrecorded = Unrecorded { tries: row.try_get(2)?, alone: row.try_get(3)? };
    Ok(match (row.try_get(0)?, row.try_get(1)?) {
        (true, _) => Claim::Past,
        (false, true) => Claim::Ours(unrecorded),
        (false, false) => Claim::HeldElsewhere,
    })
}
