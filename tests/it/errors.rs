//! The documented list of reasons is the code's.

use std::path::Path;

use transferscore::error::{Kind, Reason};

fn status(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidArgument => "INVALID_ARGUMENT",
        Kind::NotFound => "NOT_FOUND",
        Kind::AlreadyExists => "ALREADY_EXISTS",
        Kind::FailedPrecondition => "FAILED_PRECONDITION",
        Kind::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Kind::Cancelled => "CANCELLED",
        Kind::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Kind::Unavailable => "UNAVAILABLE",
        Kind::Unauthenticated => "UNAUTHENTICATED",
        Kind::PermissionDenied => "PERMISSION_DENIED",
        Kind::Internal => "INTERNAL",
    }
}

/// The words of each reason's `///` comment, from the code's own text.
fn documented_in_code(source: &str) -> Vec<(String, String)> {
    let mut documented = Vec::new();
    let mut comment = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            comment.push(text);
        } else {
            if let Some((_, rest)) = line.split_once(" = \"")
                && let Some((name, _)) = rest.split_once("\" => ")
            {
                documented.push((name.to_owned(), comment.join(" ")));
            }
            comment.clear();
        }
    }
    documented
}

#[test]
fn the_table_of_reasons_matches_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let page = read("docs/errors.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let meanings = documented_in_code(&read("src/error.rs"));
    assert_eq!(meanings.len(), Reason::ALL.len());

    let expected: Vec<(&str, &str, &str)> = Reason::ALL
        .iter()
        .zip(&meanings)
        .map(|(reason, (_, meaning))| (reason.name(), status(reason.kind()), meaning.as_str()))
        .collect();
    let documented: Vec<(&str, &str, &str)> = rows.iter().map(|row| (row[0], row[1], row[2])).collect();
    assert_eq!(documented, expected);
    for row in &rows {
        assert!(row.len() == 4 && !row[3].is_empty(), "{} says what mends it", row[0]);
    }
}

#[test]
fn names_of_reasons_are_unique_and_shouted() {
    let mut names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
}
