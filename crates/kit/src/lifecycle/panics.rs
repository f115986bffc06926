//! A panic ends what it happened in, and nothing else.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use futures::FutureExt as _;
use futures::future::{CatchUnwind, Map};

/// A piece of work panicked. Tells where, when [`log_panics`] was called before, and never what the panic
/// carried: that may quote a message or a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    at: Option<String>,
}

impl std::error::Error for Panicked {}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "panicked at {at}"),
            None => f.write_str("panicked"),
        }
    }
}

thread_local! {
    /// Where this thread panicked last. The hook runs on the thread that panics, right before the catch.
    static LAST: Cell<Option<String>> = const { Cell::new(None) };
}

type Ended<T> = Result<T, Box<dyn Any + Send>>;

/// A future that can not panic.
pub type Catch<F> = Map<
    CatchUnwind<AssertUnwindSafe<F>>,
    fn(Ended<<F as Future>::Output>) -> Result<<F as Future>::Output, Panicked>,
>;

/// Runs a future; a panic in it becomes a value. The panic is logged by the hook of [`log_panics`], once,
/// in the span where it happened; who gets the value need not log it again.
///
/// What the future shared with others must bear to be left half done: locks of parking_lot are let go.
pub fn catch<F: Future>(future: F) -> Catch<F> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .map(told::<F::Output>)
}

fn told<T>(ended: Ended<T>) -> Result<T, Panicked> {
    ended.map_err(|_| Panicked { at: LAST.take() })
}

/// From here on, a panic anywhere in the process is one line of the log that tells where. What it carried is
/// told only when it is a text of the program itself, with nothing put in.
pub fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let at = info
                .location()
                .map_or_else(|| "?".to_owned(), ToString::to_string);
            let words = info.payload().downcast_ref::<&'static str>().copied();
            let words = words.unwrap_or("what it carried is not shown");
            tracing::error!(panic.at = at, "a panic at {at}: {words}");
            LAST.set(Some(at));
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_value_that_does_not_tell_what_it_carried() {
        let password = "hunter2";
        let panicked = catch(async { assert_eq!(password, "other") })
            .await
            .unwrap_err();
        assert!(!format!("{panicked} {panicked:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn what_does_not_panic_is_handed_on() {
        assert_eq!(catch(async { 7 }).await, Ok(7));
    }
}
