//! Where a request goes.

use std::fmt;
use std::sync::Arc;

use http::Uri;
use http::uri::{Authority, Scheme};

use super::error::{Error, Refusal};

/// Whom a connection is to: scheme, host and port, and the name that TLS asks for, if that
/// is another. Requests of one key share connections.
///
/// Hosts are compared as they are written, but for upper and lower case: `localhost` is
/// another peer than `127.0.0.1`. The port that a scheme has by default may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    https: bool,
    /// Without user information, and without the port that the scheme has by default.
    authority: Authority,
    server_name: Option<Arc<str>>,
}

impl Key {
    /// Where a request with this target goes. Does not allocate, unless the target has user
    /// information or names the default port.
    ///
    /// # Errors
    ///
    /// If the scheme is neither `http` nor `https`, or there is no host.
    pub fn of(uri: &Uri) -> Result<Self, Error> {
        let refused = || Error::refused(Refusal::Target(uri.clone()));
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(refused()),
        };
        let authority = uri.authority().filter(|it| !it.host().is_empty()).ok_or_else(refused)?;
        let text = authority.as_str();
        let bare = text.rsplit_once('@').map_or(text, |(_, bare)| bare);
        let host = authority.host();
        let plain = match &bare[host.len()..] {
            "" => bare,
            port => match port[1..].parse::<u16>() {
                Ok(port) if port == default_port(https) => host,
                Ok(0) | Err(_) => return Err(refused()),
                Ok(_) => bare,
            },
        };
        let authority = if plain.len() == text.len() {
            authority.clone()
        } else {
            plain.parse().map_err(|_| refused())?
        };
        Ok(Self { https, authority, server_name: None })
    }

    /// The same peer, by another name to TLS: it is sent to the server (SNI), and the
    /// certificate must be for it. Of no effect without TLS, but that it is another key.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Whether it is over TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, as it was written; of an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let host = self.authority.host();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port; that of the scheme, if none was named.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(default_port(self.https))
    }

    /// The name that TLS asks for.
    pub fn server_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or_else(|| self.host())
    }

    /// What `Host` says of it.
    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }
}

/// As the beginning of a target: `https://example.com:8443`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)?;
        self.server_name.iter().try_for_each(|name| write!(f, " as {name}"))
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::Key;

    fn key(uri: &str) -> Option<Key> {
        Key::of(&uri.parse().unwrap()).ok()
    }

    #[test]
    fn the_same_peer_by_other_words() {
        let plain = key("http://example.com/path").unwrap();
        for same in ["http://EXAMPLE.com", "http://example.com:80/", "http://u:p@example.com:80"] {
            assert_eq!(key(same).unwrap(), plain, "{same}");
        }
        let others = ["https://example.com", "http://example.com:443", "http://example.org"];
        for other in others {
            assert_ne!(key(other).unwrap(), plain, "{other}");
        }
        assert_ne!(plain.clone().with_server_name("a.b"), plain);
        assert_eq!(key("http://u@example.com:80").unwrap().authority(), "example.com");
    }

    #[test]
    fn hosts_and_ports() {
        let six = key("https://[::1]:8443/x").unwrap();
        assert_eq!((six.host(), six.port(), six.server_name()), ("::1", 8443, "::1"));
        assert_eq!(six.to_string(), "https://[::1]:8443");
        let six = key("https://u@[::1]:443").unwrap();
        assert_eq!((six.host(), six.port(), six.authority()), ("::1", 443, "[::1]"));
        let named = key("https://10.0.0.1").unwrap().with_server_name("a.b");
        assert_eq!((named.port(), named.server_name(), named.is_https()), (443, "a.b", true));
        assert_eq!(named.to_string(), "https://10.0.0.1 as a.b");
    }

    #[test]
    fn no_peers() {
        let targets = ["/path", "*", "ftp://example.com", "example.com:80", "http://a:0/"];
        for target in targets {
            assert_eq!(key(target), None, "{target}");
        }
    }
}
