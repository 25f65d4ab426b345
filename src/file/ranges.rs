//! What each field of a file may be: the same as the setters of the builders take.

use std::fmt::Display;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

use super::Span;
use crate::store::CONNECTIONS_MAX;

const CONNECTING_MAX: usize = 65_535;
const WAITERS_MAX: usize = 4_194_304;

#[cfg(feature = "tokio")]
const _: () = {
    use crate::managed::word;
    assert!(CONNECTING_MAX == word::CONNECTING_MAX as usize);
    assert!(WAITERS_MAX == word::WAITERS_MAX as usize);
    assert!(CONNECTIONS_MAX == word::CONNECTIONS_MAX as usize);
};

pub(super) fn any<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    within(from, 0, CONNECTIONS_MAX)
}

pub(super) fn positive_count<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<usize>, D::Error> {
    within(from, 1, CONNECTIONS_MAX)
}

pub(super) fn connecting<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    within(from, 1, CONNECTING_MAX)
}

pub(super) fn waiters<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    within(from, 0, WAITERS_MAX)
}

pub(super) fn uses<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    within(from, 1, u64::MAX)
}

pub(super) fn fraction<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    within(from, 0.0, 1.0)
}

pub(super) fn some_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Span>, D::Error> {
    let span = Option::deserialize(from)?;
    if span == Some(Span::Of(Duration::ZERO)) {
        return Err(D::Error::custom("it is zero, which leaves no time at all"));
    }
    Ok(span)
}

fn within<'de, T, D>(from: D, min: T, max: T) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de> + PartialOrd + Display + Copy,
    D: Deserializer<'de>,
{
    match Option::deserialize(from)? {
        Some(value) if !(min..=max).contains(&value) => Err(D::Error::custom(format_args!(
            "it is {value}, it must lie between {min} and {max}"
        ))),
        value => Ok(value),
    }
}

/// At least one, each once.
pub(super) fn hosts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let hosts: Vec<String> = Vec::deserialize(from)?;
    if hosts.is_empty() {
        return Err(D::Error::custom("there is none, at least 1 is needed"));
    }
    let mut sorted: Vec<&String> = hosts.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(D::Error::custom(format_args!("{:?} is there twice", pair[0]))),
        None => Ok(hosts),
    }
}
