//! The layers of ARCHITECTURE.md, kept by reading the sources: mostly what is not there.

use std::path::{Path, PathBuf};

/// The mathematics: pure, no I/O, no clock, no randomness of its own.
const MATHEMATICS: [&str; 5] = ["attack/", "metric/", "knowledge/", "stats/", "training/"];

/// Sends traces by a library that takes its settings of TLS in tonic's words.
const TRACES: &str = "telemetry/traces.rs";

/// A source file without comments, strings' contents and unit tests.
struct Source {
    /// Relative to `src/`, with forward slashes.
    path: String,
    lines: Vec<(usize, String)>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("src is readable") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|kind| kind == "rs") => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    files.iter().map(|file| read(&root, file)).collect()
}

fn read(root: &Path, file: &Path) -> Source {
    let path = file.strip_prefix(root).expect("below src").to_string_lossy().replace('\\', "/");
    let text = std::fs::read_to_string(file).expect("a source file");
    Source { path, lines: code(&text) }
}

/// The lines of code: comments and what stands in quotes taken out, unit tests left off (they end a file).
fn code(text: &str) -> Vec<(usize, String)> {
    let mut in_text = false;
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .map(|(index, line)| (index + 1, without_text(line, &mut in_text)))
        .filter(|(_, line)| !line.trim().is_empty())
        .collect()
}

/// The line with its quotes but without what is in them. `in_text` says whether a text goes on from line to line.
fn without_text(line: &str, in_text: &mut bool) -> String {
    let characters: Vec<char> = line.chars().collect();
    let mut kept = String::new();
    let mut at = 0;
    while let Some(&character) = characters.get(at) {
        at += 1;
        match (*in_text, character) {
            (true, '\\') => at += 1,
            (_, '"') => {
                *in_text = !*in_text;
                kept.push('"');
            }
            (true, _) => {}
            (false, '/') if characters.get(at) == Some(&'/') => break,
            // A character, not a lifetime.
            (false, '\'') if characters.get(at) == Some(&'\\') => at += 3,
            (false, '\'') if characters.get(at + 1) == Some(&'\'') => at += 2,
            (false, _) => kept.push(character),
        }
    }
    kept
}

