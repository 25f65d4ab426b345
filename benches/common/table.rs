//! Tables: printed as Markdown, and written to files for those who draw them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

/// Where the files go: `--csv=DIRECTORY`.
const DIRECTORY: &str = "--csv=";

/// What was measured, as text. The first column is what it was measured of.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its file, and its marker in BENCHMARKS.md.
    pub name: String,
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one. `columns` leaves out the first.
    pub fn new(name: impl Into<String>, title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { name: name.into(), title: title.into(), columns, rows: Vec::new() }
    }

    /// Adds a line; missing cells are empty.
    pub fn row(&mut self, of: impl Into<String>, cells: impl IntoIterator<Item = String>) {
        let mut row = vec![of.into()];
        row.extend(cells);
        row.resize(self.columns.len() + 1, String::new());
        self.rows.push(row);
    }

    /// Prints it, and writes its file if the command line says where.
    pub fn publish(&self) {
        println!("\n### {}\n\n{}", self.title, self.markdown());
        let directory =
            env::args().find_map(|argument| argument.strip_prefix(DIRECTORY).map(PathBuf::from));
        if let Some(directory) = directory {
            fs::create_dir_all(&directory).expect("the directory can be made");
            let file = directory.join(format!("{}.csv", self.name));
            fs::write(file, self.csv()).expect("the file can be written");
        }
    }

    /// The table alone.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('<', "\\<")).collect();
            writeln!(text, "| {} |", cells.join(" | ")).expect("memory suffices");
        };
        let head: Vec<_> = std::iter::once(String::new()).chain(self.columns.clone()).collect();
        line(&head);
        let rule = |n: usize| if n == 0 { "---" } else { "---:" }.to_owned();
        line(&(0..head.len()).map(rule).collect::<Vec<_>>());
        self.rows.iter().for_each(|row| line(row));
        text
    }

    /// As it is in its file.
    pub fn csv(&self) -> String {
        let mut text = String::new();
        let quoted = |cell: &String| match cell.contains([',', '"', '\n']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.clone(),
        };
        let head: Vec<_> = std::iter::once(&self.title).chain(&self.columns).map(quoted).collect();
        writeln!(text, "{}", head.join(",")).expect("memory suffices");
        for row in &self.rows {
            let cells: Vec<_> = row.iter().map(quoted).collect();
            writeln!(text, "{}", cells.join(",")).expect("memory suffices");
        }
        text
    }

    /// What was written as `name`.
    pub fn read(name: &str, csv: &str) -> Self {
        let mut lines = csv.lines().map(cells);
        let mut head = lines.next().unwrap_or_default();
        let title = if head.is_empty() { String::new() } else { head.remove(0) };
        Self { name: name.to_owned(), title, columns: head, rows: lines.collect() }
    }

    /// A number in it. Empty cells, and what is not there, have none.
    pub fn number(&self, of: &str, column: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row[0] == of)?;
        let place = self.columns.iter().position(|name| name == column)? + 1;
        row.get(place)?.parse().ok()
    }
}

/// The cells of a line. No cell has a line break.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let (mut quoted, mut letters) = (false, line.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => push(&mut cells, '"'),
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            letter => push(&mut cells, letter),
        }
    }
    cells
}

fn push(cells: &mut [String], letter: char) {
    cells.last_mut().expect("there is one").push(letter);
}

/// The least that is no less than this part of them all.
pub fn quantile(samples: &[f64], part: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}
