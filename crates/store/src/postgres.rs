//! Any number of installations in one PostgreSQL database, sealed, for any number of keepers at once.

pub(crate) mod pool;
pub(crate) mod records;

/// Only ever added to: the place in the list is the schema's version.
pub(crate) const MIGRATIONS: [&str; 1] = [include_str!("migrations/postgres/001_store.sql")];
