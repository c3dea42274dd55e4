//! Connections to PostgreSQL, and what is promised of each.
//!
//! No statement relies on a session: none is prepared under a name, no setting outlives its
//! transaction, tables are named with their schema (`@.` in the texts below stands for it). So a
//! pooler that hands a connection from one transaction to the next may stand in between.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, RecyclingMethod, Runtime};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokens::StoreError;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::trouble::DatabaseTrouble;
use crate::disk::failed;
use crate::url::{Encryption, PostgresUrl};

/// How long a connection may take to be made, and how long one waits for a free one.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the database may take for what we ask it; beyond that it is as good as down.
const ANSWER: Duration = Duration::from_secs(10);

/// How long long work may take: a migration, a list of everything, many rows at once.
const LONG_WORK: Duration = Duration::from_secs(600);

/// The values that go with a statement, each with its type, so that one round trip does.
pub(crate) type Values<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// Why PostgreSQL or what it holds did not do: turned into a `StoreError` where the place is known.
#[derive(Debug)]
pub(crate) enum Failure {
    Postgres(tokio_postgres::Error),
    /// No connection could be had.
    NoConnection(Box<dyn std::error::Error + Send + Sync>),
    /// It did not answer in time.
    Silent,
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    pub(crate) fn at(self, doing: &'static str, place: &str) -> StoreError {
        let database = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Database {
            doing,
            place: place.to_owned(),
            source: Arc::from(source),
        };
        match self {
            Self::Store(error) => error,
            Self::Postgres(error) if is_read_only(&error) => StoreError::ReadOnly { place: place.to_owned() },
            Self::Postgres(error) => database(DatabaseTrouble::of(&error).into()),
            Self::NoConnection(error) => database(error),
            Self::Silent => database(DatabaseTrouble::silent().into()),
        }
    }

    /// Whether what was asked may have been done all the same.
    pub(crate) fn leaves_unknown(&self) -> bool {
        match self {
            // Whatever the server says of a statement or a commit, it did not do it; except that it is
            // about to go.
            Self::Postgres(error) => error.code().is_none_or(is_goodbye),
            Self::Silent => true,
            Self::NoConnection(_) | Self::Store(_) => false,
        }
    }

    /// Whether another attempt is likely to go well: another transaction was in the way, or began the
    /// same row first, where it is found when one looks again.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Postgres(error) => error.code().is_some_and(|code| {
                [
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::T_R_DEADLOCK_DETECTED,
                    SqlState::UNIQUE_VIOLATION,
                ]
                .contains(code)
            }),
            _ => false,
        }
    }
}

fn is_goodbye(code: &SqlState) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
}

fn is_read_only(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// A few connections to one database, made when they are needed.
#[derive(Clone)]
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    connections: deadpool_postgres::Pool,
    config: Config,
    tls: Tls,
    schema: String,
    place: String,
}

#[derive(Clone)]
enum Tls {
    None,
    Rustls(MakeRustlsConnect),
}

