//! The order of the messages that one session sends: each begins when those before it are in the store's queue, however
//! long it takes to find out who may send.

use tokio::sync::oneshot;

/// Gives starts.
#[derive(Default)]
pub struct Sends {
    /// Ends when the one before has begun.
    last: Option<oneshot::Receiver<()>>,
}

/// The start of a send. When it is dropped, the next one may begin.
pub struct Start {
    before: Option<oneshot::Receiver<()>>,
    _begun: oneshot::Sender<()>,
}

impl Sends {
    /// The start behind all that were given.
    pub fn next(&mut self) -> Start {
        let (begun, last) = oneshot::channel();
        Start {
            before: self.last.replace(last),
            _begun: begun,
        }
    }
}

impl Start {
    /// Waits until it comes.
    pub async fn comes(&mut self) {
        if let Some(before) = self.before.take() {
            // It is dropped, nothing is ever said.
            _ = before.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_start_comes_when_the_one_before_was_made() {
        let mut sends = Sends::default();
        let (mut first, mut second, mut third) = (sends.next(), sends.next(), sends.next());
        assert_eq!(first.comes().now_or_never(), Some(()));
        assert_eq!(second.comes().now_or_never(), None);
        drop(first);
        assert_eq!(third.comes().now_or_never(), None);
    }
}
