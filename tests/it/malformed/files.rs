//! Files that are no models and no datasets, sent as uploads whose headers tell the truth of them.

use std::io::{Cursor, Write as _};

use prost::Message;
use transferscore::{
    limits,
    scoring::types::Upload,
    transport::proto::{
        DatasetUploadHeader, ModelUploadHeader, UploadDatasetRequest, UploadModelRequest, upload_dataset_request,
        upload_model_request,
    },
};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::Case;
use crate::{
    dataset::{golden_file, header, images::png, npy, npz, raw_npy, zipped},
    gradient::hostile,
    uploads::{digits, upload},
};

/// Each is refused as `MODEL_INVALID`.
pub fn models() -> Vec<Case> {
    let whole = digits("digits-75");
    let broken = hostile::broken().into_iter().enumerate();
    let mut files: Vec<(String, Vec<u8>)> =
        broken.map(|(number, (words, model))| (format!("model {number}: {words}"), model.bytes().to_vec())).collect();
    for length in [1, 10, 100, 1_000, 10_000, whole.len() - 1] {
        files.push((format!("the first {length} bytes of a model"), whole[..length].to_vec()));
    }
    let others: [(&str, Vec<u8>); 7] = [
        ("a text as a model", b"a text".to_vec()),
        ("zeros as a model", vec![0; 1_000]),
        ("ones as a model", vec![0xff; 1_000]),
        ("a picture as a model", png(4, 3, 1)),
        ("an archive as a model", archive(&[("model.onnx", &whole)])),
        ("two models in a row", [whole.clone(), whole.clone()].concat()),
        ("a model of very many nodes", many_nodes()),
    ];
    files.extend(others.map(|(name, bytes)| (name.to_owned(), bytes)));
    files.into_iter().map(|(name, bytes)| model_case(&name, bytes)).collect()
}

fn model_case(name: &str, bytes: Vec<u8>) -> Case {
    use upload_model_request::Piece;
    let Upload { name: model, sha256, size_bytes, .. } = upload("m", &bytes);
    let header = ModelUploadHeader { name: model, sha256, size_bytes, ..ModelUploadHeader::default() };
    let pieces = [Piece::Header(header), Piece::Chunk(bytes)];
    let messages = pieces.map(|piece| UploadModelRequest { piece: Some(piece) }.encode_to_vec());
    Case::new(name, "ModelService/UploadModel", messages.to_vec(), "MODEL_INVALID", "")
}

/// A graph of more empty nodes than are allowed: two bytes each.
fn many_nodes() -> Vec<u8> {
    let nodes = [0x0a, 0x00].repeat(limits::MODEL_NODES + 1);
    let mut file = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut file);
    file.extend(nodes);
    file
}

/// Each with its reason.
pub fn datasets() -> Vec<Case> {
    let invalid = "DATASET_INVALID";
    let refused = |(name, bytes): (&str, Vec<u8>)| dataset_case(name, bytes, "", invalid);
    let mut cases: Vec<Case> = arrays().into_iter().chain(archives()).chain(tables()).map(refused).collect();
    let picture = archive(&[("cat/1.png", &png(4, 3, 1)), ("owl/2.png", &png(4, 3, 2))]);
    for (name, manifest) in [
        ("pictures of a part that they lack", "part = 'test'"),
        ("pictures of a class that they lack", "classes = ['dog']"),
        ("pictures with a label that they lack", "label = 'age'"),
        ("pictures as another format", "format = 'npz'"),
        ("pictures as no format", "format = 'gif'"),
        ("pictures from the hundredth of each class on", "per_class = [100, 200]"),
    ] {
        cases.push(dataset_case(name, picture.clone(), manifest, invalid));
    }
    let lists = zipped::listing(limits::ARCHIVE_FILES + 1);
    cases.push(dataset_case("an archive that lists very many files", lists, "", "LIMIT_EXCEEDED"));
    cases
}

