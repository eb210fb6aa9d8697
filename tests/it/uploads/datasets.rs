//! Datasets: uploaded as `.npz`, Parquet and zip, replaced, deleted, refused.

use std::{
    fs,
    io::{Cursor, Write},
};

use transferscore::{
    cancel::Cancel,
    error::Reason,
    limits,
    registry::Uses,
    scoring::{Scorer, Scoring, types::*},
};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{Place, assert_refused, overwriting, upload};
use crate::{
    dataset::{golden_file, images::png, npy, npz, zipped},
    scoring::{options, pair},
    server_process::repository,
};

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in files {
        zip.start_file(*path, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn digits() -> Vec<u8> {
    fs::read(repository("models/datasets/digits.npz")).unwrap()
}

fn scored(scorer: &Scorer, dataset: &str) -> PairScores {
    let request = PairRequest { probe: Probe::Dataset(dataset.to_owned()), ..pair("digits-50", options()) };
    scorer.score(&request, &Cancel::default()).unwrap()
}

#[test]
fn an_uploaded_archive_scores_as_the_one_it_is_of() {
    let (place, bytes) = (Place::new(), digits());
    let answer = place.dataset(&upload("sent", &bytes), &bytes).unwrap();
    assert_eq!((answer.description.format.as_str(), answer.replaced), ("npz", false));
    assert_eq!(answer.description, place.scorer.dataset("sent").unwrap());
    assert_eq!(place.tree(), ["datasets/sent", "datasets/sent/.upload", "datasets/sent/data.npz"]);
    let (found, expected) = (scored(&place.scorer, "sent"), scored(&place.scorer, "digits"));
    assert_eq!(found.provenance.probe_digest, expected.provenance.probe_digest);
    assert_eq!(found.reference_to_source, expected.reference_to_source);
}

#[test]
fn parquet_and_folders_of_pictures_are_read_as_they_are_on_disk() {
    let place = Place::new();
    let parquet = golden_file("parquet/data/train-00000-of-00002.parquet");
    let answer = place.dataset(&upload("rows", &parquet), &parquet).unwrap();
    assert_eq!(answer.description.format, "parquet");

    let (cat, owl) = (png(4, 3, 1), png(4, 3, 2));
    let bytes = archive(&[
        ("cat/1.png", &cat),
        ("owl/deep/2.png", &owl),
        ("__MACOSX/cat/._1.png", b"of a system"),
        (".hidden/3.png", b"hidden"),
        ("cat/.DS_Store", b"hidden"),
    ]);
    let manifest = "classes = ['owl', 'cat']\nsize = [8, 8]\nsummary = 'two'".to_owned();
    let answer = place.dataset(&Upload { manifest, ..upload("birds", &bytes) }, &bytes).unwrap();
    let DatasetDescription { format, shape, classes, summary, n_samples, .. } = answer.description;
    assert_eq!((format.as_str(), summary.as_str(), n_samples), ("images", "two", 2));
    assert_eq!((shape, classes), (vec![3, 8, 8], vec!["owl".to_owned(), "cat".to_owned()]));
    let unpacked: Vec<String> = place.tree().into_iter().filter(|path| path.contains("birds")).collect();
    let expected = ["", "/.upload", "/cat", "/cat/1.png", "/dataset.toml", "/owl", "/owl/deep", "/owl/deep/2.png"];
    assert_eq!(unpacked, expected.map(|path| format!("datasets/birds{path}")));
}

#[test]
fn what_holds_no_probe_set_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let invalid = Reason::DatasetInvalid;
    let not_a_number = npz(&[("x", npy(&[2, 2], &[0.0f32, 1.0, f32::NAN, 0.5]))]);
    let no_samples = npz(&[("y", npy(&[2], &[0i64, 1]))]);
    let damaged = archive(&[("cat/1.png", b"no picture")]);
    let text = archive(&[("notes.txt", b"words")]);
    let mut broken = archive(&[("cat/1.png", &png(4, 3, 1))]);
    let middle = broken.len() / 3;
    broken[middle] ^= 0xff;
    for (case, bytes, mend) in [
        ("text", b"x,y\n1,2\n".to_vec(), "no .npz, no Parquet file and no .zip"),
        ("nothing", Vec::new(), "no .npz"),
        ("NaN", not_a_number, "NaN"),
        ("no samples", no_samples, "no array \"x\""),
        ("half an archive", digits()[..3_000].to_vec(), "cannot be unpacked"),
        ("half a Parquet file", b"PAR1 and no more".to_vec(), "data.parquet"),
        ("no picture", damaged, "cat/1.png"),
        ("words", text, "no known dataset"),
        ("a flipped bit", broken, "cat/1.png"),
    ] {
        let answer = place.dataset(&upload("d", &bytes), &bytes);
        assert!(place.tree().is_empty(), "{case}: {:?}", place.tree());
        assert_refused(answer, invalid, None, mend);
    }
    let bytes = digits();
    let field = Some("header.manifest");
    for (manifest, mend) in
        [("path = '/etc'", "leave it out"), ("path = '../digits.npz'", "leave it out"), ("colour = 1", "unknown field")]
    {
        let upload = Upload { manifest: manifest.to_owned(), ..upload("d", &bytes) };
        assert_refused(place.dataset(&upload, &bytes), invalid, field, mend);
    }
    let upload = Upload { manifest: "part = 'test'".to_owned(), ..upload("d", &bytes) };
    assert_refused(place.dataset(&upload, &bytes), invalid, None, "part");
    assert!(place.tree().is_empty());
}

#[test]
fn an_archive_writes_nothing_outside_its_folder() {
    let place = Place::new();
    let picture = png(4, 3, 1);
    for (path, mend) in [
        ("../up.png", "leads out of its folder"),
        ("cat/../../up.png", "leads out of its folder"),
        ("/tmp/up.png", "leads out of its folder"),
        ("cat\\up.png", "no plain path"),
        ("C:up.png", "no plain path"),
        ("cat/a\nb.png", "no plain path"),
        ("a/b/c/d/e/f/g/h.png", "too many folders deep"),
        ("dataset.toml", "header.manifest"),
    ] {
        let bytes = archive(&[("cat/1.png", &picture), (path, &picture)]);
        assert_refused(place.dataset(&upload("d", &bytes), &bytes), Reason::DatasetInvalid, None, mend);
        assert!(place.tree().is_empty(), "{path}");
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink("cat/link.png", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    assert_refused(place.dataset(&upload("d", &bytes), &bytes), Reason::DatasetInvalid, None, "is a link");
    // A file and a folder of one name.
    let bytes = archive(&[("cat", &picture), ("cat/1.png", &picture)]);
    assert_refused(place.dataset(&upload("d", &bytes), &bytes), Reason::DatasetInvalid, None, "cannot be unpacked");
    assert!(place.tree().is_empty());
}

#[test]
fn an_archive_unpacks_within_the_bounds_of_files_and_space() {
    let place = Place::within(1 << 20, 2 << 20);
    // A thousandth of its size when packed.
    let zeros = vec![0; 8 << 20];
    let bytes = archive(&[("cat/1.png", &png(4, 3, 1)), ("cat/2.png", &zeros)]);
    assert!(bytes.len() < 100_000);
    assert_refused(place.dataset(&upload("d", &bytes), &bytes), Reason::StorageFull, None, "--upload-space");
    assert!(place.tree().is_empty());

    let place = Place::within(64 << 20, 64 << 20);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..=limits::UPLOADED_FILES {
        zip.start_file(format!("{index}"), SimpleFileOptions::default()).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    let answer = place.dataset(&upload("d", &bytes), &bytes);
    assert_refused(answer, Reason::LimitExceeded, None, "more than the 100000 allowed");
    assert!(place.tree().is_empty());
}

#[test]
fn an_archive_that_lists_too_much_is_told_so() {
    let place = Place::within(64 << 20, 64 << 20);
    for (bytes, mend) in [
        (zipped::listing(limits::ARCHIVE_FILES + 1), "lists 250001 files"),
        (zipped::with_long_list(), "list of files takes more than"),
    ] {
        assert_refused(place.dataset(&upload("d", &bytes), &bytes), Reason::LimitExceeded, None, mend);
        assert!(place.tree().is_empty());
    }
}

#[test]
fn what_was_uploaded_is_deleted_and_nothing_else() {
    let (place, bytes) = (Place::new(), digits());
    let delete = |name: &str| place.scorer.delete_dataset(name, &Cancel::default());
    place.dataset(&upload("sent", &bytes), &bytes).unwrap();
    assert_eq!(delete("sent").unwrap(), bytes.len() as u64);
    assert!(place.tree().is_empty());
    assert_eq!(place.scorer.dataset("sent").unwrap_err().reason, Reason::DatasetNotFound);
    for (name, mend) in [("sent", "no dataset is named"), ("digit", "did you mean digits?"), ("../x", "no dataset")] {
        assert_refused(delete(name), Reason::DatasetNotFound, Some("name"), mend);
    }
    fs::create_dir(place.datasets().join("hand")).unwrap();
    fs::write(place.datasets().join("hand/data.npz"), &bytes).unwrap();
    fs::write(place.datasets().join("bare.npz"), &bytes).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join(".upload"), "sha256 = ''\nbytes = 1").unwrap();
    std::os::unix::fs::symlink(outside.path(), place.datasets().join("link")).unwrap();
    let before = place.tree();
    for name in ["digits", "hand", "bare", "link"] {
        assert_refused(delete(name), Reason::NotUploaded, Some("name"), "was not uploaded");
    }
    assert_eq!(place.tree(), before);
    assert!(outside.path().join(".upload").exists());
}

#[test]
fn a_call_keeps_the_samples_that_it_began_with() {
    let (place, bytes) = (Place::new(), digits());
    let expected = scored(&place.scorer, "digits");
    let fresh = Place::new();
    fresh.dataset(&upload("sent", &bytes), &bytes).unwrap();
    let request = RankingRequest {
        source_models: vec!["digits-50".to_owned()],
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("sent".to_owned()),
        options: options(),
        rank_by: RankingMetric::CombinedReferenceToSource,
        recommend_from: Vec::new(),
    };
    let (mut freed, mut row) = (None, None);
    let mut on_event = |event| match event {
        RankingEvent::Progress(_) if freed.is_none() => {
            freed = Some(fresh.scorer.delete_dataset("sent", &Cancel::default()).unwrap());
        }
        RankingEvent::Row { scores, .. } => row = Some(scores),
        RankingEvent::Progress(_) => {}
    };
    fresh.scorer.rank(&request, &mut on_event, &Cancel::default()).unwrap();
    assert_eq!(freed, Some(bytes.len() as u64));
    assert_eq!(row.unwrap().reference_to_source, expected.reference_to_source);
    assert_eq!(fresh.scorer.dataset("sent").unwrap_err().reason, Reason::DatasetNotFound);
}

#[test]
fn a_replaced_dataset_is_a_new_version() {
    let (place, old) = (Place::new(), digits());
    let new = npz(&[("x", npy(&[9, 3], &[0.25f32; 27]))]);
    place.dataset(&upload("d", &old), &old).unwrap();
    let before = scored(&place.scorer, "d").provenance.probe_digest;
    assert_refused(place.dataset(&upload("d", &new), &new), Reason::NameTaken, Some("header.name"), "overwrite");
    assert!(place.dataset(&overwriting("d", &new), &new).unwrap().replaced);
    assert_eq!(place.scorer.dataset("d").unwrap().n_samples, 9);
    assert!(place.dataset(&overwriting("d", &old), &old).unwrap().replaced);
    assert_eq!(scored(&place.scorer, "d").provenance.probe_digest, before);
}

#[test]
fn a_change_waits_for_readers_of_its_name_alone() {
    let uses = Uses::default();
    let (mine, others) = (uses.begin("a"), uses.begin("b"));
    let again = uses.begin("a");
    let cancel = Cancel::default();
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| uses.alone("a", &cancel, || done.send(()).unwrap()).unwrap());
        drop(mine);
        assert!(finished.try_recv().is_err(), "one still reads");
        drop(again);
        finished.recv().unwrap();
    });
    cancel.cancel();
    assert_eq!(uses.alone("b", &cancel, || ()).unwrap_err().reason, Reason::Cancelled);
    drop(others);
    uses.alone("b", &Cancel::default(), || ()).unwrap();
}
