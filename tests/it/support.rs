//! What several areas need: the runtime, the shared folder.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use transferscore::runtime::Runtime;

/// The ONNX Runtime library that `make setup` put in place.
pub fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return path.into();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".onnxruntime");
    std::fs::read_dir(&folder)
        .expect("ONNX Runtime is set up; run `make setup`")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.")))
        .expect("the library lies in .onnxruntime; run `make setup`")
}

/// One runtime of two threads for the whole test binary.
pub fn runtime() -> Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    Arc::clone(RUNTIME.get_or_init(|| Runtime::load(&library(), 2).expect("ONNX Runtime loads")))
}

/// A path in the shared folder beside the repository; `None`, after one printed line, where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if full.exists() {
        return Some(full);
    }
    println!("skipped: ../shared/{path} is absent");
    None
}

/// Connections that a server on this machine holds open.
pub fn connections(port: u16) -> usize {
    const LISTENING: &str = "0A";
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux");
    let port = format!(":{port:04X}");
    let is_held = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // A connection without an inode is nobody's any more.
        columns[1].ends_with(&port) && columns[3] != LISTENING && columns[9] != "0"
    };
    table.lines().skip(1).filter(is_held).count()
}
