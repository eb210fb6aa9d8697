//! The real binary, serving on a free port, as programs in other languages meet it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use tempfile::TempDir;

/// A file or folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A server that stops when this is dropped.
pub struct ServerProcess {
    /// `host:port`.
    pub address: String,
    child: Child,
    // Kept open, so that the server can go on writing.
    _stdout: BufReader<ChildStdout>,
    _logs: TempDir,
}

impl ServerProcess {
    /// Starts a server and returns once it says that it is ready.
    ///
    /// # Panics
    /// With the server's own log, when it ends before that.
    pub fn start(models: &Path, datasets: &Path) -> ServerProcess {
        ServerProcess::start_with(models, datasets, &[])
    }

    /// The same with more flags.
    ///
    /// # Panics
    /// As [`ServerProcess::start`].
    pub fn start_with(models: &Path, datasets: &Path, flags: &[&str]) -> ServerProcess {
        ServerProcess::start_by(Command::new(env!("CARGO_BIN_EXE_transferscore")), models, datasets, flags)
    }

    /// The same by a command that runs the server with the arguments that it is given.
    ///
    /// # Panics
    /// As [`ServerProcess::start`].
    pub fn start_by(mut command: Command, models: &Path, datasets: &Path, flags: &[&str]) -> ServerProcess {
        let logs = tempfile::tempdir().unwrap();
        let log = logs.path().join("stderr");
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags)
            .arg("--models")
            .arg(models)
            .arg("--datasets")
            .arg(datasets)
            // ONNX Runtime is found in the working directory when the target directory is elsewhere.
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let Some(address) = announced_address(&mut stdout) else {
            let status = child.wait().unwrap();
            panic!("the server ended before it was ready, {status}:\n{}", std::fs::read_to_string(&log).unwrap());
        };
        ServerProcess { address, child, _stdout: stdout, _logs: logs }
    }

    /// A server with the models and the dataset that come with the repository.
    pub fn start_bundled() -> ServerProcess {
        ServerProcess::start(&repository("models"), &repository("models/datasets"))
    }
}

impl ServerProcess {
    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server as an operator would, and tells how it ended.
    #[cfg(feature = "opentelemetry")]
    pub fn stop(mut self) -> std::process::ExitStatus {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        self.child.wait().unwrap()
    }

    /// Ends the server as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of the line `listening on ADDRESS`, or none at the end of the output.
fn announced_address(stdout: &mut impl BufRead) -> Option<String> {
    stdout.lines().map_while(Result::ok).find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
}
