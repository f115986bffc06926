//! Commits that fail because a test wants them to. Outside of tests there is nothing here.

use tertulia_kit::error::Result;

/// What tests do to commits.
#[derive(Default)]
pub struct Faults {
    #[cfg(test)]
    hook: parking_lot::Mutex<Option<Hook>>,
}

#[cfg(not(test))]
impl Faults {
    #[inline(always)]
    pub fn before_commit(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
type Hook = Box<dyn FnMut() -> bool + Send>;

#[cfg(test)]
impl Faults {
    /// Asks `fails` before each commit.
    pub fn set(&self, fails: impl FnMut() -> bool + Send + 'static) {
        *self.hook.lock() = Some(Box::new(fails));
    }

    pub fn before_commit(&self) -> Result<()> {
        let fails = self.hook.lock().as_mut().is_some_and(|fails| fails());
        let failure = || tertulia_services::errors::store_unavailable("a test wants it");
        if fails { Err(failure()) } else { Ok(()) }
    }
}
