//! What systemd is told of the service, where it asked to be (`Type=notify`).

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};

/// The service answers.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Settings are being read anew.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The service ends what is at hand.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Nothing hangs.
pub(crate) fn still_alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often systemd is to hear that nothing hangs: twice in the time that it would wait.
pub(crate) fn watchdog_period() -> Option<Duration> {
    watchdog_enabled().map(|patience| patience / 2).filter(|period| !period.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    // Without systemd nobody listens, and that is well.
    let _ = notify(states);
}
