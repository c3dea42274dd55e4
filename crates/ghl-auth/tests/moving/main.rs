//! Stories of grants that move: from store to store, into backups and out of them, from other programs,
//! and from leaked tokens to new ones. Nowhere do two stores refresh one grant.

mod archives;
mod houses;
mod imports;
mod migrations;
#[path = "../../../../tests/postgres/mod.rs"]
mod postgres;
mod rotation;
#[path = "../commands/serving.rs"]
mod serving;
#[path = "../commands/support.rs"]
mod support;
