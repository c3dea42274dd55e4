//! What anybody may see of how the service is, while the clock moves: up, late, down and up again.

use std::sync::Arc;
use std::time::Duration;

use highlevel::{Client, Dialect, Protocol};
use sandbox::{Fault, FaultKind, Matcher};
use server::{BudgetMode, Face, Front, GatewaySettings, Limits, Listener, Room, StatusPage, Street};
use tokens::records::{Badge, Maintenance};
use tokens::{Clock as _, Records, Subject, Trigger};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use upkeep::Upkeep;

use crate::support::{HOUR, House, Rest};
use crate::{INTERVAL, Plain, process};

/// A service that has just begun, which remembers nothing of what it showed before.
async fn front(house: &House, upkeep: &Arc<Upkeep>, records: &Arc<dyn Records>) -> Arc<Front> {
    let base = house.sandbox.base_url().parse().expect("an address");
    let client = Client::new(base, Dialect::Dated, None).expect("a client");
    let house = server::House {
        app: None,
        apps: Arc::new([]),
        keeper: upkeep.keeper().clone(),
        records: records.clone(),
        upkeep: upkeep.clone(),
        clock: house.clock.clone(),
        speech: Arc::new(Plain),
        languages: Vec::new(),
        consent: None,
        webhooks: None,
        installs: tokens::InstallPolicy::Approve,
        hosts: Vec::new(),
        audit: server::Audit::Counted,
        room: Room::within(1024, 1),
        gateway: GatewaySettings {
            client,
            protocol: Protocol::Http1,
            budget: BudgetMode::Observe,
            limits: Limits::APP,
            longest_body: None,
            at_once: 1,
            private: None,
        },
        status_page: StatusPage::On,
        settings: Vec::new(),
    };
    Front::open(house, "status".into()).await.expect("a service")
}

/// What strangers get.
async fn look(front: Arc<Front>, path: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let (stop, stopped) = watch::channel(false);
    let serving = Street::of(vec![front], Vec::new()).serve(Listener::Tcp(listener), Face::Public, stopped);
    let serving = tokio::spawn(serving);
    let mut stream = TcpStream::connect(address).await.expect("someone listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    stop.send_replace(true);
    serving.await.expect("it ends");
    answer
}

#[tokio::test]
async fn it_is_up_then_late_when_no_check_comes_then_down_when_one_finds_nothing_that_works() {
    let house = House::new(Rest::Sqlite).await;
    let (upkeep, records) = process(&house, Vec::new());
    for (name, about) in [("whole", None), ("one", Some(house.id.clone()))] {
        let badge = Badge { name: name.into(), about, label: "it".into(), created_at: house.clock.now() };
        records.add_badge(&badge).await.expect("room");
    }
    let is = async |word: &str| {
        let front = front(&house, &upkeep, &records).await;
        for path in ["/badge/whole.svg", "/badge/one.svg"] {
            let badge = look(front.clone(), path).await;
            assert!(badge.contains(&format!("<title>it: state-{word}</title>")), "{word} {path}: {badge}");
        }
        let page = look(front, "/status").await;
        assert!(page.contains(&format!("</span>public-{word}</h1>")), "{word}: {page}");
        page
    };
    is("unknown").await;
    upkeep.check(&house.id, Trigger::Clock).await.expect("a check");
    let page = is("up").await;
    assert!(page.contains("100 %"), "{page}");
    house.advance(INTERVAL + HOUR);
    is("up").await;
    house.advance(HOUR * 2);
    is("late").await;
    upkeep.watch_checks().await;
    is("late").await;
    upkeep.check(&house.id, Trigger::Clock).await.expect("a check");
    upkeep.watch_checks().await;
    is("up").await;
    // Nobody knows of one that is paused, and nobody waits for its checks.
    let pause = Maintenance {
        id: "m1".into(),
        subject: Some(Subject::Installation(house.id.clone())),
        from: house.clock.now(),
        until: None,
        reason: String::new(),
    };
    records.plan_maintenance(&pause).await.expect("room");
    house.advance(INTERVAL * 2);
    is("unknown").await;
    records.end_maintenance("m1", house.clock.now()).await.expect("ended");
    is("late").await;
    house.sandbox.fault(Fault::new(FaultKind::NotActive).on(Matcher::LocationRead).until_cleared());
    upkeep.check(&house.id, Trigger::Clock).await.expect("a check");
    let page = is("down").await;
    assert!(page.contains("66.66 %"), "two of three: {page}");
    // And nobody complains of it while it is.
    let again = Maintenance { id: "m2".into(), from: house.clock.now(), ..pause };
    records.plan_maintenance(&again).await.expect("room");
    is("unknown").await;
    records.end_maintenance("m2", house.clock.now()).await.expect("ended");
    house.sandbox.clear_faults();
    house.advance(Duration::from_secs(60));
    upkeep.check(&house.id, Trigger::Command).await.expect("a check");
    is("up").await;
}
