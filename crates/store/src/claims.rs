//! Claims: leases on one attempt each, which are made before the attempt.
//!
//! A claim ends by itself. While it is valid, neither another worker nor a person's restart gets
//! the same sequence number. A claim that expired without a row of its number means that an attempt
//! began and was never recorded; the next claim counts it.

use std::time::Duration;

use fanfare_core::job::AttemptRef;
use fanfare_core::suspect::Unrecorded;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::attempts::columns;
use crate::error::StoreError;
use crate::holder::LOCK_CLASS;
use crate::located::Located;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The caller holds the lease. The value counts the earlier attempts with this sequence number
    /// that began and were never recorded.
    Ours(Unrecorded),
    /// Another worker holds the lease.
    HeldElsewhere,
    /// Another worker holds the lease, and the lock of that worker is free. If it stays free until the
    /// worker counts as dead, the lease is void; see [`Store::workers_look`].
    HolderGone,
    /// The delivery's history has passed this sequence number.
    Past,
}

/// The terms of a call's claims.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// Identifies the claims of one call. The same call, repeated because its answer was lost, gets
    /// its own claims again. Every other call needs another token, also in the same process.
    pub token: Uuid,
    /// The time after which the claims expire.
    pub length: Duration,
    /// Whether expired claims can be taken over. For a while after an outage of the database they
    /// can't, because their holders may have made POSTs that they could not record yet.
    pub may_take_over: bool,
    /// The holder, if it has its lock; see [`Holder::proven`](crate::holder::Holder::proven).
    pub holder: Option<i32>,
}

impl Lease {
    /// A lease with a new token, for one call, and without a holder.
    #[must_use]
    pub fn new(length: Duration, may_take_over: bool) -> Self {
        Self { token: Uuid::now_v7(), length, may_take_over, holder: None }
    }
}

impl Store {
    /// Claims attempts, and answers in the order of `dues`. The claim of an attempt that was made
    /// is not released but expires, so that the next claim sees the attempt's row.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: whether the claims were made is not known; repeat it with the same token.
    pub async fn attempts_claim(
        &self,
        dues: &[AttemptRef],
        lease: Lease,
    ) -> Result<Vec<Claim>, StoreError> {
        // The commit does not wait for the disk. Only a crash of the database could lose a claim,
        // and an attempt would be made twice only if two workers also had copies of its job. When
        // the server has just started, claims that expired while it was down can't be taken over
        // yet, because their holders may have POSTs that they could not record.
        //
        // The sequence number of a claim never decreases. A restart raises it when it writes the
        // row of the number, and a claim that waited for the restart's lock must not get the old
        // number.
        const SQL: &str = include_str!("sql/attempts_claim.sql");
        let (batches, webhooks, entries) = columns(dues);
        let Lease { token, length, may_take_over, holder } = lease;
        let Located { times, oldest, newest } = self.locate(dues).await?;
        let client = self.connection("claim attempts").await?;
        let rows = client
            .query(
                &Cached(SQL),
                &[
                    &batches,
                    &webhooks,
                    &entries,
                    &length.as_secs_f64(),
                    &token,
                    &may_take_over,
                    &holder,
                    &LOCK_CLASS,
                    &times,
                    &oldest,
                    &newest,
                ],
            )
            .await?;
        rows.iter().map(claim).collect()
    }

    /// Releases the claims of a lease under which no attempt began. They can be claimed at once,
    /// and do not count as unrecorded attempts.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: if the claims were not released, they expire.
    pub async fn claims_release(
        &self,
        dues: &[AttemptRef],
        lease: Lease,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- claims_release
            update claims c set until = now(), token = null, alone = false
            from unnest($1::uuid[], $2::uuid[]) as d(batch, webhook)
            where c.batch = d.batch and c.webhook = d.webhook and c.token = $3";
        let (batches, webhooks, _) = columns(dues);
        let client = self.connection("release claims").await?;
        client.execute(&Cached(SQL), &[&batches, &webhooks, &lease.token]).await.map(drop)
    }

    /// Renews a claim for a solo attempt, and marks it as solo. Returns whether this lease still
    /// held the claim.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: whether it was renewed is not known; repeat it.
    pub async fn claim_alone(&self, due: AttemptRef, lease: Lease) -> Result<bool, StoreError> {
        const SQL: &str = "-- claim_alone
            update claims set until = now() + $5::float8 * interval '1 second', alone = true
            where batch = $1 and webhook = $2 and entry = $3 and token = $4";
        let client = self.connection("claim an attempt for a worker alone").await?;
        client
            .execute(
                SQL,
                &[
                    &due.batch.0,
                    &due.webhook.0,
                    &due.sequence,
                    &lease.token,
                    &lease.length.as_secs_f64(),
                ],
            )
            .await
            .map(|rows| rows == 1)
    }
}

fn claim(row: &Row) -> Result<Claim, StoreError> {
    let unrecorded =
        Unrecorded { tries: row.column("unrecorded")?, alone: row.column("unrecorded_alone")? };
    Ok(match (row.column("past")?, row.column("ours")?, row.column("holder_gone")?) {
        (true, _, _) => Claim::Past,
        (false, true, _) => Claim::Ours(unrecorded),
        (false, false, true) => Claim::HolderGone,
        (false, false, false) => Claim::HeldElsewhere,
    })
}
