//! On what it was measured, and when.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::table::Table;

/// What is known of it.
pub fn table(took: Duration) -> Table {
    let mut table = Table::new("machine", "The machine", &["value"]);
    let cores = available_parallelism().map(|cores| cores.to_string()).unwrap_or_default();
    let rows = [
        ("processor", line_of("/proc/cpuinfo", "model name")),
        ("cores", cores),
        ("memory", line_of("/proc/meminfo", "MemTotal")),
        ("system", said("uname", &["-sr"])),
        ("compiler", said("rustc", &["--version"])),
        ("commit", commit()),
        ("date", said("date", &["-u", "+%F %H:%M UTC"])),
        ("took", format!("{} s", took.as_secs())),
    ];
    for (what, value) in rows {
        table.row(what, [value]);
    }
    table
}

/// The value of the first line that begins like that.
fn line_of(file: &str, begin: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(begin));
    let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
    value.unwrap_or("not known").to_owned()
}

/// What a program prints.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let said = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let said = said.map(|said| String::from_utf8_lossy(&said).trim().to_owned());
    said.unwrap_or_else(|| "not known".to_owned())
}

/// What is checked out, and whether that is all.
fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no", "--", "src"]);
    if changed.is_empty() { commit } else { format!("{commit}, and changes in src") }
}
