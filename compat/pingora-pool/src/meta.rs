//! What Pingora says of a connection that it releases.

/// A group of connections that do for one another: the hash of the peer.
pub(crate) type GroupKey = u64;

/// What Pingora knows a connection by: its file descriptor.
#[cfg(unix)]
pub(crate) type Id = i32;
/// What Pingora knows a connection by: its socket.
#[cfg(windows)]
pub(crate) type Id = usize;

/// Which group a connection belongs to, and the number of its socket.
#[derive(Clone, Debug)]
pub struct ConnectionMeta {
    /// Connections under one key do for one another.
    pub key: GroupKey,
    /// The number of the socket. It names the connection only while that is open.
    pub id: Id,
}

impl ConnectionMeta {
    /// A connection of this group, with this number.
    pub fn new(key: GroupKey, id: Id) -> Self {
        Self { key, id }
    }
}
