//! Stopping: whoever asks to, no refresh is left in the air.

use tokens::Keeper;
use tokio::signal::unix::{SignalKind, signal};

/// Completes when the process is asked to stop, by Ctrl-C or SIGTERM.
pub(crate) async fn asked_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Does `work`, or stops doing it when asked to stop; either way, refreshes that are in the air land
/// first, unless asked to stop once more. `None` means that it was stopped.
pub(crate) async fn landing_first<T>(keeper: &Keeper, work: impl Future<Output = T>) -> Option<T> {
    let done = tokio::select! {
        done = work => Some(done),
        () = asked_to_stop() => None,
    };
    tokio::select! {
        () = keeper.landed() => {}
        () = asked_to_stop() => {}
    }
    done
}
