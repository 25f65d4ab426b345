//! Settings from files: any bytes are refused or understood, and what is understood can be
//! written, read again, and built or refused by name.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use slabpool::file::{self, ConnectionPool, Error, Upstream};
use slabpool::{Pool, managed};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Yaml,
    Toml,
    Json,
}

impl Format {
    const ALL: [Self; 3] = [Self::Yaml, Self::Toml, Self::Json];

    /// `None` if it is not even text of this format, so that the pool was not asked.
    fn read<T: DeserializeOwned>(self, text: &str) -> Option<Result<T, Error>> {
        match self {
            Self::Yaml => Some(file::read(serde_norway::Deserializer::from_str(text))),
            Self::Toml => Some(file::read(toml::Deserializer::parse(text).ok()?)),
            Self::Json => Some(file::read(&mut serde_json::Deserializer::from_str(text))),
        }
    }

    /// `None` if the format cannot say it: TOML has no numbers above `i64::MAX`.
    fn write<T: Serialize>(self, value: &T) -> Option<String> {
        match self {
            Self::Yaml => Some(serde_norway::to_string(value).expect("YAML can say it")),
            Self::Toml => toml::to_string(value).ok(),
            Self::Json => Some(serde_json::to_string(value).expect("JSON can say it")),
        }
    }
}

/// What was read comes out of each format as it went in.
fn is_read_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    for format in Format::ALL {
        let Some(text) = format.write(value) else { continue };
        let again = format.read::<T>(&text).expect("it was written in this format");
        assert_eq!(again.as_ref(), Ok(value), "{text}");
    }
}

/// What was read can be used, or a builder says by name what is wrong with it.
fn is_used(pool: &ConnectionPool) {
    is_read_again(pool);
    assert_eq!(&pool.over(&ConnectionPool::default()), pool);
    assert_eq!(&ConnectionPool::default().over(pool), pool);
    match pool.apply(Pool::<u32, u32>::builder()) {
        Ok(builder) => match builder.build() {
            Ok(built) => {
                let settings = built.settings();
                if let Some(capacity) = pool.keepalive_pool_size {
                    assert_eq!(settings.capacity, capacity);
                }
                built.group(&1).configure(pool.group_settings()).expect("as for all groups");
                if let Ok(lease) = built.insert(&1, 1) {
                    lease.release();
                }
                built.maintain();
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        },
        Err(error) => assert_eq!(error.problem, "only a managed pool has it"),
    }
    let dial = |_: &u32| async { Ok::<u32, std::io::Error>(1) };
    match pool.apply_managed(managed::Pool::builder(dial)).build() {
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn names_the_place(error: &Error) {
    let (path, problem, text) = (&error.path, &error.problem, error.to_string());
    assert!(!problem.is_empty(), "{error:?}");
    let unnamed = path.is_empty() || path == ".";
    assert_eq!(text, if unnamed { problem.clone() } else { format!("{path}: {problem}") });
}

pub type Input<'a> = &'a [u8];

pub fn run(bytes: Input<'_>) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let format = Format::ALL[usize::from(first) % Format::ALL.len()];
    match format.read::<ConnectionPool>(text) {
        None => return,
        Some(Ok(pool)) => is_used(&pool),
        Some(Err(error)) => names_the_place(&error),
    }
    match format.read::<Upstream>(text) {
        Some(Ok(upstream)) => {
            is_read_again(&upstream);
            assert!(!upstream.hosts.is_empty());
            upstream.hosts.iter().for_each(|host| is_used(&upstream.pool_of(host)));
        }
        Some(Err(error)) => names_the_place(&error),
        None => unreachable!("it was text of this format before"),
    }
}
