//! The thread on which a sandbox runs: it plays another computer, and so never shares its caller's runtime.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use tokio::runtime;
use tokio::sync::watch;

use crate::desk::{self, Desk};
use crate::wire::{Shears, Wires};

/// How long answers that are under way may take when the sandbox stops.
const PATIENCE: Duration = Duration::from_secs(2);

/// Stops the sandbox when dropped.
pub(crate) struct Server {
    stop: watch::Sender<bool>,
    /// Closed by the thread's end.
    alive: watch::Receiver<()>,
}

impl Server {
    pub(crate) fn start(listener: TcpListener, desk: Arc<Desk>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopping) = watch::channel(false);
        let (living, alive) = watch::channel(());
        thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
            runtime.block_on(serve(Wires(listener), desk, stopping));
            runtime.shutdown_background();
            drop(living);
        })?;
        Ok(Self { stop, alive })
    }

    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        self.stopped().await;
    }

    pub(crate) async fn stopped(&self) {
        // Nothing is ever sent: this returns when the thread has ended.
        self.alive.clone().changed().await.ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn serve(wires: Wires, desk: Arc<Desk>, stopping: watch::Receiver<bool>) {
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        // An error means that nobody is left who could ask for anything.
        stopping.wait_for(|stop| *stop).await.ok();
    };
    let app = Router::new()
        .fallback(desk::serve)
        .with_state(desk.clone())
        .into_make_service_with_connect_info::<Shears>();
    let serving = axum::serve(wires, app).with_graceful_shutdown(stopped(stopping.clone()));
    let carrying = desk.webhooks.carry(stopping.clone());
    let patience_ends = async {
        stopped(stopping).await;
        tokio::time::sleep(PATIENCE).await;
    };
    let serving = async {
        tokio::join!(async { serving.await.ok() }, carrying);
    };
    tokio::select! {
        () = serving => {}
        () = patience_ends => {}
    }
}
