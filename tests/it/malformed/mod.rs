//! Malformed requests, models and datasets, almost five hundred, sent to one real server: each gets the status and the reason
//! that `docs/errors.md` promises, and after all of them the server answers as before.
//!
//! `requests.json` is the table of requests; a new one is a line there.

mod files;
mod requests;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use prost::Message;
use tonic::{
    Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;
use transferscore::transport::proto::{
    ListDatasetsRequest, ListJobsRequest, ListModelsRequest, TransferScoreRequest, transfer_score_request::Probe,
};

use crate::{
    raw_call::Raw,
    server_process::{ServerProcess, repository},
};

/// One call that is to be refused.
struct Case {
    name: String,
    /// `Service/Method`.
    method: String,
    /// The encoded messages that the client sends.
    messages: Vec<Vec<u8>>,
    reason: String,
    /// Path of the field at fault; may be empty.
    field: String,
}

impl Case {
    fn new(name: &str, method: &str, messages: Vec<Vec<u8>>, reason: &str, field: &str) -> Case {
        let [name, method, reason, field] = [name, method, reason, field].map(str::to_owned);
        Case { name, method, messages, reason, field }
    }
}

/// Sends messages to any method, whether it takes one or a stream of them, and gives every answer.
async fn call(channel: &Channel, method: &str, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("the server takes calls");
    let path = format!("/transferscore.v1.{method}").parse().expect("a path");
    let request = Request::new(tokio_stream::iter(messages));
    let mut answers = client.streaming(request, path, Raw).await?.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await? {
        all.push(answer);
    }
    Ok(all)
}

/// The status of each reason, in the documents' words.
fn documented() -> BTreeMap<String, String> {
    let page = fs::read_to_string(repository("docs/errors.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        (cells.next().unwrap(), cells.next().unwrap())
    })
    .collect()
}

/// A status code as documents write it: `InvalidArgument` is `INVALID_ARGUMENT`.
fn written(status: &Status) -> String {
    let name = format!("{:?}", status.code());
    let words = name.chars().enumerate().flat_map(|(at, letter)| {
        let is_next = at > 0 && letter.is_uppercase();
        is_next.then_some('_').into_iter().chain(letter.to_uppercase())
    });
    words.collect()
}

/// What is wrong with the answer to a malformed call; nothing where it is as documented.
fn objection(
    case: &Case,
    answer: Result<Vec<Vec<u8>>, Status>,
    documented: &BTreeMap<String, String>,
) -> Option<String> {
    let Case { name, reason, field, .. } = case;
    let Err(status) = answer else { return Some(format!("{name}: was answered")) };
    let details = status.get_error_details();
    let told = details.error_info().map_or("", |info| &info.reason).to_owned();
    let fields = details.bad_request().map(|bad| &bad.field_violations).into_iter().flatten();
    let fields: Vec<&str> = fields.map(|violation| violation.field.as_str()).collect();
    let has_id = details.request_info().is_some_and(|info| !info.request_id.is_empty());
    let expected = documented.get(reason).map_or("a documented reason", String::as_str);
    let is_right = written(&status) == *expected && told == *reason && fields.join(", ") == *field;
    let is_told = !status.message().is_empty() && has_id;
    (!is_right || !is_told).then(|| format!("{name}: {told} at {fields:?} instead of {reason} at {field:?}: {status}"))
}

/// A server with the bundled models and data, and folders of its own that take uploads and jobs.
fn serve(folder: &Path) -> ServerProcess {
    let part = |name: &str| {
        let path = folder.join(name);
        fs::create_dir(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (models, datasets, jobs) = (part("models"), part("datasets"), part("jobs"));
    let flags =
        ["--allow-uploads", "--upload-limit", "2", "--models", &models, "--datasets", &datasets, "--jobs", &jobs];
    let command = Command::new(env!("CARGO_BIN_EXE_transferscore"));
    ServerProcess::start_by(command, &repository("models"), &repository("models/datasets"), &flags)
}

/// What a server says that has lost nothing: models, datasets, jobs, and the scores of a pair.
async fn answers(channel: &Channel, seed: u64) -> Vec<Vec<Vec<u8>>> {
    let score = TransferScoreRequest {
        source_model: "digits-50".to_owned(),
        reference_model: "digits-reference".to_owned(),
        probe: Some(Probe::Dataset("digits".to_owned())),
        max_samples: 16,
        seed,
        ..TransferScoreRequest::default()
    };
    let mut answers = Vec::new();
    for (method, message) in [
        ("ModelService/ListModels", ListModelsRequest {}.encode_to_vec()),
        ("DatasetService/ListDatasets", ListDatasetsRequest {}.encode_to_vec()),
        ("JobService/ListJobs", ListJobsRequest::default().encode_to_vec()),
        ("TransferScoreService/TransferScore", score.encode_to_vec()),
    ] {
        answers.push(call(channel, method, vec![message]).await.unwrap_or_else(|status| panic!("{method}: {status}")));
    }
    answers
}

#[tokio::test]
async fn everything_malformed_is_refused_as_documented_and_the_server_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    let before = answers(&channel, 1).await;

    let cases: Vec<Case> =
        [requests::cases(), wire::cases(), files::models(), files::datasets()].into_iter().flatten().collect();
    let distinct: BTreeSet<_> = cases.iter().map(|case| (&case.method, &case.messages)).collect();
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!((distinct.len(), names.len()), (cases.len(), cases.len()), "no case is there twice");
    assert!(cases.len() >= 200, "only {} cases", cases.len());

    let documented = documented();
    let mut objections = Vec::new();
    for case in &cases {
        let answer = call(&channel, &case.method, case.messages.clone()).await;
        objections.extend(objection(case, answer, &documented));
    }
    assert!(objections.is_empty(), "{} of {}:\n{}", objections.len(), cases.len(), objections.join("\n"));

    assert_eq!(answers(&channel, 1).await, before);
    // Computed anew, as nothing is kept of another seed.
    answers(&channel, 2).await;
    for part in ["models", "datasets"] {
        let left = fs::read_dir(folder.path().join(part).join(".uploads")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).filter(|name| name != "lock").collect();
        assert!(left.is_empty(), "{part}: {left:?}");
    }
}
