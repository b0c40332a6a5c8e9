//! The journal: what the report server posted and the broker has not confirmed yet.
//!
//! A POST is answered when its record is on the disk. Records are published in their order, and then
//! removed. After an end in between they are published again: their events have the same ids, by which
//! Fanfare recognises them.
//!
//! The journal is a folder of segments. A record is a line of JSON. A line without an end is the
//! beginning of a record that was never acknowledged, and is ignored.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_blocking;

/// The size at which a segment ends, in bytes. A segment is removed whole, so that this is also what
/// may be published twice.
const SEGMENT: u64 = 4 * 1024 * 1024;
/// For how long a refused record counts as a problem of the journal.
const PROBLEM: Duration = Duration::from_mins(1);
/// The most records that are read at once, and the most bytes.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A POST of the report server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The time at which it came.
    pub at: DateTime<Utc>,
    /// The newest directory revision that was published then; `None` before the first.
    pub revision: Option<i64>,
    /// The body as it was sent.
    pub body: String,
}

/// Why a record is not in the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal has reached its limit.
    #[error(
        "the journal is full ({0} bytes): the broker does not take what it has; when the broker is \
         back, it empties by itself"
    )]
    Full(u64),
    #[error("the journal in {} can't be used: {error}", path.display())]
    Disk { path: PathBuf, error: io::Error },
}

/// The size of the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub bytes: u64,
    /// Records that were added and not removed since the start of the process, and those found then.
    pub records: u64,
    /// The time at which the oldest of them came, as far as it was read since the start.
    pub oldest: Option<DateTime<Utc>>,
}

/// Records to be published, and the place behind them.
#[derive(Debug)]
pub struct Batch {
    pub records: Vec<Record>,
    end: Place,
}

/// A place in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    segment: u64,
    offset: u64,
}

/// The journal of one process.
#[derive(Clone)]
pub struct Journal {
    files: Arc<Mutex<Files>>,
    added: Arc<Notify>,
    refused: Arc<std::sync::Mutex<Option<(Instant, String)>>>,
}

impl Journal {
    /// Opens the journal in a folder, which it makes.
    ///
    /// # Errors
    ///
    /// [`JournalError::Disk`]
    pub fn open(folder: &Path, limit: u64) -> Result<Self, JournalError> {
        let disk = |error| JournalError::Disk { path: folder.to_owned(), error };
        let files = Files::open(folder, limit).map_err(disk)?;
        Ok(Self {
            files: Arc::new(Mutex::new(files)),
            added: Arc::default(),
            refused: Arc::default(),
        })
    }

    /// Adds a record. It is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: the record is not in the journal.
    pub async fn add(&self, record: Record) -> Result<(), JournalError> {
        let added = self.with_files(move |files| files.add(&record)).await;
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = added.as_ref().err().map(|error| (Instant::now(), error.to_string()));
        drop(refused);
        self.added.notify_one();
        added
    }

    /// Why it took no record lately; `None` if it does.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = refused.as_ref().filter(|(at, _)| at.elapsed() < PROBLEM);
        lately.map(|(_, problem)| problem.clone())
    }

    /// The next records, as soon as there are some. The same ones are returned until they are
    /// [removed](Self::remove).
    ///
    /// # Errors
    ///
    /// [`JournalError::Disk`]
    pub async fn next(&self) -> Result<Batch, JournalError> {
        loop {
            let batch = self.with_files(Files::next).await?;
            if !batch.records.is_empty() {
                return Ok(batch);
            }
            self.added.notified().await;
        }
    }

    /// Removes records that were published.
    ///
    /// # Errors
    ///
    /// [`JournalError::Disk`]: they are published again after the next start.
    pub async fn remove(&self, batch: Batch) -> Result<(), JournalError> {
        self.with_files(move |files| files.remove(&batch)).await
    }

    /// The size of what is not published.
    pub async fn size(&self) -> Size {
        self.files.lock().await.size()
    }

    async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Files) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let mut files = Arc::clone(&self.files).lock_owned().await;
        let path = files.folder.clone();
        match spawn_blocking(move || work(&mut files)).await {
            Ok(result) => result,
            Err(error) => Err(JournalError::Disk { path, error: io::Error::other(error) }),
        }
    }
}

/// The segments of a journal.
struct Files {
    folder: PathBuf,
    limit: u64,
    /// The segments' sizes by number. The last one is written.
    segments: BTreeMap<u64, u64>,
    current: Option<File>,
    /// Up to here records are published.
    published: Place,
    records: u64,
    oldest: Option<DateTime<Utc>>,
}

