//! What the store keeps, in which order, and what it refuses.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use transferscore::{
    cancel::Cancel,
    error::{Error, Reason},
    jobs::{
        Contents, Created, Ending, Happened, Job, JobFilter, JobKind, JobNumber, JobState, Jobs, NewJob, Outcome,
        Store, StoreError, Work, WorkEvent,
    },
    limits,
    scoring::Units,
};

use super::file;

const ROOM: u64 = 64 << 20;
const MANY: usize = 1_000;

fn open(folder: &Path) -> Store {
    Store::open(folder, ROOM).expect("a store")
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn new(request: &[u8]) -> NewJob {
    NewJob {
        kind: JobKind::Ranking,
        request_id: None,
        request: request.to_vec(),
        models: vec!["first".to_owned(), "reference".to_owned()],
        dataset: "digits".to_owned(),
    }
}

fn create(store: &Store, new: &NewJob, now: SystemTime) -> Job {
    match store.create(new, MANY, now).expect("room") {
        Created::New(job) => job,
        other => panic!("{other:?}"),
    }
}

fn numbers(jobs: &[Job]) -> Vec<i64> {
    jobs.iter().map(|job| job.number.0).collect()
}

fn happened(store: &Store, job: JobNumber) -> Vec<Happened> {
    let events = store.events(job, 0, MANY).expect("events");
    assert!(events.iter().zip(1..).all(|(event, sequence)| event.sequence == sequence), "{events:?}");
    assert_eq!(events.len() as u64, store.job(job).expect("a read").expect("the job").last_sequence);
    events.into_iter().map(|event| event.what).collect()
}

#[test]
fn a_job_is_the_same_after_the_store_was_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let failed = Error::new(Reason::ModelNotFound, "there is no model x").at("reference_model");
    let before = {
        let store = open(&folder.path().join("made"));
        let [first, second] = [b"a", b"b"].map(|request| create(&store, &new(request), at(1)).number);
        let (claimed, request) = store.claim(at(2)).expect("a read").expect("a job waits");
        assert_eq!((claimed.number, claimed.state, claimed.attempts), (first, JobState::Running, 1));
        assert_eq!(request, b"a");
        store.keep_unit(first, "key", "first", b"unit", 1).expect("room");
        store.add_row(first, b"row".to_vec()).expect("room");
        assert_eq!(store.add_row(first, b"row".to_vec()).expect("a read"), 4, "the same row is no news");
        assert_eq!(store.unit(first, "key").expect("a read"), Some(b"unit".to_vec()));
        assert_eq!(store.unit(second, "key").expect("a read"), None, "units are a job's own");
        let ending = Ending::Succeeded { result: b"result".to_vec(), models: vec!["found".to_owned()] };
        assert_eq!(store.end(first, &ending, at(3)).expect("room"), 5);
        store.claim(at(4)).expect("room");
        store.end(second, &Ending::Failed(failed.clone()), at(5)).expect("room");
        assert_eq!(store.unit(first, "key").expect("a read"), None, "a job that is over needs no units");
        store.list(&JobFilter::default(), None, MANY).expect("a read")
    };
    let store = open(&folder.path().join("made"));
    let after = store.list(&JobFilter::default(), None, MANY).expect("a read");
    assert_eq!(after, before);
    let [second, first] = &after[..] else { panic!("{after:?}") };
    assert_eq!((first.state, second.state), (JobState::Succeeded, JobState::Failed));
    assert_eq!((first.created, first.started, first.ended), (at(1), Some(at(2)), Some(at(3))));
    assert_eq!(first.models, ["first", "found", "reference"]);
    assert_eq!(second.error, Some(failed));
    let contents = store.contents(first.number).expect("a read").expect("the job");
    assert_eq!(contents, Contents { request: b"a".to_vec(), result: Some(b"result".to_vec()) });
    let expected = [
        Happened::State(JobState::Queued),
        Happened::State(JobState::Running),
        Happened::Unit { name: "first".to_owned(), attempt: 1 },
        Happened::Row(b"row".to_vec()),
        Happened::State(JobState::Succeeded),
    ];
    assert_eq!(happened(&store, first.number), expected);
    let part = store.events(first.number, 2, 2).expect("events");
    assert_eq!(part.iter().map(|event| event.sequence).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_clock_that_jumps_changes_no_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    // Back by a day, before 1970, ahead by years.
    let times = [at(100_000), at(13_600), UNIX_EPOCH - Duration::from_secs(9), at(4_000_000_000), at(100_000)];
    times.iter().for_each(|&time| drop(create(&store, &new(b"a"), time)));
    let listed = store.list(&JobFilter::default(), None, MANY).expect("a read");
    assert_eq!(numbers(&listed), [5, 4, 3, 2, 1]);
    assert_eq!(listed.iter().rev().map(|job| job.created).collect::<Vec<_>>(), times);
    let rest = store.list(&JobFilter::default(), Some(JobNumber(4)), 2).expect("a read");
    assert_eq!(numbers(&rest), [3, 2]);
    let (job, _) = store.claim(at(1)).expect("a read").expect("a job");
    assert_eq!(job.number, JobNumber(1), "first come, first served");
    store.end(job.number, &Ending::Interrupted, at(0)).expect("room");
    let (job, _) = store.claim(at(0)).expect("a read").expect("a job");
    assert_eq!((job.number, job.attempts, job.started), (JobNumber(1), 2, Some(at(1))), "it goes on in its place");
}

#[test]
fn filters_go_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for (second, (model, dataset)) in [("a", "digits"), ("b", "digits"), ("a", "faces"), ("c", "")].iter().enumerate() {
        let models = vec![(*model).to_owned(), "reference".to_owned()];
        let new = NewJob { models, dataset: (*dataset).to_owned(), ..new(b"x") };
        create(&store, &new, at(second as u64 + 1));
    }
    store.cancel(JobNumber(1), at(9)).expect("room");
    let some = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (JobFilter { model: some("a"), ..JobFilter::default() }, &[3, 1][..]),
        (JobFilter { model: some("reference"), ..JobFilter::default() }, &[4, 3, 2, 1]),
        (JobFilter { model: some("a' OR 1 = 1 --"), ..JobFilter::default() }, &[]),
        (JobFilter { dataset: some("digits"), ..JobFilter::default() }, &[2, 1]),
        (JobFilter { model: some("a"), dataset: some("digits"), ..JobFilter::default() }, &[1]),
        (JobFilter { states: vec![JobState::Cancelled], ..JobFilter::default() }, &[1]),
        (JobFilter { states: vec![JobState::Queued, JobState::Running], ..JobFilter::default() }, &[4, 3, 2]),
        (JobFilter { created_after: Some(at(2)), ..JobFilter::default() }, &[4, 3]),
        (JobFilter { created_before: Some(at(2)), ..JobFilter::default() }, &[1]),
        (JobFilter { created_after: Some(at(1)), created_before: Some(at(3)), ..JobFilter::default() }, &[2]),
    ] {
        assert_eq!(numbers(&store.list(&filter, None, MANY).expect("a read")), expected, "{filter:?}");
    }
}