impl Pool {
    /// Reaches the database, and refuses one that takes no writes or does not keep them.
    pub(crate) async fn connect(url: &PostgresUrl) -> Result<Self, StoreError> {
        let mut config = url.config().clone();
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        config.keepalives_idle(Duration::from_secs(15));
        config.keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(10));
        if config.get_application_name().is_none() {
            config.application_name("ghl-auth");
        }
        let tls = match url.encryption() {
            Encryption::None => Tls::None,
            Encryption::VerifyFull(roots) => Tls::Rustls(verifying(roots.as_deref())?),
        };
        config.ssl_mode(match tls {
            Tls::None => tokio_postgres::config::SslMode::Disable,
            Tls::Rustls(_) => tokio_postgres::config::SslMode::Require,
        });
        let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match tls.clone() {
            Tls::None => Manager::from_config(config.clone(), NoTls, how),
            Tls::Rustls(tls) => Manager::from_config(config.clone(), tls, how),
        };
        let place = url.to_string();
        let connections = deadpool_postgres::Pool::builder(manager)
            .runtime(Runtime::Tokio1)
            .max_size(url.connections())
            .wait_timeout(Some(CONNECT))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .build()
            .map_err(|error| Failure::NoConnection(error.into()).at("open", &place))?;
        let inner = Inner { connections, config, tls, schema: url.schema().to_owned(), place };
        let pool = Self { inner: Arc::new(inner) };
        pool.refuse_unfit().await.map_err(|failure| failure.at("open", pool.place()))?;
        Ok(pool)
    }

    /// What to call the database to people: its address without the password.
    pub(crate) fn place(&self) -> &str {
        &self.inner.place
    }

    /// The name of the schema that holds everything.
    pub(crate) fn schema(&self) -> &str {
        &self.inner.schema
    }

    /// A statement with `@.` turned into the schema's name.
    pub(crate) fn sql(&self, text: &str) -> String {
        text.replace("@.", &format!("{}.", self.inner.schema))
    }

    async fn refuse_unfit(&self) -> Result<(), Failure> {
        let sql = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
            current_setting('synchronous_commit'), current_setting('server_version_num')::int";
        let row = self.query_one(sql, &[]).await?;
        let keeps_writes: String = row.get(1);
        if row.get(0) {
            return Err(StoreError::ReadOnly { place: self.place().to_owned() }.into());
        }
        if keeps_writes == "off" {
            let why =
                "`synchronous_commit` is off there: what it says is saved would not survive a power cut";
            return Err(Failure::NoConnection(why.into()));
        }
        if row.get::<_, i32>(2) < 130_000 {
            return Err(Failure::NoConnection("it is older than PostgreSQL 13".into()));
        }
        Ok(())
    }

    /// A connection of the pool.
    pub(crate) async fn client(&self) -> Result<Object, Failure> {
        self.inner.connections.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => Failure::Postgres(error),
            deadpool_postgres::PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => {
                Failure::NoConnection("all connections are busy".into())
            }
            deadpool_postgres::PoolError::Timeout(_) => Failure::Silent,
            error => Failure::NoConnection(error.into()),
        })
    }

    /// A connection that belongs to nobody else and is not the pool's; what the server says unasked
    /// goes to `heard`.
    pub(crate) async fn apart(
        &self,
        heard: impl FnMut(tokio_postgres::AsyncMessage) + Send + 'static,
    ) -> Result<Client, Failure> {
        match &self.inner.tls {
            Tls::None => {
                let (client, connection) = self.inner.config.connect(NoTls).await?;
                listen(connection, heard);
                Ok(client)
            }
            Tls::Rustls(tls) => {
                let (client, connection) = self.inner.config.connect(tls.clone()).await?;
                listen(connection, heard);
                Ok(client)
            }
        }
    }

    /// Asks one statement, in one round trip and a transaction of its own.
    pub(crate) async fn query(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Failure> {
        let client = self.client().await?;
        // Should whoever asks go away in the middle, it is done all the same, and the next to have the
        // connection waits for that.
        let answered = answer(&client, sql, values, ANSWER).await;
        if let Err(failure) = &answered
            && !leaves_usable(failure)
        {
            self.abandon(client);
        }
        answered
    }

    /// Like `query`, for one row at most.
    pub(crate) async fn query_opt(&self, sql: &str, values: Values<'_>) -> Result<Option<Row>, Failure> {
        Ok(self.query(sql, values).await?.into_iter().next())
    }

    /// Like `query`, for what always has a row.
    pub(crate) async fn query_one(&self, sql: &str, values: Values<'_>) -> Result<Row, Failure> {
        let row = self.query_opt(sql, values).await?;
        row.ok_or_else(|| Failure::NoConnection("it answered without a row".into()))
    }

    /// Begins a transaction that is durable when its `commit` has returned.
    pub(crate) async fn transaction(&self) -> Result<Transaction, Failure> {
        self.begin("BEGIN; SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '5s'", ANSWER).await
    }

    /// Begins one that is not worth a flush: the next that is takes it to the disk.
    pub(crate) async fn transaction_without_a_flush(&self) -> Result<Transaction, Failure> {
        let sql = "BEGIN; SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '5s';
            SET LOCAL synchronous_commit = off";
        self.begin(sql, ANSWER).await
    }

    /// Begins one for work that takes its time.
    pub(crate) async fn long_transaction(&self) -> Result<Transaction, Failure> {
        let sql = "BEGIN; SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '1min'";
        self.begin(sql, LONG_WORK).await
    }

    async fn begin(&self, sql: &str, patience: Duration) -> Result<Transaction, Failure> {
        let mut transaction =
            Transaction { pool: self.clone(), client: Some(self.client().await?), patience };
        let begun = match tokio::time::timeout(ANSWER, transaction.batch_execute(sql)).await {
            Ok(begun) => begun.map_err(Failure::from),
            Err(_) => Err(Failure::Silent),
        };
        match begun {
            Ok(()) => Ok(transaction),
            Err(failure) => {
                transaction.give_up();
                Err(failure)
            }
        }
    }

    /// Stops what a connection is at, and lets it go.
    fn abandon(&self, client: Object) {
        let client = Object::take(client);
        let cancel = client.cancel_token();
        let tls = self.inner.tls.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let stopped = async {
                    match tls {
                        Tls::None => cancel.cancel_query(NoTls).await,
                        Tls::Rustls(tls) => cancel.cancel_query(tls).await,
                    }
                };
                let _ = tokio::time::timeout(CONNECT, stopped).await;
            });
        }
        drop(client);
    }

    /// Brings the tables of one part of the database to the present version, all the way or not at all.
    ///
    /// `migrations` are only ever added to. What runs of each is what `version` finds missing, under a
    /// lock that ends with the transaction; nothing is written where nothing is missing.
    pub(crate) async fn migrate(
        &self,
        part: &str,
        migrations: &[&str],
        begin: &[(&str, Vec<u8>)],
    ) -> Result<(), Failure> {
        let latest = i32::try_from(migrations.len()).unwrap_or(i32::MAX);
        match self.version(part).await? {
            version if version == latest => return Ok(()),
            version if version > latest => {
                return Err(StoreError::TooNew { place: self.place().to_owned() }.into());
            }
            _ => {}
        }
        let transaction = self.long_transaction().await?;
        transaction.wait_for_others_who_build().await?;
        let there = "SELECT to_regnamespace($1) IS NOT NULL";
        let there: bool = transaction.one(there, &[(&self.schema(), Type::TEXT)]).await?.get(0);
        if !there {
            transaction.batch_execute(&format!("CREATE SCHEMA {}", self.schema())).await?;
        }
        let table = "CREATE TABLE IF NOT EXISTS @.versions (part text PRIMARY KEY, version integer NOT NULL)";
        transaction.batch_execute(&self.sql(table)).await?;
        // Someone else may have been faster while we waited.
        let applied = "SELECT version FROM @.versions WHERE part = $1";
        let applied = transaction.ask(&self.sql(applied), &[(&part, Type::TEXT)]).await?;
        let applied: i32 = applied.first().map_or(0, |row| row.get(0));
        if applied > latest {
            return Err(StoreError::TooNew { place: self.place().to_owned() }.into());
        }
        for migration in &migrations[usize::try_from(applied).unwrap_or_default()..] {
            transaction.batch_execute(&self.sql(migration)).await?;
        }
        if applied == 0 {
            for (name, value) in begin {
                let sql = self.sql("INSERT INTO @.meta (name, value) VALUES ($1, $2)");
                transaction.ask(&sql, &[(name, Type::TEXT), (value, Type::BYTEA)]).await?;
            }
        }
        let set = "INSERT INTO @.versions VALUES ($1, $2)
            ON CONFLICT (part) DO UPDATE SET version = excluded.version";
        transaction.ask(&self.sql(set), &[(&part, Type::TEXT), (&latest, Type::INT4)]).await?;
        transaction.commit().await
    }

    /// Up to which migration one part of the database has come; nought where there is nothing of it.
    pub(crate) async fn version(&self, part: &str) -> Result<i32, Failure> {
        let there = "SELECT to_regclass($1) IS NOT NULL";
        let versions = format!("{}.versions", self.schema());
        if !self.query_one(there, &[(&versions, Type::TEXT)]).await?.get::<_, bool>(0) {
            return Ok(0);
        }
        let sql = self.sql("SELECT version FROM @.versions WHERE part = $1");
        let row = self.query_opt(&sql, &[(&part, Type::TEXT)]).await?;
        Ok(row.map_or(0, |row| row.get(0)))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.place())
    }
}

