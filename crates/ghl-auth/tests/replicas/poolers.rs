//! A pooler between the replicas and the database.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::house::{House, Replica};
use crate::postgres::{self, Server};

/// T-155.
#[test]
fn a_pooler_in_transaction_mode_may_stand_in_between() {
    let server = postgres::server();
    let direct = server.fresh_schema();
    let schema = postgres::schema_of(&direct).to_owned();
    let pooler = Pooler::before(server);
    let address = format!(
        "postgres://keeper:{}@127.0.0.1:{}/postgres?schema={schema}",
        postgres::PASSWORD,
        pooler.port
    );
    // Made, migrated and logged in through it, too.
    let house = House::fresh(address, 3);
    let key = house.api_key();
    let replicas: Vec<Replica> = house.replicas(2);
    for id in &house.ids {
        let refreshed = house.run(&["refresh", "--location", id.as_str()]);
        assert!(refreshed.status.success(), "{}", String::from_utf8_lossy(&refreshed.stderr));
        for replica in &replicas {
            let began = Instant::now();
            while replica.token(&key, id).generation() != 2 {
                assert!(began.elapsed() < Duration::from_secs(2), "{:?}", replica.token(&key, id));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    let checked = house.run(&["keys", "list"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!((house.refusals(), house.lost()), (Vec::new(), Vec::new()));
}

struct Pooler {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    fn before(server: &Server) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = postgres::free_port();
        let settings = folder.path().join("pgbouncer.ini");
        let users = folder.path().join("users.txt");
        std::fs::write(&users, format!("\"keeper\" \"{}\"\n", postgres::PASSWORD)).expect("room");
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = plain\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 8\n\
             max_client_conn = 200\n",
            server.port(),
            users.display(),
        );
        std::fs::write(&settings, text).expect("room");
        open_to_all(folder.path());
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = command(&settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("pgbouncer is installed");
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(10), "pgbouncer does not begin: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, _folder: folder }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It refuses to be root, so it is whoever PostgreSQL is.
fn command(settings: &Path) -> Command {
    let program = "/usr/sbin/pgbouncer";
    let mut command = match nix::unistd::geteuid().is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", program]);
            command
        }
        false => Command::new(program),
    };
    command.arg(settings).current_dir("/");
    command
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("ours");
}
