//! Datasets of every layout through the command line: listed, and measured on.

use std::{fs, path::Path, sync::Arc};

use image::{DynamicImage, GrayImage, ImageFormat};
use parquet::{
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::writer::SerializedFileWriter,
    schema::parser::parse_message_type,
};
use serde_json::Value;
use transferscore::dataset::{Dataset, DatasetStore};

use super::{
    celeba, cifar10,
    images::{encode, put},
    parquet as shards, stl10, taskonomy,
};
use crate::{cli, support};

/// The command's JSON.
fn json(arguments: &[&str], datasets: &Path) -> Value {
    let (models, library) = (concat!(env!("CARGO_MANIFEST_DIR"), "/models"), support::library().display().to_string());
    let datasets = datasets.display().to_string();
    let places = ["--models", models, "--datasets", &datasets, "--onnxruntime", &library, "--json"];
    let output = cli::run(&[arguments, &places[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", cli::text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_layout_is_listed_with_its_format_and_shape() {
    let dir = tempfile::tempdir().unwrap();
    cifar10::binary_folder(&dir.path().join("a-cifar"));
    stl10::write(&dir.path().join("b-stl"));
    celeba::original(&dir.path().join("c-celeba"));
    taskonomy::by_domain(&dir.path().join("d-taskonomy"));
    shards::shards(&dir.path().join("e-parquet"));
    put(dir.path(), "f-images/cat/1.png", &super::golden_file("colour.png"));
    put(dir.path(), "g-view/dataset.toml", b"path = \"../b-stl\"\npart = \"test\"\nsize = [8, 8]\nsummary = \"two\"");
    put(dir.path(), "h-broken/dataset.toml", b"path = \"../b-stl\"\npart = \"validation\"");
    put(dir.path(), "no-dataset/notes.txt", b"");
    let listed = json(&["datasets"], dir.path());
    let rows: Vec<String> = listed["datasets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            format!("{} {} {} {} {}", row["name"], row["format"], row["nSamples"], row["shape"], row["nClasses"])
        })
        .collect();
    let expected = [
        "\"a-cifar\" \"cifar10\" 24 [3,32,32] 10",
        "\"b-stl\" \"stl10\" 5 [3,96,96] 10",
        "\"c-celeba\" \"celeba\" 4 [3,5,4] 0",
        "\"d-taskonomy\" \"taskonomy\" 4 [3,4,4] 0",
        "\"e-parquet\" \"parquet\" 6 [3,4,3] 3",
        "\"f-images\" \"images\" 1 [3,4,3] 1",
        "\"g-view\" \"stl10\" 2 [3,8,8] 10",
        "\"h-broken\" \"\" 0 [] 0",
    ];
    assert_eq!(rows, expected);
    assert_eq!(listed["datasets"][6]["summary"], "two");
    assert_eq!(listed["datasets"][4]["classes"][2], "owl");
    let problem = listed["datasets"][7]["problem"].as_str().unwrap();
    assert!(problem.contains("h-broken/dataset.toml: part is \"validation\""), "{problem}");
}

fn picture(digits: &Dataset, row: usize) -> Vec<u8> {
    let pixels = digits.samples(&[row]).iter().map(|value| (255.0 * value).round() as u8).collect();
    encode(&DynamicImage::ImageLuma8(GrayImage::from_raw(8, 8, pixels).unwrap()), ImageFormat::Png)
}

fn as_parquet(digits: &Dataset) -> Vec<u8> {
    let schema = "message m { optional group image { optional binary bytes; } optional int64 label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::default()).unwrap();
    let rows: Vec<usize> = (0..digits.n_samples()).collect();
    for rows in rows.chunks(50) {
        let mut group = writer.next_row_group().unwrap();
        let pictures: Vec<ByteArray> = rows.iter().map(|&row| picture(digits, row).into()).collect();
        let labels: Vec<i64> = rows.iter().map(|&row| i64::from(digits.labels().unwrap()[row])).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&pictures, Some(&vec![2; rows.len()]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows.len()]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    file
}

#[test]
fn the_same_digits_in_other_layouts_give_the_same_scores() {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/datasets");
    let digits = DatasetStore::open(std::slice::from_ref(&bundled)).unwrap().get("digits").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("parquet.parquet"), as_parquet(&digits)).unwrap();
    let path = format!("path = {:?}", bundled.join("digits.npz").display().to_string());
    put(dir.path(), "manifest/dataset.toml", path.as_bytes());
    put(dir.path(), "classes/dataset.toml", format!("{path}\nclasses = [0, 1, 2, 3]").as_bytes());
    (0..digits.n_samples())
        .for_each(|row| put(&dir.path().join("loose"), &format!("{row:04}.png"), &picture(&digits, row)));
    let score = |dataset: &str, folder: &Path| {
        let call =
            ["score", "digits-50", "digits-reference", "--dataset", dataset, "--max-samples", "60", "--seed", "3"];
        json(&call, folder)
    };
    let expected = score("digits", &bundled);
    for dataset in ["parquet", "manifest", "classes", "loose"] {
        let found = score(dataset, dir.path());
        let combined = |answer: &Value| answer["referenceToSource"]["combined"].clone();
        assert_eq!(combined(&found), combined(&expected), "{dataset}");
        let is_same = found["provenance"]["probeDigest"] == expected["provenance"]["probeDigest"];
        // Loose pictures lack the labels.
        assert_eq!(is_same, dataset != "loose", "{dataset}");
    }
}
