//! The calls of a session that are under way.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tertulia_proto::live::Reply;
use tokio::time::{Instant, Sleep, sleep_until};

use super::burst::Sending;

/// What is under way.
///
/// A call alone brings its deadline. Those that go together, which are most, share one timer: it is set for the first of
/// them, and is not touched when they are done before it; then it is set anew for whoever is first by then. So under load
/// it is set once in the time that a call may take.
#[derive(Default)]
pub struct Calls {
    alone: Option<Box<FuturesUnordered<BoxFuture<'static, Reply>>>>,
    together: VecDeque<(Instant, Sending)>,
    timer: Option<Pin<Box<Sleep>>>,
    /// How many calls they all are.
    len: usize,
}

impl Calls {
    /// How many are under way.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether calls that go together are.
    pub fn has_together(&self) -> bool {
        !self.together.is_empty()
    }

    /// A call alone, which has a deadline of its own.
    pub fn push(&mut self, call: BoxFuture<'static, Reply>) {
        self.len += 1;
        self.alone.get_or_insert_default().push(call);
    }

    /// Calls that go together, and until when they may take.
    pub fn push_together(&mut self, calls: Sending, deadline: Instant) {
        self.len += calls.len();
        self.together.push_back((deadline, calls));
    }

    /// The next answers; none when nothing is under way. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<Reply>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Calls::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<Reply>>> {
        let replies = ready!(self.poll_replies(cx));
        self.len -= replies.as_ref().map_or(0, Vec::len);
        Poll::Ready(replies)
    }

    fn poll_replies(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<Reply>>> {
        if self.len == 0 {
            return Poll::Ready(None);
        }
        for place in 0..self.together.len() {
            if let Poll::Ready(replies) = self.together[place].1.poll(cx) {
                self.together.remove(place);
                return Poll::Ready(Some(replies));
            }
        }
        if let Some(alone) = &mut self.alone {
            match alone.poll_next_unpin(cx) {
                Poll::Ready(Some(reply)) => return Poll::Ready(Some(vec![reply])),
                Poll::Ready(None) => self.alone = None,
                Poll::Pending => {}
            }
        }
        self.poll_late(cx).map(Some)
    }

    /// The answers of those that have had their time.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Reply>> {
        while let Some(first) = self.together.iter().map(|(at, _)| *at).min() {
            let timer = match &mut self.timer {
                Some(timer) if timer.deadline() <= first => timer,
                timer => timer.insert(Box::pin(sleep_until(first))),
            };
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            let now = Instant::now();
            if let Some(place) = self.together.iter().position(|(at, _)| *at <= now)
                && let Some((_, calls)) = self.together.remove(place)
            {
                return Poll::Ready(calls.late());
            }
        }
        Poll::Pending
    }

    /// When nothing is under way, nothing is held.
    pub fn rest(&mut self) {
        if self.len == 0 {
            *self = Calls::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::FutureExt as _;
    use tertulia_proto::live::__buffa::oneof::reply;
    use tokio::sync::oneshot;

    use super::super::burst::tests::sending;
    use super::*;

    const MOMENT: Duration = Duration::from_millis(10);

    fn after(moments: u32) -> Instant {
        Instant::now() + MOMENT * moments
    }

    /// Calls that nothing comes of.
    fn never(ids: &[u64]) -> Sending {
        sending(ids, std::future::pending())
    }

    /// Which calls were answered, and the codes of those that failed.
    fn told(replies: Option<Vec<Reply>>) -> (Vec<u64>, Vec<String>) {
        let replies = replies.expect("something is under way");
        let codes = replies.iter().filter_map(|reply| match &reply.result {
            Some(reply::Result::Error(error)) => Some(error.code.clone()),
            _ => None,
        });
        (replies.iter().map(|r| r.call_id).collect(), codes.collect())
    }

    fn all_late(ids: &[u64]) -> (Vec<u64>, Vec<String>) {
        let codes = ids.iter().map(|_| "deadline_exceeded".to_owned());
        (ids.to_vec(), codes.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_done_first_is_answered_first() {
        let mut calls = Calls::default();
        let (first, begun) = oneshot::channel();
        let work = async { begun.await.unwrap() };
        calls.push_together(sending(&[1, 2], work), after(1));
        calls.push_together(sending(&[3], async { vec![] }), after(1));
        let alone = Reply {
            call_id: 4,
            ..Default::default()
        };
        calls.push(async { alone }.boxed());
        assert_eq!(calls.len(), 4);
        assert_eq!(told(calls.next().await).0, [3]);
        assert_eq!(told(calls.next().await).0, [4]);
        assert!(calls.next().now_or_never().is_none());
        first.send(vec![]).ok().unwrap();
        assert_eq!(told(calls.next().await).0, [1, 2]);
        assert_eq!(calls.len(), 0);
        assert!(calls.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn each_has_its_own_time_though_the_timer_is_one() {
        let mut calls = Calls::default();
        let began = Instant::now();
        calls.push_together(never(&[1]), after(5));
        assert!(calls.next().now_or_never().is_none());
        calls.push_together(never(&[2, 3]), after(2));
        calls.push_together(never(&[4]), after(9));
        assert_eq!(told(calls.next().await), all_late(&[2, 3]));
        assert_eq!(
            began.elapsed() / MOMENT.as_millis() as u32,
            Duration::from_millis(2)
        );
        assert_eq!(told(calls.next().await), all_late(&[1]));
        assert_eq!(
            began.elapsed() / MOMENT.as_millis() as u32,
            Duration::from_millis(5)
        );
        assert_eq!(told(calls.next().await), all_late(&[4]));
        assert_eq!(
            began.elapsed() / MOMENT.as_millis() as u32,
            Duration::from_millis(9)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_when_others_are_done_is_late_at_its_own_time() {
        let mut calls = Calls::default();
        let (done, waits) = oneshot::channel();
        let work = async { waits.await.unwrap() };
        calls.push_together(sending(&[1], work), after(2));
        assert!(calls.next().now_or_never().is_none());
        done.send(vec![]).ok().unwrap();
        assert_eq!(told(calls.next().await).0, [1]);
        // The timer is still set for the first.
        tokio::time::advance(MOMENT).await;
        calls.push_together(never(&[2]), after(2));
        let began = Instant::now();
        assert_eq!(told(calls.next().await), all_late(&[2]));
        assert!(began.elapsed() >= MOMENT * 2);
    }

    #[tokio::test]
    async fn a_panic_fails_the_calls_that_it_is_of() {
        let mut calls = Calls::default();
        calls.push_together(sending(&[1, 2], async { panic!("on purpose") }), after(1));
        let (ids, codes) = told(calls.next().await);
        assert_eq!(ids, [1, 2]);
        assert_eq!(codes, ["internal", "internal"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_goes_no_further() {
        struct Dropped(Arc<AtomicUsize>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(AtomicUsize::new(0));
        let dropped = Dropped(Arc::clone(&count));
        let work = async move {
            let _dropped = dropped;
            std::future::pending().await
        };
        let mut calls = Calls::default();
        calls.push_together(sending(&[1], work), after(1));
        assert_eq!(told(calls.next().await), all_late(&[1]));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
