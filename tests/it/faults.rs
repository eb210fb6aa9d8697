//! What goes wrong around a real server: files that cannot be read, requests that are too large for its memory. What happens to
//! jobs where it is killed, its disk is full or its store is damaged is with the jobs; clients that vanish are with the transport,
//! uploads that break with the uploads.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
};

use transferscore::transport::{
    client::{Client, ClientError},
    proto::{
        CompareTasksRequest, RankSourcesRequest, TransferScoreRequest, compare_tasks_request, rank_sources_request,
        rank_sources_response, transfer_score_request,
    },
};

use crate::{
    dataset::{npy, npz},
    gradient::model::Model,
    server_process::{ServerProcess, repository},
};

fn score(source: &str, dataset: &str, seed: u64) -> TransferScoreRequest {
    TransferScoreRequest {
        source_model: source.to_owned(),
        reference_model: "reference".to_owned(),
        probe: Some(transfer_score_request::Probe::Dataset(dataset.to_owned())),
        max_samples: 16,
        seed,
        ..TransferScoreRequest::default()
    }
}

async fn connect(server: &ServerProcess) -> Client {
    Client::connect(&server.address).await.expect("the server listens")
}

/// A model of the repository under another name.
fn copy(of: &str, folder: &Path) {
    fs::create_dir(folder).expect("room");
    for file in ["model.onnx", "model.toml"] {
        fs::copy(repository("models").join(of).join(file), folder.join(file)).expect("room");
    }
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

/// Whether a text says that a file cannot be read, or is none.
fn says(text: &str) -> bool {
    ["cannot read", "is no file", "is laid out as no known dataset"].iter().any(|words| text.contains(words))
}

/// The kinds of what cannot be read, each made in a file's place. Whoever is root reads a file that nobody may.
fn unreadable(place: impl Fn(&str) -> PathBuf) -> Vec<&'static str> {
    symlink(place("loop"), place("loop")).expect("room");
    symlink("nothing-is-there", place("dangling")).expect("room");
    pipe(&place("pipe"));
    drop(UnixListener::bind(place("socket")).expect("room"));
    fs::write(place("closed"), "nobody reads this").expect("room");
    fs::set_permissions(place("closed"), fs::Permissions::from_mode(0o000)).expect("a change");
    let mut names = vec!["dangling", "loop", "pipe", "socket"];
    if fs::File::open(place("closed")).is_ok() {
        println!("skipped: root reads what nobody may");
        fs::remove_file(place("closed")).expect("the file");
    } else {
        names.insert(0, "closed");
    }
    names
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_everything_else_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let (models, datasets) = (folder.path().join("models"), folder.path().join("datasets"));
    fs::create_dir(&models).expect("room");
    fs::create_dir(&datasets).expect("room");
    copy("digits-reference", &models.join("reference"));
    copy("digits-50", &models.join("source"));
    fs::copy(repository("models/datasets/digits.npz"), datasets.join("digits.npz")).expect("room");
    let mut bad_models = unreadable(|name| {
        fs::create_dir_all(models.join(name)).expect("room");
        models.join(name).join("model.onnx")
    });
    fs::create_dir_all(models.join("folder/model.onnx")).expect("room");
    bad_models.push("folder");
    let bad_datasets = unreadable(|name| datasets.join(name).with_extension("npz"));
    let server = ServerProcess::start(&models, &datasets);
    let client = connect(&server).await;

    let of_models = bad_models.iter().map(|&bad| (bad, score(bad, "digits", 0), "MODEL_INVALID, source_model"));
    let of_datasets = bad_datasets.iter().map(|&bad| (bad, score("source", bad, 0), "DATASET_INVALID, dataset"));
    for (bad, request, reason) in of_models.chain(of_datasets) {
        let told = client.transfer_score(request).await.expect_err(bad).to_string();
        assert!(says(&told) && told.contains(reason), "{bad}: {told}");
        assert!(!told.contains(folder.path().to_str().expect("UTF-8")), "{bad} tells where the folder lies: {told}");
    }
    let listed = client.models().await.expect("models");
    for model in &listed {
        let is_bad = bad_models.contains(&model.name.as_str());
        assert_eq!(says(&model.problem), is_bad, "{}: {}", model.name, model.problem);
    }
    assert_eq!(listed.len(), bad_models.len() + 2);
    for dataset in client.datasets().await.expect("datasets") {
        let is_bad = bad_datasets.contains(&dataset.name.as_str());
        assert_eq!(says(&dataset.problem), is_bad, "{}: {}", dataset.name, dataset.problem);
    }
    client.transfer_score(score("source", "digits", 0)).await.expect("scores");
    let request = RankSourcesRequest {
        reference_model: "reference".to_owned(),
        probe: Some(rank_sources_request::Probe::Dataset("digits".to_owned())),
        max_samples: 16,
        ..RankSourcesRequest::default()
    };
    let mut events = client.rank_sources(request).await.expect("a stream");
    let mut skipped = Vec::new();
    while let Some(event) = events.next().await.expect("an event") {
        if let Some(rank_sources_response::Event::Ranking(ranking)) = event.event {
            assert_eq!(ranking.sources.len(), 1);
            skipped = ranking.skipped.into_iter().map(|skipped| skipped.source_model).collect();
        }
    }
    bad_models.sort_unstable();
    assert_eq!(skipped, bad_models, "a ranking of all models goes without them");
}

