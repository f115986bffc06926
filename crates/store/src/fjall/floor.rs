//! From when on something can be due. What was done is gone, but the engine walks past its remains until it
//! has tidied them away, which would take longer each time; so looking begins where something was left.

use parking_lot::Mutex;

/// Nothing is due before a time.
pub struct Floor(Mutex<State>);

/// Guarded together, so that nobody raises the floor over what was put below it meanwhile.
struct State {
    at_ms: i64,
    /// How often something was put.
    put: u64,
}

/// Where somebody began to look.
#[derive(Clone, Copy)]
pub struct Look {
    /// From this time on, in milliseconds since 1970.
    pub from_ms: i64,
    put: u64,
}

impl Default for Floor {
    /// Before all times.
    fn default() -> Self {
        Floor(Mutex::new(State {
            at_ms: i64::MIN,
            put: 0,
        }))
    }
}

impl Floor {
    /// Something that is committed is due at a time.
    pub fn put(&self, at_ms: i64) {
        let mut state = self.0.lock();
        state.at_ms = state.at_ms.min(at_ms);
        state.put += 1;
    }

    /// Where to begin to look; to be asked before the rows are.
    pub fn look(&self) -> Look {
        let state = self.0.lock();
        Look {
            from_ms: state.at_ms,
            put: state.put,
        }
    }

    /// A look has found nothing before a time. When something was put meanwhile, that says nothing.
    pub fn raise(&self, look: Look, at_ms: i64) {
        let mut state = self.0.lock();
        if state.put == look.put {
            state.at_ms = state.at_ms.max(at_ms);
        }
    }

    /// What was put is not known any more.
    pub fn forget(&self) {
        let mut state = self.0.lock();
        state.at_ms = i64::MIN;
        state.put += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_begins_where_something_was_left() {
        let floor = Floor::default();
        floor.put(70);
        floor.raise(floor.look(), 50);
        assert_eq!(floor.look().from_ms, 50);
        floor.put(40);
        assert_eq!(floor.look().from_ms, 40);
        floor.forget();
        assert_eq!(floor.look().from_ms, i64::MIN);
    }

    #[test]
    fn what_is_put_while_somebody_looks_is_not_passed_over() {
        let floor = Floor::default();
        floor.raise(floor.look(), 10);
        let look = floor.look();
        floor.put(20);
        floor.raise(look, 50);
        assert_eq!(floor.look().from_ms, 10);
    }
}
