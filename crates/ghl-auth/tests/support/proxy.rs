//! A way to the sandbox that breaks where it is told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where a connection breaks.
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// After so many bytes of the request have come through.
    Request(usize),
    /// After so many bytes of the answer have come through.
    Answer(usize),
}

/// How it breaks.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// Both ends are told (FIN).
    Close,
    /// Both ends are told rudely (RST).
    Reset,
    /// Nobody is told: what is sent from then on vanishes.
    Vanish,
}

/// A listener in front of the sandbox.
pub struct Proxy {
    pub address: SocketAddr,
    breaks: Arc<Mutex<VecDeque<(At, How)>>>,
}

impl Proxy {
    pub async fn before(base_url: &str) -> Self {
        let target = base_url.strip_prefix("http://").expect("an address").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let breaks: Arc<Mutex<VecDeque<(At, How)>>> = Arc::default();
        let queue = breaks.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let broken = queue.lock().expect("a queue").pop_front();
                tokio::spawn(carry(client, target.clone(), broken));
            }
        });
        Self { address, breaks }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks the next connection; several queue up.
    pub fn break_next(&self, at: At, how: How) {
        self.breaks.lock().expect("a queue").push_back((at, how));
    }
}

async fn carry(mut client: TcpStream, target: String, broken: Option<(At, How)>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (requests, answers) = match broken {
        None => (usize::MAX, usize::MAX),
        Some((At::Request(bytes), _)) => (bytes, usize::MAX),
        Some((At::Answer(bytes), _)) => (usize::MAX, bytes),
    };
    let (mut asked, mut answered) = (0, 0);
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    while asked < requests && answered < answers {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read?.min(requests - asked);
                if read == 0 {
                    return Ok(());
                }
                asked += read;
                server.write_all(&up[..read]).await?;
            }
            read = server.read(&mut down) => {
                let read = read?.min(answers - answered);
                if read == 0 {
                    return Ok(());
                }
                answered += read;
                client.write_all(&down[..read]).await?;
            }
        }
    }
    // What was passed on arrives before the connection ends.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    match broken {
        Some((_, How::Reset)) => {
            client.set_zero_linger()?;
            server.set_zero_linger()
        }
        Some((_, How::Vanish)) => std::future::pending().await,
        _ => Ok(()),
    }
}