#[tokio::test]
async fn a_model_that_becomes_unreadable_while_it_is_in_use_is_back_with_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    copy("digits-reference", &folder.path().join("reference"));
    copy("digits-50", &folder.path().join("source"));
    let server = ServerProcess::start(folder.path(), &repository("models/datasets"));
    let client = connect(&server).await;
    let before = client.transfer_score(score("source", "digits", 0)).await.expect("scores");
    let (file, away) = (folder.path().join("source/model.onnx"), folder.path().join("source/away"));
    fs::rename(&file, &away).expect("a move");
    fs::create_dir(&file).expect("room");
    let told = client.transfer_score(score("source", "digits", 0)).await.expect_err("a folder").to_string();
    assert!(told.contains("cannot read source/model.onnx: it is no regular file"), "{told}");
    fs::remove_dir(&file).expect("the folder");
    fs::rename(&away, &file).expect("a move");
    assert_eq!(client.transfer_score(score("source", "digits", 0)).await.expect("scores"), before);
}

/// The most memory that a process has had so far, in bytes.
fn peak_bytes(server: &ServerProcess) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kibibytes: u64 = peak.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    kibibytes << 10
}

#[tokio::test]
async fn what_would_not_fit_in_memory_is_refused_before_any_is_taken_for_it() {
    const SAMPLES: u64 = 100_000;
    /// What the refusals may take. The outputs of either model alone are 3 GiB.
    const MOST: u64 = 256 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["wide", "reference"] {
        let model = Model::new(17).input("x", "n,4").weight("w", &[4, 8_192]);
        let bytes = model.node("MatMul", &["x", "w"], &["y"], &[]).output("y").bytes();
        fs::write(folder.path().join(name).with_extension("onnx"), bytes).expect("room");
    }
    let samples: Vec<f32> = (0..SAMPLES * 4).map(|index| (index % 251) as f32 / 251.0).collect();
    fs::write(folder.path().join("many.npz"), npz(&[("x", npy(&[SAMPLES, 4], &samples))])).expect("room");
    let flags = ["--sample-limit", "100000"];
    let server = ServerProcess::start_with(folder.path(), folder.path(), &flags);
    let client = connect(&server).await;
    // Everything is loaded and compiled.
    client.transfer_score(score("wide", "many", 0)).await.expect("scores");
    let before = peak_bytes(&server);

    let whole = TransferScoreRequest { max_samples: 0, ..score("wide", "many", 0) };
    let refusals: [Option<ClientError>; 3] = [
        client.transfer_score(whole).await.err(),
        first_refusal(&client).await,
        client
            .compare_tasks(CompareTasksRequest {
                models: ["wide", "reference"].map(str::to_owned).into(),
                probe: Some(compare_tasks_request::Probe::Dataset("many".to_owned())),
                ..CompareTasksRequest::default()
            })
            .await
            .expect("a stream")
            .next()
            .await
            .err(),
    ];
    for refusal in refusals {
        let told = refusal.expect("it does not fit").to_string();
        assert!(told.contains("LIMIT_EXCEEDED, max_samples"), "{told}");
    }
    let grown = peak_bytes(&server) - before;
    assert!(grown < MOST, "refusing took {} MiB", grown >> 20);
    client.transfer_score(score("wide", "many", 1)).await.expect("the server goes on");
}

/// What a ranking of too much is told.
async fn first_refusal(client: &Client) -> Option<ClientError> {
    let request = RankSourcesRequest {
        source_models: vec!["wide".to_owned()],
        reference_model: "reference".to_owned(),
        probe: Some(rank_sources_request::Probe::Dataset("many".to_owned())),
        ..RankSourcesRequest::default()
    };
    client.rank_sources(request).await.expect("a stream").next().await.err()
}
