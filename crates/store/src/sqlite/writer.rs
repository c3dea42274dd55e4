//! The one thread that writes.
//!
//! What waits for it at the same time goes to the disk together: one transaction, in which each
//! change has a savepoint of its own, and one flush. Only then is anyone told how it went, because
//! each change has seen what those before it did. A change that waits alone waits for nobody.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tokens::StoreError;
use tokio::sync::oneshot;

use super::database::{Failure, Rows, Shared, refuse_other_key};
use crate::disk::failed;

/// So many changes share a flush at most, and a while in which other processes can't write.
const TOGETHER: usize = 256;

/// What a change is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// It is on the disk before anyone is told.
    AFlush,
    /// It goes to the disk with the next change that is worth it.
    NoFlush,
}

/// Takes changes to the database, one batch after another.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Change>>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn start(connection: Connection, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (queue, waiting) = mpsc::channel();
        let mut desk = Desk { connection, shared: shared.clone(), flushing: true };
        let thread = std::thread::Builder::new()
            .name("sqlite".to_owned())
            .spawn(move || {
                while let Ok(first) = waiting.recv() {
                    desk.take(std::iter::once(first).chain(waiting.try_iter()).take(TOGETHER).collect());
                }
            })
            .map_err(failed("start a thread for", &shared.path))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), shared })
    }

    /// Makes a change, all of it or nothing. Once it is asked for it is made, whether or not anyone
    /// still waits for it.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        worth: Worth,
        make: impl FnOnce(&Rows<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let change = Box::new(Asked { worth, make: Some(make), made: None, answer });
        let gone = || failed("reach the thread of", &self.shared.path)(std::io::ErrorKind::BrokenPipe.into());
        self.queue.as_ref().and_then(|queue| queue.send(change).ok()).ok_or_else(gone)?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    /// Waits for the work at hand, and for SQLite to put its log back into the database.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A change that someone asked for.
trait Change: Send {
    fn worth(&self) -> Worth;

    /// Makes it; an error means that whatever it did is to be undone.
    fn make(&mut self, rows: &Rows<'_>) -> Result<(), StoreError>;

    /// Says how it went, now that what it saw is at rest, or is not.
    fn tell(self: Box<Self>, rests: Result<(), StoreError>);
}

struct Asked<T, M> {
    worth: Worth,
    make: Option<M>,
    made: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, M: FnOnce(&Rows<'_>) -> Result<T, Failure> + Send> Change for Asked<T, M> {
    fn worth(&self) -> Worth {
        self.worth
    }

    fn make(&mut self, rows: &Rows<'_>) -> Result<(), StoreError> {
        let Some(make) = self.make.take() else { return Ok(()) };
        let made = make(rows).map_err(|failure| failure.at("write", rows.path));
        let ended = made.as_ref().map(drop).map_err(Clone::clone);
        self.made = Some(made);
        ended
    }

    fn tell(self: Box<Self>, rests: Result<(), StoreError>) {
        let end = match (rests, self.made) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(made)) => made,
            (Ok(()), None) => return,
        };
        // Whoever asked may have gone; the work is done all the same.
        let _ = self.answer.send(end);
    }
}

/// Where the changes are made.
struct Desk {
    connection: Connection,
    shared: Arc<Shared>,
    flushing: bool,
}

impl Desk {
    fn take(&mut self, mut changes: Vec<Box<dyn Change>>) {
        let rest = self.shared.trusted().and_then(|()| {
            self.make(&mut changes).map_err(|failure| self.shared.distrust_if_flush_failed(failure, "write"))
        });
        for change in changes {
            change.tell(rest.clone());
        }
    }

    /// Makes them all in one transaction; an error means that none of them is at rest.
    fn make(&mut self, changes: &mut [Box<dyn Change>]) -> Result<(), Failure> {
        self.flush_if(changes.iter().any(|change| change.worth() == Worth::AFlush))?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        refuse_other_key(&transaction, &self.shared)?;
        let rows = self.shared.rows(&transaction);
        let run = |sql: &str| transaction.prepare_cached(sql)?.execute([]).map(drop);
        for change in changes {
            run("SAVEPOINT change")?;
            if let Err(error) = change.make(&rows) {
                if transaction.is_autocommit() {
                    // SQLite has undone everything, as it does when the disk is full.
                    return Err(error.into());
                }
                run("ROLLBACK TO change")?;
            }
            run("RELEASE change")?;
        }
        Ok(transaction.commit()?)
    }

    /// Whether the commit to come waits for the disk.
    fn flush_if(&mut self, worth_it: bool) -> Result<(), Failure> {
        if self.flushing != worth_it {
            let how = if worth_it { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", how)?;
            self.flushing = worth_it;
        }
        Ok(())
    }
}
