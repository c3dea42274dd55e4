//! Someone who takes notices, or refuses them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use upkeep::{Post, Way};

#[derive(Clone)]
pub(crate) struct Hook {
    address: String,
    taken: Arc<Mutex<Vec<(String, Value)>>>,
    status: Arc<AtomicU16>,
}

impl Hook {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/", listener.local_addr().expect("an address"));
        let hook = Self { address, taken: Arc::default(), status: Arc::new(AtomicU16::new(200)) };
        let answering = hook.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hook = answering.clone();
                std::thread::spawn(move || hook.answer(BufReader::new(stream)));
            }
        });
        hook
    }

    fn answer(&self, mut reader: BufReader<std::net::TcpStream>) {
        let (mut length, mut id) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                break;
            }
            let (name, value) = line.trim().split_once(": ").unwrap_or_default();
            match name.to_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "webhook-id" => id = value.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok();
        let status = self.status.load(Ordering::SeqCst);
        if status == 200 {
            let body = serde_json::from_slice(&body).expect("JSON");
            self.taken.lock().expect("ours").push((id, body));
        }
        let answer = format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        reader.into_inner().write_all(answer.as_bytes()).ok();
    }

    /// The way to here.
    pub(crate) fn way(&self) -> Way {
        let post = Post::new(true);
        let to = post.address(&self.address).expect("an address");
        Way::webhook(post, to, None).expect("a way")
    }

    pub(crate) fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// What it took, by id.
    pub(crate) fn taken(&self) -> Vec<(String, Value)> {
        self.taken.lock().expect("ours").clone()
    }
}