#[test]
fn a_request_id_makes_one_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let named = |request: &[u8]| NewJob { request_id: Some("mine".to_owned()), ..new(request) };
    let job = create(&store, &named(b"a"), at(1));
    assert_eq!(store.create(&named(b"a"), MANY, at(2)).expect("a read"), Created::Again(job.clone()));
    assert_eq!(store.create(&named(b"a"), 1, at(2)).expect("a read"), Created::Again(job.clone()), "a full queue too");
    assert_eq!(store.create(&named(b"b"), MANY, at(2)).expect("a read"), Created::Taken(job.number));
    let other = NewJob { kind: JobKind::Comparison, ..named(b"a") };
    assert_eq!(store.create(&other, MANY, at(2)).expect("a read"), Created::Taken(job.number));
    assert_eq!(store.create(&new(b"a"), 1, at(2)).expect("a read"), Created::TooMany);
}

#[test]
fn jobs_that_a_killed_process_left_are_taken_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let [going_on, unwanted] = [b"a", b"b"].map(|request| create(&store, &new(request), at(1)).number);
    store.claim(at(2)).expect("room");
    store.keep_unit(going_on, "key", "first", b"unit", 1).expect("room");
    store.claim(at(2)).expect("room");
    assert_eq!(store.cancel(unwanted, at(3)).expect("room").map(|job| job.state), Some(JobState::Running));
    drop(store);

    let store = open(folder.path());
    store.recover(3, at(4)).expect("room");
    let state = |store: &Store, number| store.job(number).expect("a read").expect("the job").state;
    assert_eq!((state(&store, going_on), state(&store, unwanted)), (JobState::Queued, JobState::Cancelled));
    assert_eq!(store.unit(going_on, "key").expect("a read"), Some(b"unit".to_vec()));
    assert_eq!(store.open_jobs().expect("a read"), [(going_on, 4)]);

    // A job that ends every process is given up; one that comes forward is not.
    for _ in 0..2 {
        store.claim(at(5)).expect("room");
        store.recover(3, at(6)).expect("room");
        store.claim(at(5)).expect("room");
        store.keep_unit(going_on, "other", "second", b"unit", 1).expect("room");
        store.recover(3, at(6)).expect("room");
        assert_eq!(state(&store, going_on), JobState::Queued);
    }
    for expected in [JobState::Queued, JobState::Failed] {
        store.claim(at(7)).expect("room");
        store.recover(3, at(8)).expect("room");
        assert_eq!(state(&store, going_on), expected);
    }
    let job = store.job(going_on).expect("a read").expect("the job");
    assert_eq!(job.error.map(|error| error.reason), Some(Reason::JobAbandoned));
}

