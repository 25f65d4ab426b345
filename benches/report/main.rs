//! Runs the benchmarks, and makes BENCHMARKS.md of them: its tables, and its plots.
//!
//! ```text
//! cargo bench --bench report                  # everything anew, within ten minutes, but for
//! cargo bench --bench report -- --end-to-end  # whole proxies: ten more; needs cmake, nginx and wrk
//! cargo bench --bench report -- --quick       # to try it out, in target/report, not in the page
//! cargo bench --bench report -- --draw        # only tables and plots, of what was measured last
//! ```
//!
//! Each suite is a program of its own, which prints its tables and leaves them as files in
//! `docs/bench/`. The plots are drawn of these files, and lie beside them. In the page, what
//! is between `<!-- table: name -->` and `<!-- end -->` is replaced; all other text is
//! somebody's. The two cores should have nothing else to do.
//!
//! * `targets`: what the pool should come to. `plots`: what is drawn. `svg`: how.
//! * `page`: the places of the tables. `machine`: on what, and when.

mod machine;
mod page;
mod plots;
mod svg;
#[path = "../common/table.rs"]
#[allow(dead_code, reason = "a part of it is for those who measure")]
mod table;
mod targets;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use std::{env, fs, io};

use table::Table;

/// Under the names that they have for cargo.
const SUITES: [&str; 5] = ["ratios", "tails", "memory", "managed", "idle"];

/// Counts instructions, with settings of its own.
const INSTRUCTIONS: &str = ".ci/instructions";

/// Has its own place in the page.
const END_TO_END: &str = "benches/end-to-end";

const PAGE: &str = "BENCHMARKS.md";
const DIRECTORY: &str = "docs/bench";
const TRIAL: &str = "target/report";

/// What was measured.
#[derive(Debug)]
pub struct Tables(Vec<Table>);

impl Tables {
    /// All that lie in a directory, by name.
    fn read(directory: &Path) -> io::Result<Self> {
        let read = |file: PathBuf| {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Table::read(&name, &fs::read_to_string(file)?))
        };
        tables_in(directory)?.into_iter().map(read).collect::<io::Result<_>>().map(Self)
    }

    fn table(&self, name: &str) -> Option<&Table> {
        self.0.iter().find(|table| table.name == name)
    }

    /// A number, if it was measured.
    fn number(&self, table: &str, of: &str, column: &str) -> Option<f64> {
        self.table(table)?.number(of, column)
    }

    /// What a table is of.
    fn rows<'a>(&'a self, table: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.table(table).into_iter().flat_map(|table| &table.rows).map(|row| row[0].as_str())
    }

    fn columns(&self, table: &str) -> &[String] {
        self.table(table).map(|table| &table.columns[..]).unwrap_or_default()
    }
}

fn main() -> io::Result<ExitCode> {
    let passed = |flag: &str| env::args().any(|argument| argument == flag);
    let (quick, draw) = (passed("--quick"), passed("--draw"));
    env::set_current_dir(env!("CARGO_MANIFEST_DIR"))?;
    let directory = Path::new(if quick { TRIAL } else { DIRECTORY });
    fs::create_dir_all(directory)?;
    let mut wrong = Vec::new();
    if !draw {
        let start = Instant::now();
        // Nothing old is taken for something new.
        tables_in(directory)?.iter().try_for_each(fs::remove_file)?;
        let failed: Vec<_> =
            SUITES.into_iter().filter(|suite| !run(suite, directory, quick)).collect();
        if !failed.is_empty() {
            eprintln!("{failed:?} failed, and the page is as it was");
            return Ok(ExitCode::FAILURE);
        }
        // It fails when there are too many, and has counted them.
        if !run_instructions(directory) {
            wrong.push(format!("{INSTRUCTIONS} failed"));
        }
        save(directory, &machine::table(start.elapsed()))?;
    }
    let mut tables = Tables::read(directory)?;
    let targets = targets::table(&tables);
    println!("\n### {}\n\n{}", targets.title, targets.markdown());
    save(directory, &targets)?;
    tables.0.retain(|table| table.name != targets.name);
    tables.0.push(targets);
    for (name, plot) in plots::all(&tables) {
        fs::write(directory.join(format!("{name}.svg")), plot)?;
    }
    let text = fs::read_to_string(PAGE)?;
    let (page, unfilled) = page::fill(&text, &tables.0);
    wrong.extend(unfilled);
    let places = page::places(&text);
    let homeless = tables.0.iter().filter(|table| !places.contains(&table.name.as_str()));
    homeless.for_each(|table| println!("{}: is not in {PAGE}", table.name));
    fs::write(if quick { directory.join(PAGE) } else { PAGE.into() }, page)?;
    if passed("--end-to-end") && !run_end_to_end(quick) {
        wrong.push(format!("{END_TO_END} failed"));
    }
    wrong.iter().for_each(|line| eprintln!("{line}"));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files of tables in a directory.
fn tables_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "csv"));
    files.sort();
    Ok(files)
}

/// Runs a suite, with the features that this program has.
fn run(suite: &str, directory: &Path, quick: bool) -> bool {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = fresh(cargo);
    command.args(["bench", "--bench", suite]);
    if cfg!(feature = "http-client") {
        command.arg("--all-features");
    }
    command.args(["--", &csv(directory)]).args(quick.then_some("--quick"));
    command.status().is_ok_and(|status| status.success())
}

/// A program that does not see what cargo has told this one: some would be built anew.
fn fresh(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        command.env_remove(name);
    }
    command
}

fn run_instructions(directory: &Path) -> bool {
    let status = fresh(INSTRUCTIONS).arg(csv(directory)).status();
    status.is_ok_and(|status| status.success())
}

fn run_end_to_end(quick: bool) -> bool {
    let how = if quick { "--quick" } else { "--write" };
    let status = fresh(END_TO_END).args(["--pingora", how]).status();
    status.is_ok_and(|status| status.success())
}

fn csv(directory: &Path) -> String {
    format!("--csv={}", directory.display())
}

fn save(directory: &Path, table: &Table) -> io::Result<()> {
    fs::write(directory.join(format!("{}.csv", table.name)), table.csv())
}
