//! What the proxy has to know of a command.

use super::frames::arguments;

/// How a command is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only reads: to ask twice is to ask once.
    Repeatable,
    /// Whatever the proxy does not know is this.
    Ordinary,
    /// It may take as long as it likes, and has its connection for itself.
    Blocking,
    /// Begins to hold a connection, until the server forgets what was watched.
    Watch,
    Unwatch,
    /// Begins to hold a connection, until the transaction ends.
    Multi,
    Exec,
    Discard,
    /// The client goes.
    Quit,
    /// No command at all: an empty array, which has no answer.
    Nothing,
    /// It would change the connection for whoever uses it next, or make the server send
    /// what nobody has asked for.
    Refused,
}

impl Kind {
    pub fn of(command: &[u8]) -> Self {
        let mut arguments = arguments(command);
        let Some(name) = arguments.next() else { return Self::Nothing };
        match name.to_ascii_uppercase().as_slice() {
            b"XREAD" | b"XREADGROUP" if blocks(&mut arguments) => Self::Blocking,
            b"SCRIPT" if is(arguments.next(), "DEBUG") => Self::Refused,
            b"BLPOP" | b"BRPOP" | b"BLMOVE" | b"BRPOPLPUSH" | b"BLMPOP" | b"BZPOPMIN"
            | b"BZPOPMAX" | b"BZMPOP" => Self::Blocking,
            b"WATCH" => Self::Watch,
            b"UNWATCH" => Self::Unwatch,
            b"MULTI" => Self::Multi,
            b"EXEC" => Self::Exec,
            b"DISCARD" => Self::Discard,
            b"QUIT" => Self::Quit,
            // What concerns the connection: its user, database, name, protocol, what it
            // listens to, which writes it has done.
            b"AUTH" | b"SELECT" | b"CLIENT" | b"HELLO" | b"RESET" | b"SUBSCRIBE"
            | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"UNSUBSCRIBE" | b"PUNSUBSCRIBE"
            | b"SUNSUBSCRIBE" | b"MONITOR" | b"SYNC" | b"PSYNC" | b"REPLCONF" | b"ASKING"
            | b"READONLY" | b"READWRITE" | b"WAIT" | b"WAITAOF" => Self::Refused,
            b"BITCOUNT" | b"BITFIELD_RO" | b"BITPOS" | b"COMMAND" | b"DBSIZE" | b"ECHO"
            | b"EXISTS" | b"EXPIRETIME" | b"GEODIST" | b"GEOHASH" | b"GEOPOS" | b"GEOSEARCH"
            | b"GET" | b"GETBIT" | b"GETRANGE" | b"HEXISTS" | b"HGET" | b"HGETALL" | b"HKEYS"
            | b"HLEN" | b"HMGET" | b"HRANDFIELD" | b"HSCAN" | b"HSTRLEN" | b"HVALS" | b"INFO"
            | b"KEYS" | b"LASTSAVE" | b"LCS" | b"LINDEX" | b"LLEN" | b"LPOS" | b"LRANGE"
            | b"MGET" | b"PEXPIRETIME" | b"PFCOUNT" | b"PING" | b"PTTL" | b"RANDOMKEY"
            | b"SCAN" | b"SCARD" | b"SDIFF" | b"SINTER" | b"SINTERCARD" | b"SISMEMBER"
            | b"SMEMBERS" | b"SMISMEMBER" | b"SORT_RO" | b"SRANDMEMBER" | b"SSCAN" | b"STRLEN"
            | b"SUBSTR" | b"SUNION" | b"TIME" | b"TTL" | b"TYPE" | b"XINFO" | b"XLEN"
            | b"XPENDING" | b"XRANGE" | b"XREAD" | b"XREVRANGE" | b"ZCARD" | b"ZCOUNT"
            | b"ZDIFF" | b"ZINTER" | b"ZINTERCARD" | b"ZLEXCOUNT" | b"ZMSCORE" | b"ZRANDMEMBER"
            | b"ZRANGE" | b"ZRANGEBYLEX" | b"ZRANGEBYSCORE" | b"ZRANK" | b"ZREVRANGE"
            | b"ZREVRANGEBYLEX" | b"ZREVRANGEBYSCORE" | b"ZREVRANK" | b"ZSCAN" | b"ZSCORE"
            | b"ZUNION" => Self::Repeatable,
            _ => Self::Ordinary,
        }
    }
}

/// Whether a read of streams has the option `BLOCK`, which comes before the keys.
fn blocks<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut options = arguments.take_while(|argument| !is(Some(argument), "STREAMS"));
    options.any(|option| is(Some(option), "BLOCK"))
}

fn is(argument: Option<&[u8]>, word: &str) -> bool {
    argument.is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
}
