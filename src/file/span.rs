//! A time, or for ever.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// How long something lasts: `60` or `1.5` (seconds), `"60s"`, `"1m 30s"`, `"500ms"`, or
/// `"never"`, for what has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// So long.
    Of(Duration),
    /// For ever.
    Never,
}

impl From<Span> for Option<Duration> {
    fn from(span: Span) -> Self {
        match span {
            Span::Of(time) => Some(time),
            Span::Never => None,
        }
    }
}

impl From<Duration> for Span {
    fn from(time: Duration) -> Self {
        Self::Of(time)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(time) => humantime::format_duration(*time).fmt(f),
            Self::Never => f.write_str("never"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds, a time as in \"60s\" or \"1m 30s\", or \"never\"")
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
        Ok(Span::Of(Duration::from_secs(seconds)))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
        let unsigned = u64::try_from(seconds);
        let wrong = |_| E::invalid_value(de::Unexpected::Signed(seconds), &self);
        unsigned.map_err(wrong).and_then(|seconds| self.visit_u64(seconds))
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Span, E> {
        let wrong = |_| E::invalid_value(de::Unexpected::Float(seconds), &self);
        Duration::try_from_secs_f64(seconds).map(Span::Of).map_err(wrong)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        if text == "never" {
            return Ok(Span::Never);
        }
        let wrong = |_| E::invalid_value(de::Unexpected::Str(text), &self);
        humantime::parse_duration(text).map(Span::Of).map_err(wrong)
    }
}
