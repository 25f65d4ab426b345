//! What a server says of how long it keeps a connection: the `Keep-Alive` header.

use std::fmt;
use std::time::Duration;

use crate::settings::PutOptions;

/// What an HTTP server's `Keep-Alive` header says, as far as it says anything.
///
/// ```
/// use std::time::Duration;
/// use slabpool::{KeepAlive, Pool};
///
/// let pool = Pool::<String, String>::new();
/// let connection = pool.insert("10.0.0.7:80", "a connection".to_owned())?;
/// // The response had `Keep-Alive: timeout=5, max=99`.
/// let keep_alive = KeepAlive::parse("timeout=5, max=99");
/// assert_eq!(keep_alive.timeout, Some(Duration::from_secs(5)));
/// connection.release_with(keep_alive);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeepAlive {
    /// After what time the server closes an idle connection, in whole seconds on the
    /// wire.
    pub timeout: Option<Duration>,
    /// How many requests the server takes on this connection from now on.
    pub max: Option<u64>,
}

impl KeepAlive {
    /// How much sooner than the server the pool lets go of an idle connection: a second,
    /// so that a request does not meet the server's end on its way.
    pub const GUARD: Duration = Duration::from_secs(1);

    /// Reads the value of a `Keep-Alive` header, as RFC 2068, 19.7.1.1 and
    /// draft-thomson-hybi-http-timeout have it: `timeout=5, max=100`.
    ///
    /// Names may be in upper case, values quoted, and both surrounded by blanks.
    /// Semicolons separate as commas do. Parameters that are not known, and values that
    /// are no plain number, count as not said; of those said twice the smaller number
    /// holds; numbers too large are the largest possible. Never fails, and does not
    /// allocate.
    pub fn parse(value: impl AsRef<[u8]>) -> Self {
        let mut said = Self::default();
        let mut rest = value.as_ref();
        while !rest.is_empty() {
            let (parameter, after) = split_parameter(rest);
            rest = after;
            said = said.and(Self::parse_parameter(parameter));
        }
        said
    }

    /// What two headers say together: of each parameter, the smaller number. For
    /// responses with several `Keep-Alive` lines.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { timeout: smaller(self.timeout, other.timeout), max: smaller(self.max, other.max) }
    }

    fn parse_parameter(parameter: &[u8]) -> Self {
        let mut halves = parameter.splitn(2, |&byte| byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let number = halves.next().and_then(|value| number(value.trim_ascii()));
        if name.eq_ignore_ascii_case(b"timeout") {
            Self { timeout: number.map(Duration::from_secs), max: None }
        } else if name.eq_ignore_ascii_case(b"max") {
            Self { timeout: None, max: number }
        } else {
            Self::default()
        }
    }
}

/// As the header has it; a timeout is rounded down to seconds.
impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.timeout, self.max) {
            (Some(timeout), Some(max)) => write!(f, "timeout={}, max={max}", timeout.as_secs()),
            (Some(timeout), None) => write!(f, "timeout={}", timeout.as_secs()),
            (None, Some(max)) => write!(f, "max={max}"),
            (None, None) => Ok(()),
        }
    }
}

/// The timeout less [`KeepAlive::GUARD`], so that one of a second or less means that the
/// connection is not used again; and the number of requests.
impl From<KeepAlive> for PutOptions {
    fn from(keep_alive: KeepAlive) -> Self {
        Self {
            idle_timeout: keep_alive
                .timeout
                .map(|timeout| timeout.saturating_sub(KeepAlive::GUARD)),
            max_uses: keep_alive.max,
        }
    }
}

/// What comes before the first separator outside quotes, and what comes after.
fn split_parameter(list: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    let end = list.iter().position(|&byte| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'"' => quoted = !quoted,
            b'\\' => escaped = quoted,
            b',' | b';' => return !quoted,
            _ => {}
        }
        false
    });
    match end {
        Some(end) => (&list[..end], &list[end + 1..]),
        None => (list, &[]),
    }
}

/// A number of decimal digits, quoted or not; the largest possible if it is larger.
fn number(value: &[u8]) -> Option<u64> {
    let content = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let quoted = content.is_some();
    let mut digits = content.unwrap_or(value).trim_ascii().iter();
    let mut sum = None;
    while let Some(mut byte) = digits.next() {
        if quoted && *byte == b'\\' {
            byte = digits.next()?;
        }
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum = Some(sum.unwrap_or(0_u64).saturating_mul(10).saturating_add(digit));
    }
    sum
}

fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, None) => one,
        (None, other) => other,
    }
}
