//! Models: uploaded, replaced, loaded, dropped, refused.

use std::fs;

use bytes::Bytes;
use transferscore::{
    cancel::Cancel,
    error::{Reason, Result},
    limits,
    scoring::{Scorer, Scoring, types::*},
};

use super::{Place, assert_refused, chunks, digits, overwriting, upload};
use crate::{
    gradient::model::Model,
    scoring::{self, options, pair},
    server_process::repository,
};

fn scored(scorer: &Scorer, source: &str, seed: u64) -> PairScores {
    scorer.score(&pair(source, ScoreOptions { seed, ..options() }), &Cancel::default()).unwrap()
}

#[test]
fn an_uploaded_model_scores_as_the_same_file_placed_by_hand() {
    let (place, bytes) = (Place::new(), digits("digits-75"));
    let manifest = fs::read_to_string(repository("models/digits-75/model.toml")).unwrap();
    let answer = place.model(&Upload { manifest, ..upload("sent", &bytes) }, &bytes).unwrap();
    assert!(!answer.replaced);
    assert_eq!(answer.description, place.scorer.model("sent").unwrap());
    assert_eq!(answer.description.digest, upload("sent", &bytes).sha256);
    assert_eq!(
        place.tree(),
        ["models/sent", "models/sent/.upload", "models/sent/model.onnx", "models/sent/model.toml"]
    );

    let by_hand = tempfile::tempdir().unwrap();
    fs::create_dir(by_hand.path().join("sent")).unwrap();
    for file in ["model.onnx", "model.toml"] {
        fs::copy(repository("models/digits-75").join(file), by_hand.path().join("sent").join(file)).unwrap();
    }
    let folders = vec![repository("models"), by_hand.path().to_owned()];
    let other = scoring::scorer(folders, vec![repository("models/datasets")]);
    assert_eq!(scored(&place.scorer, "sent", 0), scored(&other, "sent", 0));
}

#[test]
fn what_is_no_name_is_refused_and_reaches_no_file() {
    let (place, bytes) = (Place::new(), digits("digits-75"));
    let long = "a".repeat(limits::NAME_BYTES + 1);
    for name in ["..", ".", "a/b", "../a", "/etc/a", "a\\b", ".uploads", ".hidden", "a b", "a\0", "é", "a\n", &long] {
        let refused = place.model(&upload(name, &bytes), &bytes);
        assert_refused(refused, Reason::OptionOutOfRange, Some("header.name"), "is no name for a model");
    }
    assert_refused(place.model(&upload("", &bytes), &bytes), Reason::FieldMissing, Some("header.name"), "empty");
    assert!(place.tree().is_empty());
    let longest = "a".repeat(limits::NAME_BYTES);
    place.model(&upload(&longest, &bytes), &bytes).unwrap();
}

#[test]
fn bytes_other_than_announced_are_refused() {
    let (place, bytes) = (Place::new(), digits("digits-75"));
    let mut other = bytes.clone();
    other[60_000] ^= 1;
    let sized = |size_bytes| Upload { size_bytes: Some(size_bytes), ..upload("m", &bytes) };
    let digest = |sha256: &str| Upload { sha256: sha256.to_owned(), ..upload("m", &bytes) };
    let (size, sum) = (Some("header.size_bytes"), Some("header.sha256"));
    let mismatch = Reason::UploadMismatch;
    assert_refused(place.model(&upload("m", &bytes), &other), mismatch, sum, "what came has the SHA-256");
    assert_refused(place.model(&upload("m", &bytes), &bytes[..70_000]), mismatch, size, "70000 bytes came");
    assert_refused(place.model(&sized(70_000), &bytes), mismatch, size, "more bytes came");
    assert_refused(place.model(&digest(""), &bytes), Reason::FieldMissing, sum, "sha256sum");
    for wrong in ["12", &"x".repeat(64), &"a".repeat(65)] {
        assert_refused(place.model(&digest(wrong), &bytes), Reason::OptionOutOfRange, sum, "64 hexadecimal");
    }
    assert!(place.tree().is_empty());
    // Upper case is as good, and the size need not be said.
    let sha256 = upload("m", &bytes).sha256.to_uppercase();
    place.model(&Upload { sha256, size_bytes: None, ..upload("m", &bytes) }, &bytes).unwrap();
}

#[test]
fn what_is_no_model_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let invalid = Reason::ModelInvalid;
    for (bytes, mend) in
        [(&b"no model"[..], "model `m`"), (b"", "empty"), (&digits("digits-75")[..50_000], "model `m`")]
    {
        assert_refused(place.model(&upload("m", bytes), bytes), invalid, None, mend);
        assert!(place.tree().is_empty());
    }
    let bytes = digits("digits-75");
    let with = |manifest: &str| Upload { manifest: manifest.to_owned(), ..upload("m", &bytes) };
    let field = Some("header.manifest");
    assert_refused(place.model(&with("colour = 1"), &bytes), invalid, field, "unknown field `colour`");
    assert_refused(place.model(&with("[input]\nsize = [1]"), &bytes), invalid, field, "input.size");
    assert_refused(place.model(&with(&"#".repeat(70_000)), &bytes), Reason::LimitExceeded, field, "shorten it");
    assert!(place.tree().is_empty());
    // What cannot be differentiated is a model all the same, as it is in a folder.
    let rounded = Model::new(17).input("x", "n,4").node("Round", &["x"], &["y"], &[]).output("y").bytes();
    place.model(&upload("m", &rounded), &rounded).unwrap();
}