fn dataset_case(name: &str, bytes: Vec<u8>, manifest: &str, reason: &str) -> Case {
    use upload_dataset_request::Piece;
    let Upload { name: dataset, sha256, size_bytes, .. } = upload("d", &bytes);
    let manifest = manifest.to_owned();
    let header = DatasetUploadHeader { name: dataset, sha256, size_bytes, manifest, ..DatasetUploadHeader::default() };
    let pieces = [Piece::Header(header), Piece::Chunk(bytes)];
    let messages = pieces.map(|piece| UploadDatasetRequest { piece: Some(piece) }.encode_to_vec());
    Case::new(name, "DatasetService/UploadDataset", messages.to_vec(), reason, "")
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in files {
        zip.start_file(*path, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// `.npz` files.
fn arrays() -> Vec<(&'static str, Vec<u8>)> {
    let x = || npy(&[4, 2], &[0.5f32; 8]);
    let of = |array: Vec<u8>| npz(&[("x", array)]);
    let with = |y: Vec<u8>| npz(&[("x", x()), ("y", y)]);
    let headed = |descr: &str, shape: &str| of(raw_npy(&header(descr, shape), &[0; 32]));
    let mut cut = of(x());
    cut.truncate(cut.len() - 30);
    vec![
        ("an .npz without samples", npz(&[("y", npy(&[4], &[0i64; 4]))])),
        ("an .npz cut off", cut),
        ("samples that are no array", of(b"no array".to_vec())),
        ("samples of no bytes", of(Vec::new())),
        ("samples of NaN", of(npy(&[1, 2], &[0.5, f32::NAN]))),
        ("samples without end", of(npy(&[1, 2], &[0.5, f32::INFINITY]))),
        ("pixels of 255 in floats", of(npy(&[1, 2, 2], &[0.0f32, 1.0, 255.0, 0.5]))),
        ("pixels below 0", of(npy(&[1, 2, 2], &[0.0f32, 1.0, -1.0, 0.5]))),
        ("samples that are one number", of(npy(&[], &[1.0f32]))),
        ("samples of one axis", of(npy(&[4], &[1.0f32; 4]))),
        ("samples of five axes", of(npy(&[1, 1, 1, 1, 1], &[1.0f32]))),
        ("samples of two channels", of(npy(&[1, 2, 4, 4], &[0.5f32; 32]))),
        ("no samples of two features", of(npy(&[0, 2], &[0.0f32; 0]))),
        ("samples of whole numbers", of(npy(&[4, 2], &[1i64; 8]))),
        ("vectors of bytes", of(npy(&[4, 2], &[1u8; 8]))),
        ("samples of Python objects", headed("|O", "(1, 4)")),
        ("samples of complex numbers", headed("<c8", "(1, 4)")),
        ("samples of texts", headed("<U2", "(1, 4)")),
        ("samples of a type that is none", headed("<f3", "(1, 4)")),
        ("a shape below 0", headed("<f4", "(-1, 8)")),
        ("a shape of 64 bits and more", headed("<f4", "(18446744073709551616, 1)")),
        ("a shape whose product overflows", headed("<f4", "(4294967296, 4294967296)")),
        ("a shape past all archives", headed("<f4", "(4000000000, 4)")),
        ("a shape of more than there is", headed("<f4", "(3, 4)")),
        ("a shape of less than there is", headed("<f4", "(1, 4)")),
        ("a shape of names", headed("<f4", "(a, b)")),
        ("a shape without an end", headed("<f4", "(1, 8")),
        ("a shape of seventeen axes", headed("<f4", "(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8)")),
        ("a header of nothing", of(raw_npy("", &[]))),
        ("a header of brackets", of(raw_npy(&"(".repeat(60_000), &[]))),
        ("labels too few", with(npy(&[3], &[0i64; 3]))),
        ("labels below 0", with(npy(&[4], &[0i64, 1, -1, 0]))),
        ("labels past all classes", with(npy(&[4], &[0i64, 1, 65_536, 0]))),
        ("labels of two columns", with(npy(&[4, 2], &[0i64; 8]))),
        ("one label for all", with(npy(&[], &[1i64]))),
        ("targets of NaN", with(npy(&[4], &[0.0f32, 1.0, f32::NAN, 0.5]))),
        ("targets without end", with(npy(&[4, 1], &[0.0f64, 1.0, f64::INFINITY, 0.5]))),
    ]
}

/// Zip archives of pictures, and what is none.
fn archives() -> Vec<(&'static str, Vec<u8>)> {
    let picture = png(4, 3, 1);
    let beside = |path: &str, bytes: &[u8]| archive(&[("cat/1.png", &picture), (path, bytes)]);
    let mut flipped = archive(&[("cat/1.png", &picture)]);
    let middle = flipped.len() / 3;
    flipped[middle] ^= 0xff;
    let mut link = ZipWriter::new(Cursor::new(Vec::new()));
    link.add_symlink("cat/link.png", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    vec![
        ("a text as a dataset", b"x,y\n1,2\n".to_vec()),
        ("the beginning of an archive", b"PK\x03\x04 and no more".to_vec()),
        ("an archive of nothing", archive(&[])),
        ("an archive of a text", archive(&[("notes.txt", b"words")])),
        ("an archive of a model", archive(&[("model.onnx", &digits("digits-75"))])),
        ("a picture that is none", archive(&[("cat/1.png", b"no picture")])),
        ("a picture of no bytes", archive(&[("cat/1.png", b"")])),
        ("a picture cut off", archive(&[("cat/1.png", &picture[..picture.len() / 2])])),
        ("a second picture cut off", beside("owl/1.png", &picture[..picture.len() / 2])),
        ("a second picture of another size", beside("owl/1.png", &png(5, 5, 1))),
        ("a picture whose bytes were flipped", flipped),
        ("a file above its folder", beside("../up.png", &picture)),
        ("a file above its folder by a detour", beside("cat/../../up.png", &picture)),
        ("a file at a whole path", beside("/tmp/up.png", &picture)),
        ("a file behind a foreign separator", beside("cat\\up.png", &picture)),
        ("a file on another drive", beside("C:up.png", &picture)),
        ("a file's name of two lines", beside("cat/a\nb.png", &picture)),
        ("a file eight folders deep", beside("a/b/c/d/e/f/g/h.png", &picture)),
        ("a file of a very long path", beside(&format!("cat/{}.png", "a".repeat(1_100)), &picture)),
        ("a manifest within the archive", beside("dataset.toml", b"path = '/etc'")),
        ("a file that is a folder, too", archive(&[("cat", &picture), ("cat/1.png", &picture)])),
        ("a link in an archive", link.finish().unwrap().into_inner()),
    ]
}

/// Parquet files.
fn tables() -> Vec<(&'static str, Vec<u8>)> {
    let whole = golden_file("parquet/data/test-00000-of-00001.parquet");
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        let at = bytes.len() - at;
        bytes[at] = byte;
        bytes
    };
    vec![
        ("a Parquet file of nothing", b"PAR1".to_vec()),
        ("a Parquet file of its ends", b"PAR1PAR1".to_vec()),
        ("a Parquet file of a text", b"PAR1 and then nothing".to_vec()),
        ("a Parquet file cut in half", whole[..whole.len() / 2].to_vec()),
        ("a Parquet file without its last byte", whole[..whole.len() - 1].to_vec()),
        ("a Parquet file whose footer is too long", changed(6, 0x7f)),
        ("a Parquet file with another end", changed(1, b'2')),
    ]
}