async fn answer(
    client: &Client,
    sql: &str,
    values: Values<'_>,
    patience: Duration,
) -> Result<Vec<Row>, Failure> {
    match tokio::time::timeout(patience, client.query_typed(sql, values)).await {
        Ok(rows) => Ok(rows?),
        Err(_) => Err(Failure::Silent),
    }
}

/// Whether the connection is good for more. One that turned out to take no writes is not: the next may
/// lead to the database that does.
fn leaves_usable(failure: &Failure) -> bool {
    match failure {
        Failure::Postgres(error) => {
            error.code().is_some_and(|code| !is_goodbye(code)) && !is_read_only(error)
        }
        Failure::Silent => false,
        Failure::NoConnection(_) | Failure::Store(_) => true,
    }
}

/// A transaction that is open on a connection of its own. Dropped without a commit, it is undone.
pub(crate) struct Transaction {
    pool: Pool,
    client: Option<Object>,
    patience: Duration,
}

impl Transaction {
    /// From now on until this ends, nobody else changes what the schema is made of.
    pub(crate) async fn wait_for_others_who_build(&self) -> Result<(), Failure> {
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('ghl-auth ' || $1, 0))";
        self.ask(lock, &[(&self.pool.schema(), Type::TEXT)]).await.map(drop)
    }

    /// Asks one statement.
    pub(crate) async fn ask(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Failure> {
        answer(self, sql, values, self.patience).await
    }

    /// Like `ask`, for one row at most.
    pub(crate) async fn opt(&self, sql: &str, values: Values<'_>) -> Result<Option<Row>, Failure> {
        Ok(self.ask(sql, values).await?.into_iter().next())
    }

    /// Like `ask`, for what always has a row.
    pub(crate) async fn one(&self, sql: &str, values: Values<'_>) -> Result<Row, Failure> {
        let row = self.opt(sql, values).await?;
        row.ok_or_else(|| Failure::NoConnection("it answered without a row".into()))
    }

    /// Makes all of it durable. An error may leave unknown whether it is: see `Failure::leaves_unknown`.
    pub(crate) async fn commit(mut self) -> Result<(), Failure> {
        let done = match tokio::time::timeout(self.patience, self.simple_query("COMMIT")).await {
            Ok(done) => done.map(drop).map_err(Failure::from),
            Err(_) => Err(Failure::Silent),
        };
        match &done {
            Ok(()) => drop(self.client.take()),
            Err(_) => self.give_up(),
        }
        done
    }

    fn give_up(&mut self) {
        if let Some(client) = self.client.take() {
            self.pool.abandon(client);
        }
    }
}

