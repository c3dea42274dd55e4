//! A few connections that only read, so that no reader waits for a writer's flush.
//!
//! Each is opened when it is first needed: a program that asks one thing has one.

use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokens::StoreError;
use tokio::sync::Semaphore;

use super::database::{self, Failure, Rows, Shared};
use crate::data_file::held;
use crate::disk::apart;

/// So many may read at once.
const READERS: usize = 4;

/// How much of the database each of them keeps in memory, in KiB.
const CACHE: i64 = 256;

/// Those who read.
pub(super) struct Readers {
    room: Arc<Semaphore>,
    desks: Arc<Desks>,
}

struct Desks {
    free: Mutex<Vec<Connection>>,
    shared: Arc<Shared>,
}

impl Readers {
    pub(super) fn of(shared: Arc<Shared>) -> Self {
        let desks = Arc::new(Desks { free: Mutex::default(), shared });
        Self { room: Arc::new(Semaphore::new(READERS)), desks }
    }

    /// Reads; what it reads is of one moment, after every change that someone was told of.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Rows<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        // The semaphore is never closed.
        let room = self.room.clone().acquire_owned().await.ok();
        let desks = self.desks.clone();
        let look = move || {
            let _room = room;
            desks.read(look)
        };
        apart(&self.desks.shared.path, look).await
    }
}

impl Desks {
    fn read<T>(&self, look: impl FnOnce(&Rows<'_>) -> Result<T, Failure>) -> Result<T, StoreError> {
        self.shared.trusted()?;
        let free = held(&self.free).pop();
        let done = (|| {
            let mut connection = free.map_or_else(|| self.open(), Ok)?;
            let seen = {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
                look(&self.shared.rows(&transaction))
            };
            held(&self.free).push(connection);
            seen
        })();
        done.map_err(|failure| failure.at("read", &self.shared.path))
    }

    fn open(&self) -> Result<Connection, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.shared.path, flags)?;
        connection.busy_timeout(database::WAIT_FOR_OTHERS)?;
        connection.pragma_update(None, "cache_size", -CACHE)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        database::refuse_foreign(&connection, &self.shared.path)?;
        Ok(connection)
    }
}
