//! What the pool says through `tracing`, with the feature of that name: on the paths of
//! closing, refusing and administration, and never on those of a get or a release that
//! goes well.

/// Says what happened, under the target `slabpool`. Nothing is evaluated unless somebody
/// listens; without the feature, nothing is compiled.
#[cfg(feature = "tracing")]
macro_rules! event {
    ($level:ident, $($rest:tt)*) => { ::tracing::$level!(target: "slabpool", $($rest)*) };
}

#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($($rest:tt)*) => {};
}

pub(crate) use event;

#[cfg(feature = "tracing")]
mod names {
    use std::fmt;

    use crate::config::Config;
    use crate::group::Members;

    /// Displays the name of a group: that which the builder was told, else the hash of its
    /// key.
    pub(crate) struct Name<'a, K, C>(pub &'a Config<K, C>, pub &'a Members<K>);

    impl<K, C> fmt::Display for Name<'_, K, C> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match &self.0.group_name {
                Some(name) => f.write_str(&name(&self.1.key)),
                None => write!(f, "{:016x}", self.1.hash),
            }
        }
    }
}

#[cfg(feature = "tracing")]
pub(crate) use names::Name;
