//! Rules of the whole repository that no lint knows: who may use what, and how files look.
//!
//! ARCHITECTURE.md says why; CONTRIBUTING.md says where to put things instead.

use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const LINES_MAX: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the checkout is there")
}

/// Every file that is part of the repository below `directory`: path from the root, and text.
fn files(directory: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(directory)];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory can be listed") {
            let path = entry.expect("a directory can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_symlink()
                || ["target", ".git", ".venv", ".cache", "node_modules"].contains(&name)
            {
                continue;
            }
            if path.is_dir() {
                waiting.push(path);
            } else if extensions.iter().any(|extension| name.ends_with(extension)) {
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                let below = path.strip_prefix(root()).unwrap_or(&path);
                found.push((below.display().to_string(), text));
            }
        }
    }
    assert!(!found.is_empty(), "there is nothing in {directory}");
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    files("crates", &[".rs"])
}

/// Lines of code outside unit tests, with their numbers, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn complain(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Places in the sources that are for `at` and have one of `words`.
fn found(at: impl Fn(&str) -> bool, words: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| at(path)) {
        for (number, line) in code(text) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{path}:{number}: {word}"));
            }
        }
    }
    broken
}

#[test]
fn only_the_catalog_has_sql() {
    let words = ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "CREATE TABLE", "sqlx::"];
    let outside =
        |path: &str| path.contains("/src/") && !path.starts_with("crates/calotype-server/src/db");
    complain("SQL belongs to calotype-server/src/db", &found(outside, &words));
}

#[test]
fn only_the_wire_knows_http_servers() {
    let outside = |path: &str| {
        path.contains("/src/")
            && !path.starts_with("crates/calotype-server/src/http")
            && path != "crates/calotype-net/src/metadata.rs"
    };
    complain(
        "only the wire knows axum and hyper",
        &found(outside, &["axum::", "hyper::", "hyper_util"]),
    );
}

#[test]
fn the_rules_never_see_a_header() {
    let app = |path: &str| path.starts_with("crates/calotype-server/src/app");
    complain("app never sees a header", &found(app, &["HeaderMap", ".headers"]));
}

#[test]
fn pure_crates_open_nothing_wait_for_nothing_and_read_no_clock() {
    let pure = |path: &str| {
        ["crates/calotype-disk/src/", "crates/calotype-api/src/"]
            .iter()
            .any(|at| path.starts_with(at))
    };
    let words = [
        "tokio",
        "async ",
        "std::fs",
        "std::net::Tcp",
        "std::process",
        "Instant",
        "SystemTime",
        "Timestamp::now",
        "Zoned::now",
    ];
    complain("calotype-disk and calotype-api are pure", &found(pure, &words));
}

#[test]
fn libraries_say_nothing_on_their_own() {
    let library = |path: &str| {
        path.contains("/src/") && !path.contains("/tests") && !path.starts_with("crates/calotype/")
    };
    complain(
        "libraries log, they do not print",
        &found(library, &["println!", "eprintln!", "print!("]),
    );
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        for (number, line) in code(&text) {
            let line = line.trim_start();
            if line.starts_with("#[allow(") || line.starts_with("#![allow(") {
                broken.push(format!("{path}:{number}"));
            }
        }
        for (start, _) in text.match_indices("[expect(") {
            let end = text[start..].find(")]").map_or(text.len(), |length| start + length);
            if !text[start..end].contains("reason =") {
                broken.push(format!("{path}: no reason: {}", &text[start..end]));
            }
        }
    }
    broken.retain(|place| !place.starts_with("crates/calotype/tests/tidy.rs"));
    complain("use #[expect(…, reason = \"…\")]", &broken);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{path} has {lines} lines; the limit is {LINES_MAX}"));
        }
        if !text.starts_with("//! ") {
            broken.push(format!("{path} does not begin with //!"));
        }
    }
    complain("every file is short and has a module doc", &broken);
}

#[test]
fn nothing_is_left_undone_in_the_code() {
    let words = ["todo!(", "unimplemented!(", "FIXME"];
    let everywhere = |path: &str| path != "crates/calotype/tests/tidy.rs";
    complain("finish it or file it", &found(everywhere, &words));
}

#[test]
fn nothing_names_the_machine_that_it_was_written_on() {
    let words = [concat!("/wo", "rk/"), concat!("/tmp/", "brief")];
    let kinds =
        [".rs", ".md", ".py", ".sh", ".toml", ".txt", ".json", "setup", "test", "demo", "run"];
    let mut broken = Vec::new();
    for (path, text) in files("", &kinds) {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    complain("no path of one machine", &broken);
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in files("", &[".md"]) {
        let directory = root().join(&path).parent().unwrap().to_owned();
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let outside = target.is_empty() || target.contains("://");
            if !outside && !directory.join(target).exists() {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    complain("dead links", &broken);
}
