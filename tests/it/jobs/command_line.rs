//! Jobs on the command line.

use super::service::running;
use crate::{
    cli::{run, text},
    transport::fake::{Fake, Running},
};

/// Runs a command against a server; gives its exit code, output and errors.
async fn command(running: &Running, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    arguments.extend(["--server".to_owned(), running.address.to_string()]);
    let work = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let output = tokio::task::spawn_blocking(work).await.expect("no panic");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_job_is_created_watched_shown_and_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let rank =
        ["rank", "--reference", "ok", "--dataset", "digits", "first", "second", "--as-job", "--request-id", "once"];
    assert_eq!(command(&running, &rank).await, (Some(0), "job-1\n".to_owned(), String::new()));
    assert_eq!(command(&running, &rank).await.1, "job-1\n", "the same id, the same job");
    let (code, output, errors) = command(&running, &["jobs", "watch", "job-1"]).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    let expected = [
        "1  queued",
        "2  running",
        "3  first finished",
        "4  first scored",
        "5  second finished",
        "6  second scored",
        "7  succeeded",
    ];
    assert_eq!(lines, expected);
    assert_eq!(command(&running, &["jobs", "watch", "job-1", "--after", "6"]).await.1.trim(), "7  succeeded");

    let compare = ["compare", "ok", "other", "--dataset", "digits", "--as-job", "--json"];
    let (_, created, _) = command(&running, &compare).await;
    let created: serde_json::Value = serde_json::from_str(&created).expect("JSON");
    assert_eq!(created["job"]["name"], "job-2");
    command(&running, &["jobs", "watch", "job-2"]).await;

    let report = folder.path().join("report.html");
    let report = report.to_str().expect("a path in UTF-8");
    for (arguments, words) in [
        (
            &["jobs", "show", "job-1", "--report", report][..],
            &["job-1: ranking on digits, succeeded", "Recommended"][..],
        ),
        (&["jobs", "show", "job-2"], &["job-2: comparison on digits, succeeded", "affinity"]),
        (&["jobs", "list"], &["job-1", "job-2", "succeeded", "digits"]),
        (&["jobs", "list", "--model", "second", "--state", "succeeded"], &["job-1"]),
        (&["jobs", "cancel", "job-2"], &["job-2: succeeded"]),
    ] {
        let (code, output, errors) = command(&running, arguments).await;
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{arguments:?}");
        for word in words {
            assert!(output.contains(word), "{arguments:?} says nothing of {word:?}:\n{output}");
        }
    }
    assert!(std::fs::read_to_string(report).expect("a report").contains("first"));
    let (_, listed, _) = command(&running, &["jobs", "list", "--model", "first", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["jobs"].as_array().map(Vec::len), Some(1));
    let (_, shown, _) = command(&running, &["jobs", "show", "job-1", "--json"]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["ranking"]["rows"][1]["sourceModel"], "second");
}

#[tokio::test]
async fn what_went_wrong_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let rank = ["rank", "--reference", "nowhere", "--dataset", "digits", "--as-job"];
    assert_eq!(command(&running, &rank).await.1, "job-1\n");
    let (code, _, errors) = command(&running, &["jobs", "watch", "job-1"]).await;
    let expected = "error: there is no model nowhere; ListModels lists those there are (MODEL_NOT_FOUND)\n";
    assert_eq!((code, errors.as_str()), (Some(1), expected));
    let (code, output, _) = command(&running, &["jobs", "show", "job-1"]).await;
    assert_eq!(code, Some(0));
    assert!(output.contains("failed") && output.contains("MODEL_NOT_FOUND"), "{output}");
    let (code, _, errors) = command(&running, &["jobs", "show", "job-9"]).await;
    assert_eq!(code, Some(1));
    assert_eq!(errors, "error: there is no job job-9; ListJobs lists those there are (JOB_NOT_FOUND, name)\n");

    for arguments in [
        &["jobs", "list"][..],
        &["rank", "--reference", "ok", "--dataset", "digits", "--as-job"],
        &["rank", "--reference", "ok", "--dataset", "digits", "--request-id", "x", "--server", "127.0.0.1:1"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("--server") || text(&output.stderr).contains("--as-job"));
    }
}
