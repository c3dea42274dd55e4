//! Connections that can be cut at any byte of an answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

const WHOLE: u64 = u64::MAX;

/// The sandbox's end of all connections.
pub(crate) struct Wires(pub(crate) TcpListener);

impl Listener for Wires {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((tcp, from)) => {
                    // Small answers should not wait for more; a socket that refuses still works.
                    tcp.set_nodelay(true).ok();
                    return (Wire { tcp, shears: Shears::default() }, from);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection that stops writing where it was told to.
pub(crate) struct Wire {
    tcp: TcpStream,
    shears: Shears,
}

/// The handle with which a request cuts the connection it came on.
#[derive(Clone)]
pub(crate) struct Shears(Arc<Cut>);

struct Cut {
    left: AtomicU64,
    reset: AtomicBool,
}

impl Default for Shears {
    fn default() -> Self {
        Self(Arc::new(Cut { left: AtomicU64::new(WHOLE), reset: AtomicBool::new(false) }))
    }
}

impl Shears {
    /// Lets everything through again.
    pub(crate) fn open(&self) {
        self.0.left.store(WHOLE, Ordering::Relaxed);
    }

    /// Lets this many bytes through and then closes the connection.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.0.left.store(bytes.min(WHOLE - 1), Ordering::Relaxed);
    }

    /// Ends the connection with RST.
    pub(crate) fn reset(&self) {
        self.0.reset.store(true, Ordering::Relaxed);
        self.cut_after(0);
    }
}

impl Connected<IncomingStream<'_, Wires>> for Shears {
    fn connect_info(stream: IncomingStream<'_, Wires>) -> Self {
        stream.io().shears.clone()
    }
}

impl Wire {
    fn end(&self) -> io::Error {
        if self.shears.0.reset.load(Ordering::Relaxed) {
            self.tcp.set_zero_linger().ok();
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault")
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let left = self.shears.0.left.load(Ordering::Relaxed);
        if left == WHOLE {
            return Pin::new(&mut self.tcp).poll_write(context, bytes);
        }
        if left == 0 {
            return Poll::Ready(Err(self.end()));
        }
        let allowed = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let written = ready!(Pin::new(&mut self.tcp).poll_write(context, &bytes[..allowed]))?;
        self.shears.0.left.store(left - written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.shears.0.reset.load(Ordering::Relaxed) {
            true => Poll::Ready(Err(self.end())),
            false => Pin::new(&mut self.tcp).poll_shutdown(context),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, into)
    }
}
