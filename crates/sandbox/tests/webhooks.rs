//! What an app is told, how it is signed, and how often.

mod common;

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use common::{CALLBACK, admin, sandbox, until, with};
use sandbox::{Manner, Order, Sandbox, Signature, UserType};
use serde_json::{Value, json};

/// An app that notes what it is told, and answers with these statuses in turn, then 200.
fn app(sandbox: &Sandbox, statuses: &[u16]) -> Arc<Mutex<Vec<(String, Value)>>> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    sandbox.send_webhooks_to(&format!("http://{}/hook", listener.local_addr().expect("an address")));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (ours, mut statuses) = (Arc::clone(&heard), statuses.iter().copied().collect::<VecDeque<u16>>());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut bytes = Vec::new();
            let (head, body) = loop {
                let mut some = [0; 4096];
                let count = stream.read(&mut some).expect("bytes");
                bytes.extend_from_slice(&some[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str::<Value>(body)
                {
                    break (head.to_owned(), body);
                }
            };
            ours.lock().expect("nobody panics with it").push((head, body));
            let status = statuses.pop_front().unwrap_or(200);
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").expect("taken");
        }
    });
    heard
}

fn kinds(heard: &Mutex<Vec<(String, Value)>>) -> Vec<String> {
    let heard = heard.lock().expect("nobody panics with it");
    heard.iter().map(|(_, body)| body["type"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_app_is_told_of_each_install_before_its_code_is_exchanged_and_of_its_end() {
    let sandbox = with(|settings| settings.extra_locations = 2);
    let heard = app(&sandbox, &[]);
    sandbox.approve(CALLBACK, None, UserType::Company);
    until(|| kinds(&heard).len() == 4);
    assert_eq!(sandbox.counts().exchanges, 0);
    let ids = sandbox.location_ids();
    admin(&sandbox, "POST", "/_sandbox/update", json!({ "location_id": ids[1] }));
    admin(&sandbox, "POST", "/_sandbox/uninstall", json!({ "location_id": ids[1] }));
    admin(&sandbox, "POST", "/_sandbox/install", json!({ "location_id": ids[1] }));
    admin(&sandbox, "POST", "/_sandbox/location", json!({ "location_id": "new" }));
    until(|| kinds(&heard).len() == 8);
    let mut kinds = kinds(&heard);
    kinds.sort();
    assert_eq!(kinds[..5], ["INSTALL"; 5]);
    assert_eq!(kinds[5..], ["LocationCreate", "UNINSTALL", "UPDATE"]);
    let heard = heard.lock().expect("nobody panics with it");
    let company = heard.iter().find(|(_, body)| body["installType"] == "Company").expect("the company's");
    assert_eq!(company.1["companyId"], json!(sandbox.settings().company_id));
    assert_eq!(company.1["appId"], json!(sandbox.settings().app_id()));
    assert!(company.1.get("locationId").is_none() && company.1["webhookId"].is_string());
    assert!(heard.iter().all(|(head, _)| head.contains("x-ghl-signature: ") && !head.contains("x-wh-")));
    assert!(sandbox.env_file().contains(&sandbox.webhook_public_key()));
}

#[test]
fn what_is_not_taken_comes_again_word_for_word() {
    let sandbox = sandbox();
    let heard = app(&sandbox, &[503, 429, 302]);
    sandbox.install(&sandbox.settings().location_id.clone());
    until(|| sandbox.sent_webhooks().iter().any(|sent| sent.answers == [503, 429, 302, 200]));
    let heard = heard.lock().expect("nobody panics with it");
    assert!(heard.len() == 4 && heard.iter().all(|it| *it == heard[0]), "{heard:?}");
}

#[test]
fn a_webhook_goes_wrong_in_each_way_that_is_asked_for() {
    let sandbox = sandbox();
    let location = sandbox.settings().location_id.clone();
    let heard = app(&sandbox, &[]);
    let headers = |signature: Signature| {
        sandbox.set_webhook_manner(Manner { signature, ..Manner::default() });
        let before = kinds(&heard).len();
        sandbox.install(&location);
        until(|| kinds(&heard).len() == before + 1);
        heard.lock().expect("nobody panics with it")[before].0.clone()
    };
    for (signature, present, legacy) in [
        (Signature::Present, true, false),
        (Signature::WrongKey, true, false),
        (Signature::Legacy, false, true),
        (Signature::Both, true, true),
        (Signature::NotApplicable, true, true),
        (Signature::Missing, false, false),
    ] {
        let head = headers(signature);
        assert_eq!(head.contains("x-ghl-signature: "), present, "{signature:?}: {head}");
        assert_eq!(head.contains("x-wh-signature: "), legacy, "{signature:?}: {head}");
        assert_eq!(head.contains("x-ghl-signature: N/A"), signature == Signature::NotApplicable, "{head}");
    }
    let manner = json!({ "without": ["companyId", "userId"], "twice": true, "held": true });
    assert_eq!(admin(&sandbox, "POST", "/_sandbox/webhooks/manner", manner).status, 200);
    let before = kinds(&heard).len();
    sandbox.install(&location);
    sandbox.uninstall(&location);
    assert_eq!((sandbox.held_webhooks(), kinds(&heard).len()), (4, before));
    sandbox.let_webhooks_go(Order::Last);
    until(|| kinds(&heard).len() == before + 4);
    let sent = sandbox.sent_webhooks();
    let bodies: Vec<&str> = sent[before..].iter().map(|sent| sent.body.as_str()).collect();
    assert!(bodies[0].contains("UNINSTALL") && bodies[0] == bodies[1], "{bodies:?}");
    assert!(bodies[3].contains("INSTALL") && bodies[2] == bodies[3], "{bodies:?}");
    assert!(!bodies[3].contains("companyId") && !bodies[3].contains("userId"), "{bodies:?}");
    sandbox.replay_webhooks();
    until(|| kinds(&heard).len() == 2 * (before + 4));
}
