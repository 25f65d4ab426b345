//! The commands that README.md and the examples tell the reader to run: what they name is
//! there, and is built with the features that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest() -> Table {
    read("Cargo.toml").parse().unwrap()
}

fn strings(list: Option<&Value>) -> BTreeSet<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// These, and what they include.
fn with_included(manifest: &Table, features: &BTreeSet<String>) -> BTreeSet<String> {
    let (mut all, mut open) = (BTreeSet::new(), Vec::from_iter(features.clone()));
    while let Some(feature) = open.pop() {
        // `dep:x` and `x/y` are of others.
        open.extend(strings(manifest["features"].get(&feature)));
        all.insert(feature);
    }
    all
}

/// What Cargo finds: the features that an example needs, and where it is.
fn examples(manifest: &Table) -> BTreeMap<String, (BTreeSet<String>, PathBuf)> {
    let declared = manifest["example"].as_array().unwrap();
    let mut examples = BTreeMap::new();
    for example in declared {
        let name = example["name"].as_str().unwrap().to_owned();
        let path = example.get("path").map(|path| path.as_str().unwrap().into());
        let path = path.unwrap_or_else(|| PathBuf::from(format!("examples/{name}.rs")));
        examples.insert(name, (strings(example.get("required-features")), path));
    }
    examples
}

/// Commands, without what is said of them.
fn commands(text: &str, before: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(before));
    let bare = lines.map(|line| line.split(" #").next().unwrap());
    bare.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// What follows this option.
fn value<'a>(command: &'a [String], option: &str) -> Option<&'a str> {
    let at = command.iter().position(|word| word == option)?;
    command.get(at + 1).map(String::as_str)
}

/// That this command runs an example, with what that needs and no more, or with all there
/// is. Returns its name.
#[track_caller]
fn check_example(manifest: &Table, command: &[String]) -> String {
    let name = value(command, "--example").unwrap_or_else(|| panic!("{command:?}"));
    let examples = examples(manifest);
    let (needed, path) = examples.get(name).unwrap_or_else(|| panic!("no example: {command:?}"));
    assert!(root().join(path).is_file(), "{command:?}: {}", path.display());
    if command.iter().any(|word| word == "--all-features") {
        return name.to_owned();
    }
    let default = if command.iter().any(|word| word == "--no-default-features") {
        BTreeSet::new()
    } else {
        with_included(manifest, &["default".to_owned()].into())
    };
    let named = value(command, "--features").unwrap_or_default();
    let named: BTreeSet<_> =
        named.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    for feature in &named {
        assert!(manifest["features"].get(feature).is_some(), "no feature {feature}: {command:?}");
    }
    let missing: BTreeSet<_> = needed.difference(&default).cloned().collect();
    assert_eq!(named, missing, "the features of {command:?}");
    name.to_owned()
}

#[test]
fn the_examples_of_the_readme() {
    let manifest = manifest();
    let mut run = Vec::new();
    for command in commands(&read("README.md"), "$ cargo run ") {
        run.push(check_example(&manifest, &command));
    }
    assert!(run.len() >= 5, "{run:?}");
}

/// Each example says how to run it.
#[test]
fn the_examples_say_how_to_run_them() {
    let manifest = manifest();
    for (name, (_, path)) in examples(&manifest) {
        let text = read(&path);
        let head: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let head = head.join("\n").replace("//! $ ", "//! ");
        let commands = commands(&head, "//! cargo run ");
        assert!(!commands.is_empty(), "{}", path.display());
        for command in commands {
            assert_eq!(check_example(&manifest, &command), name);
        }
    }
}

#[test]
fn all_else_that_the_readme_runs() {
    let (manifest, readme) = (manifest(), read("README.md"));
    let benches = manifest["bench"].as_array().unwrap();
    let benches: BTreeSet<_> = benches.iter().map(|it| it["name"].as_str().unwrap()).collect();
    let mut seen = 0;
    for command in commands(&readme, "$ ") {
        if let Some(name) = value(&command, "--bench") {
            assert!(benches.contains(name), "{command:?}");
        } else if let Some(other) = value(&command, "--manifest-path") {
            assert!(root().join(other).is_file(), "{command:?}");
        } else if command[0].contains('/') {
            assert!(root().join(&command[0]).is_file(), "{command:?}");
        } else {
            assert_eq!(command[0], "cargo", "{command:?}");
            continue;
        }
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}

/// Every feature is in the table, and nothing else is; and the Rust that is asked for is the
/// one that the manifest asks for.
#[test]
fn what_the_readme_says_of_the_crate() {
    let (manifest, readme) = (manifest(), read("README.md"));
    let table = readme.split("\n| feature | |\n").nth(1).expect("a table of features");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let named = rows.flat_map(|row| {
        let cell = row.split('|').nth(1).unwrap_or_default();
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    });
    let declared = manifest["features"].as_table().unwrap().keys().cloned();
    let declared: BTreeSet<_> = declared.filter(|feature| feature != "default").collect();
    assert_eq!(named.collect::<BTreeSet<_>>(), declared);
    let rust = manifest["package"]["rust-version"].as_str().unwrap();
    assert!(readme.contains(&format!("Rust toolchain ({rust} or later)")), "{rust}");
}