#[test]
fn a_full_store_refuses_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), 200 << 10).expect("a store");
    let job = create(&store, &new(b"a"), at(1));
    store.claim(at(1)).expect("room");
    let unit = vec![7; 100 << 10];
    store.keep_unit(job.number, "first", "first", &unit, 1).expect("room");
    let error = store.keep_unit(job.number, "second", "second", &unit, 1).expect_err("no room");
    assert!(matches!(error, StoreError::Full), "{error:?}");
    assert_eq!(store.unit(job.number, "first").expect("a read"), Some(unit.clone()));
    assert_eq!(happened(&store, job.number).len(), 3, "no half of the second unit");
    let error = store.create(&new(&unit), MANY, at(2)).expect_err("no room");
    assert_eq!(Error::from(error).reason, Reason::JobStoreFull);

    // With the job's end its units make room.
    store.end(job.number, &Ending::Failed(Error::new(Reason::JobStoreFull, "full")), at(3)).expect("room");
    create(&store, &new(&unit), at(4));
}

#[test]
fn the_oldest_jobs_are_forgotten_first_and_none_that_is_not_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), 1 << 20).expect("a store");
    let all: Vec<JobNumber> = (0..5).map(|_| create(&store, &new(b"a"), at(1)).number).collect();
    all[1..].iter().for_each(|&number| drop(store.cancel(number, at(2)).expect("room")));
    let left = || numbers(&store.list(&JobFilter::default(), None, MANY).expect("a read"));
    store.prune(2).expect("room");
    assert_eq!(left(), [5, 4, 1]);
    assert!(store.events(JobNumber(2), 0, MANY).expect("a read").is_empty());
    assert_eq!(store.contents(JobNumber(3)).expect("a read"), None);

    // More than half full: what is over goes, however little that is.
    let large = create(&store, &new(&vec![7; 600 << 10]), at(3)).number;
    store.prune(MANY).expect("room");
    assert_eq!(left(), [large.0, 1]);
    store.cancel(large, at(4)).expect("room");
    store.prune(MANY).expect("room");
    assert_eq!(left(), [1]);
    assert_eq!(create(&store, &new(b"a"), at(5)).number, JobNumber(7), "no number is given twice");
}

#[test]
fn a_unit_that_changed_on_the_disk_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let job = create(&store, &new(b"a"), at(1)).number;
    for key in ["good", "bad"] {
        store.keep_unit(job, key, key, b"unit", 1).expect("room");
    }
    drop(store);
    file(folder.path()).execute("UPDATE units SET unit = X'00' WHERE key = 'bad'", []).expect("a change");
    let store = open(folder.path());
    assert_eq!(store.unit(job, "good").expect("a read"), Some(b"unit".to_vec()));
    assert_eq!(store.unit(job, "bad").expect("a read"), None);
}

