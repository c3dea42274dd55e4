//! The one thread that writes.
//!
//! What waits for it at the same time goes to the disk together: one transaction, in which each
//! change has a savepoint of its own, and one flush. Only then is anyone told how it went, because
//! each change has seen what those before it did. A change that waits alone waits for nobody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tokens::StoreError;
use tokio::sync::oneshot;

use super::database::{Failure, Rows, Shared, refuse_other_key};
use crate::disk::failed;

/// So many changes share a flush at most, and a while in which other processes can't write.
const TOGETHER: usize = 128;

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
    /// So many are asked for and not told of yet.
    asked: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn start(connection: Connection, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (queue, waiting) = mpsc::channel();
        let asked = Arc::<AtomicUsize>::default();
        let mut desk = Desk { connection, shared: shared.clone(), asked: asked.clone(), flushing: true };
        let thread = std::thread::Builder::new()
            .name("sqlite".to_owned())
            .spawn(move || {
                while let Ok(first) = waiting.recv() {
                    desk.take(std::iter::once(first).chain(waiting.try_iter()).take(TOGETHER).collect());
                }
            })
            .map_err(failed("start a thread for", &shared.path))?;
        Ok(Self { queue: Some(queue), asked, thread: Some(thread), shared })
    }

    /// Whether nobody waits for it.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.load(Ordering::Relaxed) == 0
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
        self.asked.fetch_add(1, Ordering::Relaxed);
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
    asked: Arc<AtomicUsize>,
    flushing: bool,
}

impl Desk {
    fn take(&mut self, mut changes: Vec<Box<dyn Change>>) {
        let rest = self.shared.trusted().and_then(|()| {
            self.make(&mut changes).map_err(|failure| self.shared.distrust_if_flush_failed(failure, "write"))
        });
        self.asked.fetch_sub(changes.len(), Ordering::Relaxed);
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
        if let [change] = changes {
            // Alone, it is undone with the transaction.
            return match change.make(&rows) {
                Ok(()) => Ok(transaction.commit()?),
                Err(_) if !transaction.is_autocommit() => Ok(transaction.rollback()?),
                Err(error) => Err(error.into()),
            };
        }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::key::{Key, Keys};
    use crate::seal::Sealer;
    use crate::sqlite::database;

    type Answer = oneshot::Receiver<Result<i64, StoreError>>;

    fn desk(folder: &Path) -> Desk {
        let keys = Keys { current: Key::parse(&Key::generate()).ok(), old: Vec::new() };
        let (connection, shared) =
            database::open(&folder.join("ghl.db"), Arc::new(Sealer::new(&keys))).expect("a database");
        connection
            .execute_batch(
                "CREATE TABLE things (number INTEGER PRIMARY KEY, name TEXT,
                    whose INTEGER REFERENCES things (number) DEFERRABLE INITIALLY DEFERRED);
                 PRAGMA foreign_keys = ON",
            )
            .expect("a table");
        Desk { connection, shared: Arc::new(shared), asked: Arc::default(), flushing: true }
    }

    /// Adds a thing and counts them, and then does the rest.
    fn change(
        name: &'static str,
        rest: impl FnOnce(&Rows<'_>) -> Result<(), Failure> + Send + 'static,
    ) -> (Box<dyn Change>, Answer) {
        let (answer, answered) = oneshot::channel();
        let make = move |rows: &Rows<'_>| {
            rows.transaction.execute("INSERT INTO things (name) VALUES (?1)", [name])?;
            rest(rows)?;
            Ok(rows.transaction.query_row("SELECT count(*) FROM things", [], |row| row.get(0))?)
        };
        (Box::new(Asked { worth: Worth::AFlush, make: Some(make), made: None, answer }), answered)
    }

    fn fine(_: &Rows<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn there(desk: &Desk) -> Vec<String> {
        let mut all = desk.connection.prepare("SELECT name FROM things").expect("a table");
        all.query_map([], |row| row.get(0)).expect("things").map(|name| name.expect("a name")).collect()
    }

    fn take(desk: &mut Desk, changes: Vec<(Box<dyn Change>, Answer)>) -> Vec<Result<i64, StoreError>> {
        let (changes, answers): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        desk.take(changes);
        answers.into_iter().map(|mut answer| answer.try_recv().expect("everyone is told")).collect()
    }

    #[test]
    fn a_change_that_fails_is_undone_alone_and_the_others_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut desk = desk(folder.path());
        let lost = |_: &Rows<'_>| Err(StoreError::LeaseLost.into());
        let odd = |rows: &Rows<'_>| Ok(rows.transaction.execute_batch("SELECT nonsense")?);
        let changes = vec![change("a", fine), change("b", lost), change("c", odd), change("d", fine)];
        let told = take(&mut desk, changes);
        assert!(matches!(told[0], Ok(1)) && matches!(told[3], Ok(2)), "{told:?}");
        assert!(matches!(told[1], Err(StoreError::LeaseLost)), "{told:?}");
        assert!(matches!(told[2], Err(StoreError::Database { .. })), "{told:?}");
        assert_eq!(there(&desk), ["a", "d"]);
    }

    #[test]
    fn when_nothing_comes_to_rest_everyone_is_told_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut desk = desk(folder.path());
        // What is wrong with it shows when it is committed.
        let broken = |rows: &Rows<'_>| Ok(rows.transaction.execute_batch("UPDATE things SET whose = 99")?);
        let told = take(&mut desk, vec![change("a", fine), change("b", broken), change("c", fine)]);
        assert!(told.iter().all(|told| matches!(told, Err(StoreError::Database { .. }))), "{told:?}");
        assert!(there(&desk).is_empty());

        // As SQLite itself undoes everything when the disk is full in the middle.
        let undone = |rows: &Rows<'_>| {
            rows.transaction.execute_batch("ROLLBACK")?;
            Err(StoreError::LeaseLost.into())
        };
        let told = take(&mut desk, vec![change("a", fine), change("b", undone), change("c", fine)]);
        assert!(told.iter().all(Result::is_err), "{told:?}");
        assert!(there(&desk).is_empty());
        assert!(matches!(take(&mut desk, vec![change("d", fine)])[..], [Ok(1)]), "and it goes on");
    }

    #[test]
    fn once_a_flush_has_failed_nothing_more_is_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut desk = desk(folder.path());
        let failed = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        let failed = Failure::Sqlite(rusqlite::Error::SqliteFailure(failed, None));
        desk.shared.distrust_if_flush_failed(failed, "write");
        let told = take(&mut desk, vec![change("a", fine), change("b", fine)]);
        assert!(told.iter().all(|told| matches!(told, Err(StoreError::Poisoned { .. }))), "{told:?}");
        assert!(there(&desk).is_empty());
    }

    #[test]
    fn a_note_alone_waits_for_no_flush_and_a_change_behind_it_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut desk = desk(folder.path());
        let how = |desk: &Desk| -> i64 {
            desk.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).expect("a number")
        };
        let note = || {
            let (answer, answered) = oneshot::channel();
            let make = |_: &Rows<'_>| Ok(0_i64);
            let asked = Asked { worth: Worth::NoFlush, make: Some(make), made: None, answer };
            (Box::new(asked) as Box<dyn Change>, answered)
        };
        const NORMAL: i64 = 1;
        const FULL: i64 = 2;
        for (changes, expected) in [
            (vec![change("a", fine)], FULL),
            (vec![note()], NORMAL),
            (vec![note(), note()], NORMAL),
            (vec![note(), change("b", fine)], FULL),
        ] {
            assert!(take(&mut desk, changes).iter().all(Result::is_ok));
            assert_eq!(how(&desk), expected);
        }
    }
}
