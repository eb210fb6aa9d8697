//! Uploads that break: a client that vanishes, a killed server, a full disk, two servers on one folder.

use std::{fs, process::Command};

use tokio::sync::mpsc;
use transferscore::{
    cancel::Cancel,
    error::Reason,
    scoring::Scoring,
    transport::{
        client::{Client, ClientError},
        proto::{ModelUploadHeader, UploadModelResponse},
    },
};

use super::{Place, assert_refused, broken_chunks, digits, open, overwriting, upload};
use crate::server_process::ServerProcess;

/// Sends a file's bytes; the stream ends when `more` is dropped.
async fn send(
    address: &str,
    name: &str,
    sent: &[u8],
    more: mpsc::Receiver<Vec<u8>>,
) -> Result<UploadModelResponse, ClientError> {
    let header =
        ModelUploadHeader { name: name.to_owned(), sha256: upload(name, sent).sha256, ..ModelUploadHeader::default() };
    Client::connect(address).await?.upload_model(header, more).await
}

fn in_progress(place: &Place) -> bool {
    place.tree().iter().any(|path| path.ends_with("received"))
}

fn serve(place: &Place, command: Command) -> ServerProcess {
    ServerProcess::start_by(command, &place.models(), &place.datasets(), &["--allow-uploads"])
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_transferscore"))
}

/// Folders for a server of its own.
fn folders() -> Place {
    let place = Place::new();
    Place { scorer: crate::scoring::bundled(), ..place }
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let (place, bytes) = (Place::new(), digits("digits-75"));
    place.model(&upload("m", &bytes), &bytes).unwrap();
    let before = place.tree();
    for name in ["m", "other"] {
        let upload = overwriting(name, &bytes);
        let answer = place.scorer.upload_model(&upload, &mut broken_chunks(&bytes), &Cancel::default());
        assert_refused(answer, Reason::Cancelled, None, "broke off");
        assert_eq!(place.tree(), before);
    }
    assert_eq!(place.scorer.model("m").unwrap().problem, "");
    place.model(&upload("other", &bytes), &bytes).unwrap();
}

#[tokio::test]
async fn a_real_server_takes_a_model_and_outlives_a_client_that_vanishes() {
    let (place, bytes) = (folders(), digits("digits-75"));
    let server = serve(&place, binary());
    let (sender, more) = mpsc::channel(4);
    let half = bytes[..60_000].to_vec();
    sender.send(half).await.unwrap();
    let (address, whole) = (server.address.clone(), bytes.clone());
    let vanishing = tokio::spawn(async move { send(&address, "m", &whole, more).await.map(drop) });
    while !in_progress(&place) {
        tokio::task::yield_now().await;
    }
    vanishing.abort();
    while !place.tree().is_empty() {
        tokio::task::yield_now().await;
    }
    let (sender, more) = mpsc::channel(4);
    sender.send(bytes.clone()).await.unwrap();
    drop(sender);
    let answer = send(&server.address, "m", &bytes, more).await.unwrap();
    assert_eq!(answer.model.unwrap().digest, upload("m", &bytes).sha256);
    let names: Vec<String> =
        Client::connect(&server.address).await.unwrap().models().await.unwrap().into_iter().map(|m| m.name).collect();
    assert_eq!(names, ["m"]);
}

#[tokio::test]
async fn what_a_killed_server_left_is_cleared_away_at_the_next_start() {
    let (place, bytes) = (folders(), digits("digits-75"));
    let server = serve(&place, binary());
    let (sender, more) = mpsc::channel(4);
    sender.send(bytes[..60_000].to_vec()).await.unwrap();
    let (address, whole) = (server.address.clone(), bytes.clone());
    let lost = tokio::spawn(async move { send(&address, "m", &whole, more).await.map(drop) });
    while !in_progress(&place) {
        tokio::task::yield_now().await;
    }
    server.kill();
    lost.await.unwrap().unwrap_err();
    assert!(in_progress(&place), "the kill left something");
    let scorer = open(place.folder.path(), 1 << 20, 1 << 20).unwrap();
    assert!(place.tree().is_empty());
    assert!(!scorer.models().iter().any(|model| model.name == "m"));
}

#[test]
fn a_kill_between_two_renames_loses_neither_version() {
    let (place, bytes) = (folders(), digits("digits-75"));
    let at = |path: &str| place.models().join(".uploads").join(path);
    // Before the second rename, and after it.
    for folder in ["3/new/m", "3/replaced/m", "4/replaced/there"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::create_dir(place.models().join("there")).unwrap();
    fs::write(at("3/replaced/m/model.onnx"), &bytes).unwrap();
    fs::write(at("3/new/m/model.onnx"), b"half").unwrap();
    fs::write(at("4/replaced/there/model.onnx"), b"old").unwrap();
    fs::write(place.models().join("there/model.onnx"), &bytes).unwrap();
    let scorer = open(place.folder.path(), 1 << 20, 1 << 20).unwrap();
    let digest = upload("", &bytes).sha256;
    assert_eq!((scorer.model("m").unwrap().digest, scorer.model("there").unwrap().digest), (digest.clone(), digest));
    assert_eq!(place.tree(), ["models/m", "models/m/model.onnx", "models/there", "models/there/model.onnx"]);
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let (place, bytes) = (folders(), digits("digits-75"));
    // No file may grow beyond 64 blocks: the kernel refuses to write as it does on a full disk.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_transferscore")]);
    let server = serve(&place, command);
    let (sender, more) = mpsc::channel(4);
    sender.send(bytes.clone()).await.unwrap();
    drop(sender);
    let error = send(&server.address, "m", &bytes, more).await.unwrap_err().to_string();
    assert!(error.contains("the server's disk takes no more") && error.contains("STORAGE_FULL"), "{error}");
    assert!(place.tree().is_empty(), "{:?}", place.tree());
    let models = Client::connect(&server.address).await.unwrap().models().await.unwrap();
    assert!(models.is_empty());
}

#[tokio::test]
async fn a_client_that_sends_without_end_is_told_where_it_ends() {
    let place = folders();
    let flags = ["--allow-uploads", "--upload-limit", "3"];
    let server = ServerProcess::start_by(binary(), &place.models(), &place.datasets(), &flags);
    let (sender, more) = mpsc::channel(4);
    // Goes on until nobody takes the chunks.
    let sending = tokio::spawn(async move { while sender.send(vec![7; 1 << 20]).await.is_ok() {} });
    let error = send(&server.address, "m", b"", more).await.unwrap_err().to_string();
    assert!(error.contains("more than the 3145728 bytes allowed") && error.contains("LIMIT_EXCEEDED"), "{error}");
    sending.await.unwrap();
    while !place.tree().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn one_server_takes_uploads_into_a_folder() {
    let place = Place::new();
    let second = open(place.folder.path(), 1 << 20, 1 << 20).map(drop);
    assert_refused(second, Reason::UploadsNotAllowed, None, "another server does");
    let folder = place.folder;
    drop(place.scorer);
    open(folder.path(), 1 << 20, 1 << 20).unwrap();
    fs::remove_dir_all(folder.path().join("models/.uploads")).unwrap();
    std::os::unix::fs::symlink("/tmp", folder.path().join("models/.uploads")).unwrap();
    let linked = open(folder.path(), 1 << 20, 1 << 20).map(drop);
    assert_refused(linked, Reason::UploadsNotAllowed, None, "is no folder");
}
