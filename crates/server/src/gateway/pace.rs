//! The pace that is asked of callers: whoever sends or takes a body slowly holds a connection to HighLevel
//! meanwhile, and is not waited for without end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// A caller that sends nothing of its body for so long is not waited for.
const SENDS_WITHIN: Duration = Duration::from_secs(10);

/// After so long, a caller has to have sent or taken so much each second.
const MEASURED_AFTER: Duration = Duration::from_secs(30);
const LEAST_A_SECOND: u64 = 1024;

/// What went wrong with a caller's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    TooLong,
    TooSlow,
    Broken,
}

/// Where whoever waits for the answer finds out why the request did not come to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report(Arc<AtomicU8>);

impl Report {
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(Trouble::TooLong),
            2 => Some(Trouble::TooSlow),
            3 => Some(Trouble::Broken),
            _ => None,
        }
    }

    fn note(&self, trouble: Trouble) -> Stopped {
        let number = match trouble {
            Trouble::TooLong => 1,
            Trouble::TooSlow => 2,
            Trouble::Broken => 3,
        };
        self.0.store(number, Ordering::Relaxed);
        Stopped
    }
}

/// A body came to no good end; why is in the report, or does not matter any more.
#[derive(Debug, thiserror::Error)]
#[error("the body did not come to its end")]
pub(crate) struct Stopped;

/// A tally of what passes, and of how long the caller took for it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) bytes: u64,
    pub(crate) waited: Duration,
}

impl Tally {
    pub(crate) fn is_too_slow(&self) -> bool {
        self.waited > MEASURED_AFTER && self.bytes < self.waited.as_secs() * LEAST_A_SECOND
    }
}

/// The rest of a caller's body, on its way to HighLevel.
pub(crate) struct Sending<B> {
    body: B,
    /// What was read of it before.
    first: Option<Bytes>,
    longest: u64,
    report: Report,
    tally: Tally,
    /// Runs while the caller sends nothing.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    pub(crate) fn new(first: Bytes, body: B, longest: Option<u64>, report: Report) -> Self {
        let first = Some(first).filter(|first| !first.is_empty());
        let longest = longest.unwrap_or(u64::MAX);
        Self { body, first, longest, report, tally: Tally::default(), waiting: None }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Stopped> {
        self.tally.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        if self.tally.bytes > self.longest {
            return Err(self.report.note(Trouble::TooLong));
        }
        match self.tally.is_too_slow() {
            true => Err(self.report.note(Trouble::TooSlow)),
            false => Ok(frame),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Sending<B> {
    type Data = Bytes;
    type Error = Stopped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(this.take(Frame::data(first))));
        }
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => {
                if let Some((since, _)) = this.waiting.take() {
                    this.tally.waited += since.elapsed();
                }
                Poll::Ready(match frame {
                    Some(Ok(frame)) => Some(this.take(frame)),
                    Some(Err(_)) => Some(Err(this.report.note(Trouble::Broken))),
                    None => None,
                })
            }
            Poll::Pending => {
                let begin = || (Instant::now(), Box::pin(sleep(SENDS_WITHIN)));
                let (_, bell) = this.waiting.get_or_insert_with(begin);
                ready!(bell.as_mut().poll(context));
                Poll::Ready(Some(Err(this.report.note(Trouble::TooSlow))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }
}

/// An answer's body, on its way to a caller who may be slow to take it.
pub(crate) struct Taking<B, K> {
    body: B,
    tally: Tally,
    given_at: Option<Instant>,
    /// What the exchange holds, and gives back at its end.
    _kept: K,
}

impl<B, K> Taking<B, K> {
    pub(crate) fn new(body: B, kept: K) -> Self {
        Self { body, tally: Tally::default(), given_at: None, _kept: kept }
    }
}

impl<B: Body<Data = Bytes> + Unpin, K: Unpin> Body for Taking<B, K> {
    type Data = Bytes;
    type Error = Stopped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        let this = &mut *self;
        if let Some(given_at) = this.given_at.take() {
            this.tally.waited += given_at.elapsed();
        }
        if this.tally.is_too_slow() {
            return Poll::Ready(Some(Err(Stopped)));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|_| Stopped)?;
            this.tally.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            this.given_at = Some(Instant::now());
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    /// A body of so many bytes, one each so often.
    fn dripping(bytes: u64, every: Duration) -> impl Body<Data = Bytes, Error = Stopped> + Unpin {
        let stream = futures_util::stream::unfold(bytes, move |left| async move {
            let left = left.checked_sub(1)?;
            sleep(every).await;
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), left))
        });
        StreamBody::new(Box::pin(stream))
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_or_too_little_is_not_waited_for() {
        let check = |bytes, seconds, expected: Option<Trouble>| async move {
            let report = Report::default();
            let body = dripping(bytes, Duration::from_secs(seconds));
            let sent = Sending::new(Bytes::new(), body, None, report.clone()).collect().await;
            assert_eq!(
                (sent.is_err(), report.trouble()),
                (expected.is_some(), expected),
                "{bytes}, {seconds} s"
            );
        };
        check(3, 9, None).await;
        check(3, 11, Some(Trouble::TooSlow)).await;
        check(100, 1, Some(Trouble::TooSlow)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_too_little_is_not_waited_for() {
        let mut body = Taking::new(dripping(100, Duration::ZERO), ());
        let mut taken = 0;
        while let Some(Ok(_)) = body.frame().await {
            taken += 1;
            sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(taken, 16, "31 seconds for 16 bytes are too long");
        // HighLevel may take its time.
        let patient = Taking::new(dripping(20, Duration::from_secs(5)), ()).collect().await;
        assert_eq!(patient.expect("all of it").to_bytes().len(), 20);
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_it_may_be_and_no_longer() {
        let check = |length: usize, longest: u64, expected: Option<Trouble>| async move {
            let report = Report::default();
            let rest = Full::new(Bytes::from(vec![b'x'; length - 2]));
            let body = Sending::new(Bytes::from_static(b"ab"), rest, Some(longest), report.clone());
            assert_eq!(body.size_hint().exact(), Some(length as u64));
            let sent = body.collect().await.ok().map(|all| all.to_bytes().len());
            assert_eq!((sent, report.trouble()), (expected.is_none().then_some(length), expected));
        };
        check(10, 10, None).await;
        check(11, 10, Some(Trouble::TooLong)).await;
    }
}
