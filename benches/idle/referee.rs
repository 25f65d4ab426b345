//! Starts the contenders, and gives each its turns.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::contest::{self, MEMORY, PINGORA, SLABPOOL, TCP, UNWATCHED};
use crate::probes;
use crate::report;

/// All contenders. Those that watch come first.
pub const CONTENDERS: [&str; 3] = [SLABPOOL, PINGORA, UNWATCHED];
pub const WATCHING: usize = 2;

/// Keys of the pools in which many connections share one.
pub const KEYS: usize = 100;

/// The most connections with a key each. A new group costs slabpool a copy of its
/// shard of the directory: with a million groups, the pool would take minutes to fill.
const OWN_KEYS_MAX: usize = 100_000;

/// Descriptors that a process needs for other than connections.
const DESCRIPTORS_SPARE: usize = 100;

/// How much of everything.
struct Effort {
    tcp: &'static [usize],
    memory: &'static [usize],
    rounds: usize,
    /// How long a contender does cycles in a round.
    slice: Duration,
    /// Connections that are struck in a round.
    blows: usize,
    /// How long it is watched doing nothing.
    rest: Duration,
}

const BENCH: Effort = Effort {
    tcp: &[10, 10_000, 100_000],
    memory: &[10, 10_000, 100_000, 1_000_000],
    rounds: 10,
    slice: Duration::from_millis(20),
    blows: 30,
    rest: Duration::from_secs(2),
};

const TEST: Effort = Effort {
    tcp: &[10, 200],
    memory: &[10, 1_000],
    rounds: 1,
    slice: Duration::from_millis(1),
    blows: 2,
    rest: Duration::from_millis(1),
};

/// Pools of the same size and kind, one of each contender, and how they did.
pub struct Match {
    pub kind: &'static str,
    pub connections: usize,
    /// How many connections there should have been.
    pub wanted: usize,
    pub keys: usize,
    pub scores: [Score; CONTENDERS.len()],
}

impl Match {
    /// Whether each connection has a key of its own, though there are many.
    pub fn is_own_keys(&self) -> bool {
        self.keys > KEYS
    }
}

/// How a contender did.
#[derive(Default)]
pub struct Score {
    /// Bytes for all connections.
    pub heap: f64,
    /// Nanoseconds of processor time to put all connections.
    pub fill: f64,
    pub cycles: Cycles,
    pub reads: Cycles,
    /// As `cycles`, after many connections were closed and replaced.
    pub later_cycles: Cycles,
    /// Nanoseconds until a connection was closed.
    pub closes: Vec<f64>,
    pub sends: Vec<f64>,
    /// Processor time while nothing happened, as a part of the time.
    pub idle: Option<f64>,
    /// Nanoseconds, wall and processor, until all connections were closed.
    pub all: Option<(f64, f64)>,
}

/// Nanoseconds for a get and a release, in each round.
#[derive(Default)]
pub struct Cycles {
    pub cpu: Vec<f64>,
    pub wall: Vec<f64>,
}

impl Cycles {
    fn add(&mut self, answer: &[f64]) {
        self.cpu.push(answer[0]);
        self.wall.push(answer[1]);
    }
}

pub fn main(test: bool) {
    let effort = if test { TEST } else { BENCH };
    let descriptors = probes::raise_descriptors();
    let possible = descriptors.saturating_sub(DESCRIPTORS_SPARE);
    let mut matches = Vec::new();
    for &wanted in effort.tcp {
        let connections = wanted.min(possible);
        matches.push(play(&effort, TCP, connections, wanted, connections.min(KEYS)));
    }
    for &wanted in effort.memory {
        matches.push(play(&effort, MEMORY, wanted, wanted, wanted.min(KEYS)));
        if (KEYS + 1..=OWN_KEYS_MAX).contains(&wanted) {
            matches.push(play(&effort, MEMORY, wanted, wanted, wanted));
        }
    }
    println!(
        "Medians of {} rounds, {:?} of each contender in each, in turn.",
        effort.rounds, effort.slice
    );
    if matches.iter().any(|played| played.connections < played.wanted) {
        println!("A process may open {descriptors} files here, and so no more connections.");
    }
    report::print(&matches);
}

fn play(
    effort: &Effort,
    kind: &'static str,
    connections: usize,
    wanted: usize,
    keys: usize,
) -> Match {
    let mut players = CONTENDERS.map(|name| Player::new(name, kind, connections, keys));
    let mut scores: [Score; CONTENDERS.len()] = Default::default();
    for (player, score) in players.iter_mut().zip(&mut scores) {
        let answer = player.answer();
        (score.heap, score.fill) = (answer[0], answer[1]);
    }
    let mut played = Match { kind, connections, wanted, keys, scores };
    let slice = effort.slice.as_nanos() as usize;
    let scores = &mut played.scores;
    take_turns(effort.rounds, &mut players, scores, |player, score| {
        score.cycles.add(&player.ask("cycle", slice));
        score.reads.add(&player.ask("read", slice));
    });
    if keys > KEYS {
        return played;
    }
    let (watching, watchers) = (&mut players[..WATCHING], &mut scores[..WATCHING]);
    take_turns(effort.rounds, watching, watchers, |player, score| {
        score.closes.extend(player.ask("close", effort.blows));
        score.sends.extend(player.ask("send", effort.blows));
        score.later_cycles.add(&player.ask("cycle", slice));
    });
    // All at the same time: they take next to nothing.
    players.iter_mut().for_each(|player| player.tell("idle", effort.rest.as_nanos() as usize));
    for (player, score) in players.iter_mut().zip(&mut *scores) {
        score.idle = Some(player.answer()[0]);
    }
    for (player, score) in players.iter_mut().zip(scores).take(WATCHING) {
        let answer = player.ask("all", 0);
        score.all = Some((answer[0], answer[1]));
    }
    played
}

/// In each round, each player has its turn; a round starts at a different one each.
fn take_turns(
    rounds: usize,
    players: &mut [Player],
    scores: &mut [Score],
    turn: impl Fn(&mut Player, &mut Score),
) {
    let count = players.len();
    for n in (0..rounds).flat_map(|round| (0..count).map(move |n| (n + round) % count)) {
        turn(&mut players[n], &mut scores[n]);
    }
}

/// A contender's process.
struct Player {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Player {
    fn new(name: &str, kind: &str, connections: usize, keys: usize) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .args([contest::ARGUMENT, name, kind, &connections.to_string(), &keys.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("processes can be started");
        let commands = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, commands, answers }
    }

    fn tell(&mut self, word: &str, number: usize) {
        writeln!(self.commands, "{word} {number}").expect("the contender runs");
    }

    fn answer(&mut self) -> Vec<f64> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the contender runs");
        let numbers = line.split_whitespace().map(|word| word.parse().expect("a number"));
        let numbers: Vec<f64> = numbers.collect();
        assert!(!numbers.is_empty(), "the contender has failed");
        numbers
    }

    fn ask(&mut self, word: &str, number: usize) -> Vec<f64> {
        self.tell(word, number);
        self.answer()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended already. What it has started ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
