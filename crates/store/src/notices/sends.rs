//! What is still to be sent by each channel, and what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare_core::notice::{Channel, Notice, Withheld};
use uuid::Uuid;

use super::notice;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Values;

/// The pause after the first try. It doubles with each try.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The age after which a notice that can't be sent is given up.
const GIVE_UP_AFTER: Duration = Duration::from_hours(3 * 24);
/// How long notices and resolved causes are kept.
const KEEP: Duration = Duration::from_hours(90 * 24);

/// The shortest time between two mails to an owner.
const MAIL_PAUSE: Duration = Duration::from_mins(10);

/// The notices that are to be sent to an owner by a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnerDue {
    /// The owner's folded name.
    pub owner_key: String,
    pub channel: Channel,
    /// The oldest first.
    pub notices: Vec<Notice>,
}

impl Store {
    /// Takes up to `most` notices that are to be sent by a channel of operators, the oldest first. They
    /// are tried again after a while, unless [`Store::notices_sent`] says that they were sent.
    pub async fn notices_due(
        &self,
        channel: Channel,
        most: i64,
    ) -> Result<Vec<Notice>, StoreError> {
        const SQL: &str = include_str!("../sql/notices_due.sql");
        let client = self.connection("take notices that are due").await?;
        let (first, longest) = (FIRST_PAUSE.as_secs_f64(), LONGEST_PAUSE.as_secs_f64());
        let values: Values<'_> =
            &[&channel.code(), &most, &first, &longest, &GIVE_UP_AFTER.as_secs_f64()];
        let rows = client.query(SQL, values).await?;
        let mut due = rows.iter().map(notice).collect::<Result<Vec<_>, StoreError>>()?;
        due.sort_by_key(|notice| (notice.at, notice.id));
        Ok(due)
    }

    /// Takes notices that are to be sent by the channels of owners: of up to `owners` owners and channels
    /// up to `each` notices, those first that were never tried. An owner gets a mail at most every
    /// ten minutes; what comes in between is in the next one.
    pub async fn notices_owners_due(
        &self,
        owners: i64,
        each: i64,
    ) -> Result<Vec<OwnerDue>, StoreError> {
        const SQL: &str = include_str!("../sql/notices_owners_due.sql");
        let client = self.connection("take owners' notices that are due").await?;
        let (first, longest) = (FIRST_PAUSE.as_secs_f64(), LONGEST_PAUSE.as_secs_f64());
        let (give_up, mail) = (GIVE_UP_AFTER.as_secs_f64(), MAIL_PAUSE.as_secs_f64());
        let values: Values<'_> = &[&owners, &each, &first, &longest, &give_up, &mail];
        let mut due: BTreeMap<(String, Channel), Vec<Notice>> = BTreeMap::new();
        for row in &client.query(SQL, values).await? {
            let channel = Channel::parse(row.column("channel")?)
                .ok_or(StoreError::Inconsistent { table: "notice_sends", column: "channel" })?;
            due.entry((row.column("owner_key")?, channel)).or_default().push(notice(row)?);
        }
        let one = |((owner_key, channel), mut notices): ((String, Channel), Vec<Notice>)| {
            notices.sort_by_key(|notice| (notice.at, notice.id));
            OwnerDue { owner_key, channel, notices }
        };
        Ok(due.into_iter().map(one).collect())
    }

    /// Notes that notices are not sent by a channel, now or later, and why.
    pub async fn notices_withheld(
        &self,
        ids: &[Uuid],
        channel: Channel,
        why: Withheld,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- notices_withheld
            update notice_sends set next_try_at = null, failure = $3
            where notice = any($1) and channel = $2";
        let client = self.connection("note that notices are not sent").await?;
        client.execute(SQL, &[&ids, &channel.code(), &why.code()]).await.map(drop)
    }

    /// Notes that a mail to an owner begins, by the owner's folded name.
    pub async fn notices_mail_begins(&self, owner_key: &str) -> Result<(), StoreError> {
        const SQL: &str = "-- notices_mail_begins
            update notice_settings set mailed_at = now() where owner_key = $1";
        let client = self.connection("note that a mail begins").await?;
        client.execute(SQL, &[&owner_key]).await.map(drop)
    }

    /// Notes that notices were sent by a channel.
    pub async fn notices_sent(&self, ids: &[Uuid], channel: Channel) -> Result<(), StoreError> {
        const SQL: &str = "-- notices_sent
            update notice_sends set sent_at = now(), next_try_at = null, failure = null
            where notice = any($1) and channel = $2";
        let client = self.connection("note that notices were sent").await?;
        client.execute(SQL, &[&ids, &channel.code()]).await.map(drop)
    }

    /// Notes why notices could not be sent by a channel.
    pub async fn notices_failed(
        &self,
        ids: &[Uuid],
        channel: Channel,
        failure: &str,
    ) -> Result<(), StoreError> {
        const SQL: &str = "-- notices_failed
            update notice_sends set failure = $3 where notice = any($1) and channel = $2";
        let client = self.connection("note that notices were not sent").await?;
        client.execute(SQL, &[&ids, &channel.code(), &failure]).await.map(drop)
    }

    /// Removes old notices, and causes that were resolved long ago.
    pub async fn notices_sweep(&self) -> Result<u64, StoreError> {
        const NOTICES: &str = "-- notices_sweep
            delete from notices where at < now() - $1::float8 * interval '1 second'";
        const CAUSES: &str = "-- notice_causes_sweep
            delete from notice_causes where resolved_at < now() - $1::float8 * interval '1 second'";
        let client = self.connection("remove old notices").await?;
        let keep = KEEP.as_secs_f64();
        Ok(client.execute(NOTICES, &[&keep]).await? + client.execute(CAUSES, &[&keep]).await?)
    }
}