/// Whether `word` stands in the line as a whole path segment or identifier.
fn names(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Every place outside `allowed` where one of `words` is named.
fn trespasses(words: &[&str], is_allowed: impl Fn(&str) -> bool) -> Vec<String> {
    sources()
        .iter()
        .filter(|source| !is_allowed(&source.path))
        .flat_map(|source| source.lines.iter().map(move |(number, line)| (&source.path, number, line)))
        .filter(|(_, _, line)| words.iter().any(|word| names(line, word)))
        .map(|(path, number, line)| format!("src/{path}:{number}: {}", line.trim()))
        .collect()
}

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn only_the_transport_names_tonic() {
    let words = [
        "tonic",
        "tonic_health",
        "tonic_prost",
        "tonic_reflection",
        "tonic_types",
        "tonic_web",
        "tower",
        "tower_http",
        "tokio_rustls",
    ];
    assert_none(trespasses(&words, |path| path.starts_with("transport/") || path == TRACES));
}

#[test]
fn only_the_transport_and_the_command_line_name_generated_messages() {
    let words = ["transport::proto", "FILE_DESCRIPTOR_SET"];
    assert_none(trespasses(&words, |path| path.starts_with("transport/") || path.starts_with("cli/")));
}

#[test]
fn only_the_store_of_jobs_names_sqlite() {
    assert_none(trespasses(&["rusqlite", "libsqlite3_sys"], |path| path.starts_with("jobs/store/")));
}

#[test]
fn only_telemetry_names_what_collects_metrics() {
    let words = ["metrics_exporter_prometheus", "set_global_recorder", "tracing_subscriber"];
    assert_none(trespasses(&words, |path| path.starts_with("telemetry/")));
}

#[test]
fn only_one_file_names_opentelemetry() {
    let words = ["opentelemetry", "opentelemetry_otlp", "opentelemetry_sdk", "tracing_opentelemetry"];
    assert_none(trespasses(&words, |path| path == TRACES));
}

#[test]
fn only_the_runtime_names_ort() {
    assert_none(trespasses(&["ort"], |path| path.starts_with("runtime/")));
}

/// ONNX Runtime crashes on some files, so it gets what the compiler has read and written again.
#[test]
fn the_runtime_is_given_no_bytes_of_a_file() {
    let mut found = Vec::new();
    for source in sources() {
        let code: String = source.lines.iter().map(|(_, line)| line.trim()).collect();
        let is_written = |call: &str| call.split(';').next().is_some_and(|call| call.contains(".to_onnx()"));
        for opener in [".compile(", ".compile_for_steps(", "placements(runtime,"] {
            let others = code.split(opener).skip(1).filter(|call| !is_written(call));
            found.extend(others.map(|call| format!("src/{}: {opener}{}", source.path, &call[..call.len().min(40)])));
        }
        let commits = !source.path.starts_with("runtime/") && code.contains("commit_from");
        found.extend(commits.then(|| format!("src/{} opens a session of its own", source.path)));
    }
    assert_none(found);
}

#[test]
fn the_gradient_compiler_knows_no_session_and_no_file() {
    let words = ["runtime", "Runtime", "Session", "std::fs", "File", "std::env"];
    assert_none(trespasses(&words, |path| !path.starts_with("gradient/")));
}

#[test]
fn the_mathematics_has_no_files_clocks_threads_or_randomness_of_its_own() {
    let words = ["std::fs", "File", "std::net", "std::io", "std::env", "std::thread", "std::time", "Instant", "tokio"];
    let above = ["scoring", "registry", "dataset", "runtime", "transport", "cli", "config"];
    let is_elsewhere = |path: &str| !MATHEMATICS.iter().any(|area| path.starts_with(area));
    assert_none(trespasses(&words, is_elsewhere));
    assert_none(trespasses(
        &above.map(|module| format!("crate::{module}")).each_ref().map(String::as_str),
        is_elsewhere,
    ));
}

#[test]
fn nobody_draws_from_a_global_random_source() {
    assert_none(trespasses(&["thread_rng", "OsRng", "SysRng", "from_os_rng", "ThreadRng"], |_| false));
}

#[test]
fn only_configuration_and_command_line_read_the_environment() {
    let words = ["env::var", "env::var_os", "env::vars", "current_dir", "current_exe", "env::args"];
    assert_none(trespasses(&words, |path| path.starts_with("config/") || path.starts_with("cli/")));
}

#[test]
fn nothing_panics_on_what_it_is_given() {
    let found = sources()
        .iter()
        .flat_map(|source| source.lines.iter().map(move |(number, line)| (&source.path, number, line)))
        // A parser's own method may be called expect.
        .map(|(path, number, line)| (path, number, line.replace("cursor.expect(", "").replace("self.expect(", "")))
        .filter(|(_, _, line)| {
            [".unwrap()", ".expect(\"", "panic!(", "todo!(", "unimplemented!("].iter().any(|call| line.contains(call))
        })
        .map(|(path, number, line)| format!("src/{path}:{number}: {}", line.trim()))
        .collect();
    assert_none(found);
}

#[test]
fn arrows_point_down() {
    // Layers from top to bottom. A module may use those after its own line, and its own.
    let layers: &[&[&str]] = &[
        &["cli"],
        &["transport"],
        &["jobs"],
        &["scoring"],
        &["registry", "dataset", "verify"],
        &["attack", "metric", "knowledge", "stats", "training"],
        &["gradient", "runtime"],
    ];
    let mut found = Vec::new();
    for (depth, modules) in layers.iter().enumerate() {
        let above: Vec<String> = layers[..depth].concat().iter().map(|module| format!("crate::{module}")).collect();
        let words: Vec<&str> = above.iter().map(String::as_str).collect();
        found.extend(trespasses(&words, |path| !modules.iter().any(|module| path.starts_with(&format!("{module}/")))));
    }
    assert_none(found);
}

#[test]
fn the_reader_itself_sees_code_and_only_code() {
    let text = "use tonic::Status; // ort\nlet a = (\"ort \\\" ort\", '\"', '\\''); ort::init();\n/// ort\n\
                \"ort\\\nort\"\n#[cfg(test)]\nort\n";
    let lines = code(text);
    let found: Vec<usize> = lines.iter().filter(|(_, line)| names(line, "ort")).map(|(number, _)| *number).collect();
    assert_eq!(found, [2]);
    assert!(names("use ort::Session;", "ort") && !names("use port::Session;", "ort") && !names("sort()", "ort"));
}