#[test]
fn tensors_in_another_file_are_refused() {
    use prost::Message;
    use transferscore::gradient::onnx::{ModelProto, StringStringEntryProto};
    let place = Place::new();
    for location in ["model.toml", "../../secret", "model.data"] {
        let mut model = ModelProto::decode(digits("digits-75").as_slice()).unwrap();
        let tensor = model.graph.as_mut().unwrap().initializer.first_mut().unwrap();
        tensor.external_data = vec![StringStringEntryProto { key: "location".to_owned(), value: location.to_owned() }];
        tensor.data_location = 1;
        tensor.raw_data = Bytes::new();
        let bytes = model.encode_to_vec();
        let answer = place.model(&Upload { manifest: "summary = ''".to_owned(), ..upload("m", &bytes) }, &bytes);
        assert_eq!(answer.unwrap_err().reason, Reason::ModelInvalid, "{location}");
        assert!(place.tree().is_empty());
    }
}

#[test]
fn what_is_too_large_ends_early_and_leaves_nothing() {
    let bytes = digits("digits-75");
    let place = Place::within(50_000, 1 << 20);
    let limit = Reason::LimitExceeded;
    let mut n_asked = 0;
    let mut counted = chunks(&bytes);
    let mut counting = || {
        n_asked += 1;
        counted()
    };
    let announced = place.scorer.upload_model(&upload("m", &bytes), &mut counting, &Cancel::default());
    assert_refused(announced, limit, Some("header.size_bytes"), "--upload-limit");
    assert_eq!(n_asked, 0, "its size was announced");
    let mut counted = chunks(&bytes);
    let mut counting = || {
        n_asked += 1;
        counted()
    };
    let unsaid = Upload { size_bytes: None, ..upload("m", &bytes) };
    let answer = place.scorer.upload_model(&unsaid, &mut counting, &Cancel::default());
    assert_refused(answer, limit, None, "more than the 50000 bytes allowed");
    assert_eq!(n_asked, 6, "chunks of 10,000 bytes");
    assert!(place.tree().is_empty());
}

#[test]
fn uploads_stay_within_their_space_whatever_they_replace() {
    let bytes = digits("digits-75");
    let place = Place::within(1 << 20, 300_000);
    place.model(&upload("first", &bytes), &bytes).unwrap();
    place.model(&upload("second", &bytes), &bytes).unwrap();
    let full = place.model(&upload("third", &bytes), &bytes);
    assert_refused(full, Reason::StorageFull, None, "--upload-space");
    // A replacement lies beside what it replaces until it is checked.
    let full = place.model(&overwriting("first", &bytes), &bytes);
    assert_refused(full, Reason::StorageFull, None, "--upload-space");
    fs::remove_dir_all(place.models().join("second")).unwrap();
    assert!(place.model(&overwriting("first", &bytes), &bytes).unwrap().replaced);
    place.model(&upload("third", &bytes), &bytes).unwrap();
}

