//! The name of one pooled connection.

use std::fmt;

/// Names one pooled connection, for as long as the process runs.
///
/// A token is two numbers: the key of the connection's place in the slab, which
/// finds it in O(1), and the number of its insertion, which no other connection of
/// any pool in this process has. A token that outlived its connection finds
/// nothing, whatever has happened to its place since.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub(crate) serial: u64,
    pub(crate) key: usize,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.serial, self.key)
    }
}
