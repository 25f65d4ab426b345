//! Hooks that panic at one of their calls, chosen by number.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::common;

/// What the pool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Hash,
    Eq,
    Clone,
    KeyDrop,
    Settings,
    Probe,
    OnClose,
    Destructor,
    Retain,
    GetIf,
    Reconfigure,
}

thread_local! {
    /// The hook that is to panic, and how many of its calls go well before that.
    static FUSE: Cell<Option<(Hook, usize)>> = const { Cell::new(None) };
}

/// Carried by panics that are meant.
struct Blown;

/// Called by each hook. It does not panic while another panic unwinds: nobody could
/// survive that.
pub fn touch(hook: Hook) {
    let Some((armed, left)) = FUSE.get() else { return };
    if armed != hook || std::thread::panicking() {
        return;
    }
    FUSE.set(left.checked_sub(1).map(|left| (hook, left)));
    if left == 0 {
        resume_unwind(Box::new(Blown));
    }
}

/// Lets the hook panic at its call of this number, if there is one. Whether the panic came
/// through, and whether there was one.
pub fn with_fuse(hook: Hook, call: usize, run: impl FnOnce()) -> Outcome {
    FUSE.set(Some((hook, call)));
    let result = catch_unwind(AssertUnwindSafe(run));
    let left = FUSE.take();
    match result {
        Err(panic) if !panic.is::<Blown>() => resume_unwind(panic),
        Err(_) => Outcome::Panicked,
        Ok(()) if left.is_none() => Outcome::Caught,
        Ok(()) => Outcome::NotReached,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The panic went through the pool to its caller.
    Panicked,
    /// The pool caught it.
    Caught,
    /// There are not so many calls.
    NotReached,
}

/// A key all of whose methods may panic. All keys have the same hash.
#[derive(Debug)]
pub struct Key(pub u32);

impl Hash for Key {
    fn hash<H: Hasher>(&self, _: &mut H) {
        touch(Hook::Hash);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        touch(Hook::Eq);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        touch(Hook::Clone);
        Self(self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        touch(Hook::KeyDrop);
    }
}

/// A connection whose destructor may panic.
#[derive(Debug)]
pub struct Connection {
    #[expect(dead_code, reason = "it counts")]
    pub inner: common::Connection,
}

impl Drop for Connection {
    fn drop(&mut self) {
        touch(Hook::Destructor);
    }
}