impl Files {
    fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut segments = BTreeMap::new();
        let mut records = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".journal")?.parse().ok());
            if let Some(number) = number {
                segments.insert(number, entry.metadata()?.len());
                let lines = BufReader::new(File::open(entry.path())?).split(b'\n');
                records += u64::try_from(lines.count()).unwrap_or(u64::MAX);
            }
        }
        let first = segments.keys().next().copied().unwrap_or(1);
        let published = Place { segment: first, offset: 0 };
        Ok(Self {
            folder: folder.to_owned(),
            limit,
            segments,
            current: None,
            published,
            records,
            oldest: None,
        })
    }

    fn size(&self) -> Size {
        let bytes = self.segments.values().sum();
        Size { bytes, records: self.records, oldest: self.oldest }
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.folder.join(format!("{segment:010}.journal"))
    }

    fn disk(&self, error: io::Error) -> JournalError {
        JournalError::Disk { path: self.folder.clone(), error }
    }

    fn add(&mut self, record: &Record) -> Result<(), JournalError> {
        let mut line = serde_json::to_vec(record).map_err(|error| self.disk(error.into()))?;
        line.push(b'\n');
        let bytes = self.size().bytes;
        let added = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if bytes.saturating_add(added) > self.limit {
            return Err(JournalError::Full(bytes));
        }
        let number = self.writable().map_err(|error| self.disk(error))?;
        let written = self.current.as_mut().map_or(Ok(()), |file| {
            file.write_all(&line)?;
            file.sync_data()
        });
        match written {
            Ok(()) => {
                *self.segments.entry(number).or_default() += added;
                self.records += 1;
                if self.records == 1 {
                    self.oldest = Some(record.at);
                }
                Ok(())
            }
            Err(error) => {
                // What was written of the line has no end, and nothing is written behind it.
                self.current = None;
                Err(self.disk(error))
            }
        }
    }

    /// Opens another segment if the current one is full, or if there is none. Segments of an earlier
    /// process are not written any more: their last line may have no end.
    fn writable(&mut self) -> io::Result<u64> {
        let last = self.segments.last_key_value().map(|(number, size)| (*number, *size));
        if let Some((number, size)) = last
            && self.current.is_some()
            && size < SEGMENT
        {
            return Ok(number);
        }
        let number = last.map_or(self.published.segment, |(number, _)| number + 1);
        let path = self.path(number);
        self.current = Some(OpenOptions::new().create_new(true).append(true).open(path)?);
        // The entry in the folder must survive, too.
        File::open(&self.folder)?.sync_all()?;
        self.segments.insert(number, 0);
        Ok(number)
    }

    fn next(&mut self) -> Result<Batch, JournalError> {
        let mut place = self.published;
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (&segment, &size) in self.segments.range(place.segment..) {
            if segment > place.segment {
                place = Place { segment, offset: 0 };
            }
            let path = self.path(segment);
            let read = |error| JournalError::Disk { path: path.clone(), error };
            let mut file = File::open(&path).map_err(read)?;
            file.seek(SeekFrom::Start(place.offset)).map_err(read)?;
            let mut lines = BufReader::new(file);
            while place.offset < size && records.len() < BATCH && bytes < BATCH_BYTES {
                let mut line = Vec::new();
                let length = lines.read_until(b'\n', &mut line).map_err(read)?;
                if line.pop() != Some(b'\n') {
                    place.offset = size;
                    break;
                }
                place.offset += u64::try_from(length).unwrap_or(u64::MAX);
                bytes += length;
                match serde_json::from_slice(&line) {
                    Ok(record) => records.push(record),
                    Err(error) => {
                        let offset = place.offset;
                        tracing::error!(%error, path = %path.display(), offset, "a record of the \
                            journal can't be read; its events are lost unless the report server \
                            sends them again");
                    }
                }
            }
            if records.len() >= BATCH || bytes >= BATCH_BYTES {
                break;
            }
        }
        self.oldest = records.first().map(|first: &Record| first.at);
        if records.is_empty() {
            // Only lines that can't be read.
            self.published = place;
        }
        Ok(Batch { records, end: place })
    }

    fn remove(&mut self, batch: &Batch) -> Result<(), JournalError> {
        self.published = self.published.max(batch.end);
        let published = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
        self.records = self.records.saturating_sub(published);
        // The last segment may have got more records meanwhile.
        while let Some((&segment, &size)) = self.segments.first_key_value()
            && self.published >= (Place { segment, offset: size })
        {
            if self.segments.len() == 1 {
                self.current = None;
                self.published = Place { segment: segment + 1, offset: 0 };
            }
            fs::remove_file(self.path(segment)).map_err(|error| self.disk(error))?;
            self.segments.remove(&segment);
        }
        if self.segments.is_empty() {
            self.records = 0;
        }
        if self.records == 0 {
            self.oldest = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("fanfare-journal-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn record(number: usize) -> Record {
        Record { at: DateTime::UNIX_EPOCH, revision: Some(7), body: format!("body {number}\n") }
    }

    fn bodies(batch: &Batch) -> Vec<&str> {
        batch.records.iter().map(|record| record.body.as_str()).collect()
    }

    #[tokio::test]
    async fn records_come_in_order_until_they_are_removed_also_after_a_restart() {
        let folder = Folder::new("order");
        let journal = Journal::open(&folder.0, u64::MAX).unwrap();
        for number in 0..100 {
            journal.add(record(number)).await.unwrap();
        }
        let first = journal.next().await.unwrap();
        assert_eq!((first.records.len(), &first.records[0]), (BATCH, &record(0)));
        let again = journal.next().await.unwrap();
        assert_eq!(bodies(&again), bodies(&first));
        journal.remove(first).await.unwrap();
        let second = journal.next().await.unwrap();
        assert_eq!((second.records.len(), &second.records[0]), (36, &record(BATCH)));
        // Segments are removed whole, so that some are published again after a restart.
        let restarted = Journal::open(&folder.0, u64::MAX).unwrap();
        assert_eq!(restarted.next().await.unwrap().records[0], record(0));
        assert_eq!(restarted.size().await.records, 100);
        journal.remove(second).await.unwrap();
        assert_eq!(journal.size().await, Size::default());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
        journal.add(record(200)).await.unwrap();
        assert_eq!(journal.next().await.unwrap().records, [record(200)]);
    }

    #[tokio::test]
    async fn a_record_that_comes_while_others_are_published_stays() {
        let folder = Folder::new("meanwhile");
        let journal = Journal::open(&folder.0, u64::MAX).unwrap();
        journal.add(record(1)).await.unwrap();
        let batch = journal.next().await.unwrap();
        journal.add(record(2)).await.unwrap();
        journal.remove(batch).await.unwrap();
        let batch = journal.next().await.unwrap();
        assert_eq!(batch.records, [record(2)]);
        journal.remove(batch).await.unwrap();
        journal.add(record(3)).await.unwrap();
        assert_eq!(journal.next().await.unwrap().records, [record(3)]);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_ignored_and_nothing_is_written_behind_it() {
        let folder = Folder::new("torn");
        let journal = Journal::open(&folder.0, u64::MAX).unwrap();
        journal.add(record(1)).await.unwrap();
        let path = fs::read_dir(&folder.0).unwrap().next().unwrap().unwrap().path();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"at\":\"1970").unwrap();
        let restarted = Journal::open(&folder.0, u64::MAX).unwrap();
        restarted.add(record(2)).await.unwrap();
        let batch = restarted.next().await.unwrap();
        assert_eq!(batch.records, [record(1), record(2)]);
        restarted.remove(batch).await.unwrap();
        assert_eq!(restarted.size().await, Size::default());
    }

    #[tokio::test]
    async fn a_full_journal_takes_nothing_and_empties() {
        let folder = Folder::new("full");
        let journal = Journal::open(&folder.0, 150).unwrap();
        journal.add(record(1)).await.unwrap();
        journal.add(record(2)).await.unwrap();
        assert!(matches!(journal.add(record(3)).await, Err(JournalError::Full(_))));
        let batch = journal.next().await.unwrap();
        assert_eq!(bodies(&batch), ["body 1\n", "body 2\n"]);
        journal.remove(batch).await.unwrap();
        journal.add(record(3)).await.unwrap();
        assert_eq!(journal.next().await.unwrap().records, [record(3)]);
    }

    #[tokio::test]
    async fn segments_end_at_their_size_and_go_one_by_one() {
        let folder = Folder::new("segments");
        let journal = Journal::open(&folder.0, u64::MAX).unwrap();
        let large = |number: usize| Record {
            body: format!("{number} {}", "x".repeat(1_500_000)),
            ..record(0)
        };
        for number in 0..7 {
            journal.add(large(number)).await.unwrap();
        }
        let mut seen = Vec::new();
        while journal.size().await.records > 0 {
            let batch = journal.next().await.unwrap();
            seen.extend(
                batch.records.iter().map(|it| it.body.split(' ').next().unwrap().to_owned()),
            );
            journal.remove(batch).await.unwrap();
        }
        assert_eq!(seen, ["0", "1", "2", "3", "4", "5", "6"]);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    }
}
