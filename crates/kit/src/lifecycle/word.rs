//! A word that is given once to thousands of tasks, each of which looks for it whenever it does anything.
//!
//! To look at a token takes two locks that all tasks share. A task has to be put among those who are woken only once;
//! from then on a flag says whether there is anything to look for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The word.
#[derive(Default)]
pub(super) struct Word {
    token: CancellationToken,
    /// Is set before anybody is woken.
    is_given: Arc<AtomicBool>,
}

impl Word {
    pub(super) fn give(&self) {
        self.is_given.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub(super) fn is_given(&self) -> bool {
        self.is_given.load(Ordering::Acquire)
    }

    /// For who waits for nothing else, or looks seldom.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.token
    }

    pub(super) fn heard(&self) -> Heard {
        Heard {
            waiting: self.token.clone().cancelled_owned(),
            is_given: Arc::clone(&self.is_given),
            waker: None,
        }
    }

    /// Work that is dropped where it waits when the word is given.
    pub(super) fn cuts<F>(&self, work: F) -> Cut<F> {
        Cut {
            work,
            heard: self.heard(),
        }
    }
}

pin_project! {
    /// Ends when the word is given.
    pub struct Heard {
        #[pin]
        waiting: WaitForCancellationFutureOwned,
        is_given: Arc<AtomicBool>,
        // Whom the token wakes.
        waker: Option<Waker>,
    }
}

impl Future for Heard {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let is_known = |waker: &Waker| waker.will_wake(cx.waker());
        let is_known = this.waker.as_ref().is_some_and(is_known);
        if is_known && !this.is_given.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let waiting = this.waiting.poll(cx);
        if waiting.is_pending() && !is_known {
            *this.waker = Some(cx.waker().clone());
        }
        waiting
    }
}

pin_project! {
    /// Work, or nothing when it was cut.
    pub(super) struct Cut<F> {
        #[pin]
        work: F,
        #[pin]
        heard: Heard,
    }
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        if let Poll::Ready(done) = this.work.poll(cx) {
            return Poll::Ready(Some(done));
        }
        this.heard.poll(cx).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::task::noop_waker;
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_hear_it_however_often_they_have_looked() {
        let word = Arc::new(Word::default());
        let mut waiting = JoinSet::new();
        let ready = Arc::new(tokio::sync::Barrier::new(9));
        for looks in 0..8 {
            let (heard, ready) = (word.heard(), Arc::clone(&ready));
            waiting.spawn(async move {
                tokio::pin!(heard);
                for _ in 0..looks {
                    assert!(futures::poll!(&mut heard).is_pending());
                }
                ready.wait().await;
                heard.await;
            });
        }
        ready.wait().await;
        word.give();
        assert_eq!(waiting.join_all().await.len(), 8);
        assert_eq!(word.heard().now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn who_goes_on_in_another_task_is_woken_there() {
        let word = Word::default();
        let mut heard = Box::pin(word.heard());
        let elsewhere = noop_waker();
        assert!(
            heard
                .poll_unpin(&mut Context::from_waker(&elsewhere))
                .is_pending()
        );
        let mut waiting = JoinSet::new();
        waiting.spawn(heard);
        tokio::task::yield_now().await;
        word.give();
        assert_eq!(waiting.join_all().await, [()]);
    }

    #[tokio::test]
    async fn work_is_cut_where_it_waits_and_not_when_it_is_done() {
        let word = Word::default();
        let mut cut = JoinSet::new();
        cut.spawn(word.cuts(std::future::pending::<()>()));
        let done = word.cuts(async { 7 });
        tokio::task::yield_now().await;
        word.give();
        assert_eq!(cut.join_all().await, [None]);
        assert_eq!(done.await, Some(7));
    }
}