impl Deref for Transaction {
    type Target = Client;

    fn deref(&self) -> &Client {
        // It is there until the transaction ends, and that takes the transaction itself.
        self.client.as_deref().map(Deref::deref).expect("a transaction has its connection")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !client.is_closed() => {
                let pool = self.pool.clone();
                runtime.spawn(async move {
                    match tokio::time::timeout(CONNECT, client.batch_execute("ROLLBACK")).await {
                        Ok(Ok(())) => drop(client),
                        _ => pool.abandon(client),
                    }
                });
            }
            _ => drop(Object::take(client)),
        }
    }
}

fn listen<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    mut heard: impl FnMut(tokio_postgres::AsyncMessage) + Send + 'static,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            heard(message);
        }
    });
}

/// TLS that trusts Mozilla's authorities, or those in a PEM file instead, and checks the name.
fn verifying(roots: Option<&Path>) -> Result<MakeRustlsConnect, StoreError> {
    let mut trusted = rustls::RootCertStore::empty();
    match roots {
        None => trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let odd = |error: rustls_pki_types::pem::Error| match error {
                rustls_pki_types::pem::Error::Io(error) => failed("read", path)(error),
                other => unreadable(path, other.to_string()),
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(odd)? {
                // A bundle may hold one that rustls does not take; the others still count.
                let _ = trusted.add(certificate.map_err(odd)?);
            }
            if trusted.is_empty() {
                return Err(unreadable(path, "there is no certificate in it".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unreadable(Path::new("TLS"), error.to_string()))?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn unreadable(path: &Path, why: String) -> StoreError {
    StoreError::Unreadable { place: path.display().to_string(), why }
}