#[test]
fn only_what_was_uploaded_is_replaced_and_only_when_asked() {
    let (place, old, new) = (Place::new(), digits("digits-75"), digits("digits-50"));
    let name = Some("header.name");
    place.model(&upload("m", &old), &old).unwrap();
    assert_refused(place.model(&upload("m", &new), &new), Reason::NameTaken, name, "set overwrite");
    assert_eq!(place.scorer.model("m").unwrap().digest, upload("", &old).sha256);
    assert!(place.model(&overwriting("m", &new), &new).unwrap().replaced);
    assert_eq!(place.scorer.model("m").unwrap().digest, upload("", &new).sha256);

    // Files of the operator's: in another folder, a folder, a bare file, something else, a link.
    fs::create_dir_all(place.models().join("hand")).unwrap();
    fs::write(place.models().join("hand/model.onnx"), &old).unwrap();
    fs::write(place.models().join("bare.onnx"), &old).unwrap();
    fs::create_dir(place.models().join("notes")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join(".upload"), "sha256 = ''\nbytes = 1").unwrap();
    fs::write(outside.path().join("model.onnx"), &old).unwrap();
    std::os::unix::fs::symlink(outside.path(), place.models().join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere", place.models().join("dangling")).unwrap();
    let before = place.tree();
    for taken in ["digits-50", "hand", "bare", "notes", "link", "dangling"] {
        assert_refused(place.model(&upload(taken, &new), &new), Reason::NameTaken, name, "choose another name");
        let foreign = place.model(&overwriting(taken, &new), &new);
        assert_refused(foreign, Reason::NotUploaded, name, "was not uploaded");
    }
    assert_eq!(place.tree(), before);
    assert_eq!(fs::read(outside.path().join("model.onnx")).unwrap(), old);
}

#[test]
fn one_name_is_uploaded_once_at_a_time_and_two_names_together() {
    let (place, bytes) = (Place::new(), digits("digits-75"));
    let mut whole = chunks(&bytes);
    let mut is_first = true;
    let mut next = || {
        // In the middle of one upload, another one.
        if std::mem::take(&mut is_first) {
            let again = place.model(&overwriting("m", &bytes), &bytes);
            assert_refused(again, Reason::NameTaken, Some("header.name"), "is being uploaded");
            place.model(&upload("other", &bytes), &bytes).unwrap();
        }
        whole()
    };
    place.scorer.upload_model(&upload("m", &bytes), &mut next, &Cancel::default()).unwrap();
    let names: Vec<String> = place.scorer.models().into_iter().map(|model| model.name).collect();
    assert!(names.contains(&"m".to_owned()) && names.contains(&"other".to_owned()), "{names:?}");
}

#[test]
fn an_upload_that_nobody_waits_for_is_not_placed() {
    let (place, bytes) = (Place::new(), digits("digits-75"));
    let cancel = Cancel::default();
    let mut whole = chunks(&bytes);
    let mut next = || {
        let chunk = whole()?;
        if chunk.is_none() {
            cancel.cancel();
        }
        Result::Ok(chunk)
    };
    let answer = place.scorer.upload_model(&upload("m", &bytes), &mut next, &cancel);
    assert_refused(answer, Reason::Cancelled, None, "");
    assert!(place.tree().is_empty());
}

#[test]
fn a_server_that_was_not_told_to_takes_no_uploads() {
    let (scorer, bytes) = (scoring::bundled(), digits("digits-75"));
    let (model, dataset) = (upload("m", &bytes), upload("d", &bytes));
    let reason = Reason::UploadsNotAllowed;
    let cancel = Cancel::default();
    let mut next = || -> Result<Option<Bytes>> { panic!("nothing is read") };
    assert_refused(scorer.upload_model(&model, &mut next, &cancel), reason, None, "--allow-uploads");
    assert_refused(scorer.upload_dataset(&dataset, &mut next, &cancel), reason, None, "--allow-uploads");
    assert_refused(scorer.delete_dataset("digits", &cancel), reason, None, "--allow-uploads");
}

#[test]
fn a_model_that_leaves_its_shape_open_is_loaded_for_a_dataset() {
    let place = Place::new();
    let open = Model::new(17)
        .input("x", "n,1,h,w")
        .weight("w", &[3, 1, 3, 3])
        .node("Conv", &["x", "w"], &["c"], &[])
        .node("GlobalAveragePool", &["c"], &["p"], &[])
        .node("Flatten", &["p"], &["y"], &[])
        .output("y")
        .bytes();
    place.model(&upload("open", &open), &open).unwrap();
    let refused = place.scorer.load_model("open", None, &Cancel::default());
    assert_refused(refused, Reason::OptionUnsupported, Some("dataset"), "name a dataset");
    assert_eq!(place.scorer.load_model("open", Some("digits"), &Cancel::default()).unwrap().output_shape, [3]);
}

#[test]
fn calls_finish_with_the_version_that_they_began_with() {
    let (place, old, new) = (Place::new(), digits("digits-75"), digits("digits-50"));
    place.model(&upload("m", &old), &old).unwrap();
    let request = RankingRequest {
        source_models: ["digits-0", "m"].map(str::to_owned).into(),
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("digits".to_owned()),
        options: options(),
        rank_by: RankingMetric::CombinedReferenceToSource,
        recommend_from: Vec::new(),
    };
    let (mut unloaded, mut during) = (None, None);
    let mut on_event = |event| match event {
        RankingEvent::Progress(_) if unloaded.is_none() => {
            unloaded = Some(place.scorer.unload_model("m").unwrap());
            assert!(place.model(&overwriting("m", &new), &new).unwrap().replaced);
        }
        RankingEvent::Row { source_model, scores } if source_model == "m" => during = Some(scores.provenance),
        _ => {}
    };
    place.scorer.rank(&request, &mut on_event, &Cancel::default()).unwrap();
    assert_eq!(unloaded.unwrap(), UnloadedModel { was_loaded: true, in_use: true });
    assert_eq!(during.unwrap().source_model.digest, upload("", &old).sha256);
    let after = scored(&place.scorer, "m", 0);
    assert_eq!(after.provenance.source_model.digest, upload("", &new).sha256);
    assert_eq!(after.source_to_reference, scored(&place.scorer, "digits-50", 0).source_to_reference);
}
