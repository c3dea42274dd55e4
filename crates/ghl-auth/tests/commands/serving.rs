//! A running service, and someone who takes its notices.

#![allow(dead_code, reason = "each story uses a part of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Home, Page, Running, http};

/// A service over a SQLite store with one grant in it, and a port of its own.
pub(crate) struct Service {
    pub(crate) home: Home,
    pub(crate) running: Running,
    pub(crate) address: String,
}

pub(crate) fn home() -> Home {
    let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db").log_in();
    home.set("GHL_AUTH_LISTEN", "127.0.0.1:0")
}

impl Service {
    pub(crate) fn start(home: Home) -> Self {
        let mut running = home.start(["serve"]);
        let said = running.until_it_says("Programs ask here: http://127.0.0.1:");
        let line = said.lines().find(|line| line.contains("Programs ask here")).expect("it says so");
        let address = line.rsplit(' ').next().expect("an address").to_owned();
        Self { home, running, address }
    }

    /// A key, which is good as soon as it is made.
    pub(crate) fn key(&self, arguments: &[&str]) -> String {
        let all = ["keys", "create", "--name"].iter().chain(arguments);
        self.home.run(all).good().out.trim().to_owned()
    }

    pub(crate) fn until(&self, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(30), "it never came to hold");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Page {
        let authorization = key.map(|key| format!("Bearer {key}"));
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        http(method, &format!("{}{path}", self.address), &headers, body)
    }

    pub(crate) fn get(&self, path: &str, key: Option<&str>) -> Page {
        self.ask("GET", path, key, "")
    }

    pub(crate) fn token(&self, key: &str) -> Page {
        self.get(&format!("/v1/locations/{}/token", self.home.location()), Some(key))
    }

    pub(crate) fn stop(self) {
        self.running.signal("TERM");
        self.running.end().good();
    }
}

pub(crate) fn document(page: &Page) -> Value {
    serde_json::from_str(&page.body).unwrap_or_else(|error| panic!("{error}: {}", page.body))
}

/// Someone who takes whatever is posted, or refuses it.
pub(crate) struct Listener {
    pub(crate) address: String,
    taken: Arc<Mutex<Vec<Taken>>>,
    status: Arc<Mutex<u16>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Listener {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (taken, status) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(200)));
        let (all, answer) = (taken.clone(), status.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let mut head = String::new();
                while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
                let length =
                    |line: &str| line.to_lowercase().strip_prefix("content-length: ")?.trim().parse().ok();
                let mut body = vec![0; head.lines().find_map(length).unwrap_or(0)];
                reader.read_exact(&mut body).ok();
                let body = String::from_utf8_lossy(&body).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                all.lock().expect("ours").push(Taken { path, head, body });
                let status = *answer.lock().expect("ours");
                let answer =
                    format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                reader.into_inner().write_all(answer.as_bytes()).ok();
            }
        });
        Self { address, taken, status }
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().expect("ours").clone()
    }

    pub(crate) fn answer(&self, status: u16) {
        *self.status.lock().expect("ours") = status;
    }

    pub(crate) fn until(&self, count: usize) -> Vec<Taken> {
        let began = Instant::now();
        while self.taken().len() < count {
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}", self.taken());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.taken()
    }
}