fn refusal(folder: &Path) -> String {
    Store::open(folder, ROOM).expect_err("a refusal").to_string()
}

#[test]
fn a_store_is_one_servers_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    assert!(refusal(folder.path()).contains("another server keeps its jobs here"), "{}", refusal(folder.path()));
    drop(store);
    open(folder.path());
}

#[test]
fn damaged_foreign_and_newer_stores_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let at_file = folder.path().join("jobs.sqlite");
    std::fs::write(&at_file, "this was never a store, and it is long enough to be taken for a header of one")
        .expect("room");
    let message = refusal(folder.path());
    assert!(message.contains("damaged") && message.contains("move it away"), "{message}");
    assert!(message.contains(&at_file.display().to_string()), "{message}");
    assert!(std::fs::read(&at_file).expect("the file").starts_with(b"this was never"));

    std::fs::remove_file(&at_file).expect("the file");
    let store = open(folder.path());
    for _ in 0..50 {
        create(&store, &new(&[7; 3_000]), at(1));
    }
    drop(store);
    let whole = std::fs::read(&at_file).expect("the file");
    // Pages in the middle are lost, as by a disk.
    let mut torn = whole.clone();
    torn[whole.len() / 4..whole.len() / 2].fill(0xa5);
    std::fs::write(&at_file, &torn).expect("room");
    assert!(refusal(folder.path()).contains("damaged"), "{}", refusal(folder.path()));

    std::fs::write(&at_file, &whole).expect("room");
    open(folder.path());
    file(folder.path()).pragma_update(None, "user_version", 2).expect("a change");
    assert!(refusal(folder.path()).contains("newer version"), "{}", refusal(folder.path()));
    file(folder.path()).pragma_update(None, "application_id", 5).expect("a change");
    assert!(refusal(folder.path()).contains("not a job store"), "{}", refusal(folder.path()));

    let below = at_file.join("below");
    assert!(refusal(&below).contains("the folder cannot be made"), "{}", refusal(&below));
}

#[test]
fn names_and_numbers_are_one_for_one() {
    assert_eq!(JobNumber(7).to_string(), "job-7");
    assert_eq!("job-7".parse(), Ok(JobNumber(7)));
    for name in ["", "7", "job-", "job-0", "job-07", "job-+7", "job--7", "job-7 ", "Job-7", "job-9223372036854775808"] {
        assert_eq!(name.parse::<JobNumber>(), Err(()), "{name}");
    }
}

/// Finds the device lost the first times.
struct Losing(std::sync::atomic::AtomicU32);

impl Work for Losing {
    fn run(
        &self,
        _: JobKind,
        _: &[u8],
        _: &dyn Units,
        _: &mut (dyn FnMut(WorkEvent) + Send),
        _: &Cancel,
    ) -> Result<Outcome, Error> {
        if self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) > 0 {
            return Err(Error::new(Reason::DeviceLost, "lost"));
        }
        Ok(Outcome { result: b"result".to_vec(), models: Vec::new() })
    }
}

#[test]
fn a_job_that_loses_its_device_again_and_again_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let jobs = Jobs::with_store(open(folder.path())).expect("an empty store");
    let job = jobs.create(&new(b"a")).expect("room");
    let work = Losing(100.into());
    for attempt in 1..=limits::JOB_INTERRUPTIONS {
        assert!(jobs.run_next(&work).expect("a job"), "attempt {attempt}");
    }
    let now = jobs.get(job.number).expect("the job");
    let error = now.error.expect("an error");
    assert_eq!((now.state, error.reason), (JobState::Failed, Reason::JobAbandoned));
    assert!(error.message.contains("its device was lost 5 times"), "{}", error.message);
    assert!(!jobs.run_next(&work).expect("no job"));
}

#[test]
fn a_job_whose_device_was_lost_waits_for_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let jobs = Jobs::with_store(open(folder.path())).expect("an empty store");
    let job = jobs.create(&new(b"a")).expect("room");
    let work = Losing(1.into());
    for (state, attempts) in [(JobState::Queued, 1), (JobState::Succeeded, 2)] {
        assert!(jobs.run_next(&work).expect("a job"));
        let now = jobs.get(job.number).expect("the job");
        assert_eq!((now.state, now.attempts), (state, attempts));
    }
}
