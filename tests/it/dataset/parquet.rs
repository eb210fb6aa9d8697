//! Parquet files as Hugging Face writes them: shards, parts, groups of rows, names of classes.

use std::{fs, path::Path, sync::Arc};

use image::{DynamicImage, GrayImage, ImageFormat};
use parquet::{
    basic::{Compression, GzipLevel},
    data_type::{ByteArray, ByteArrayType},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use transferscore::dataset::{Dataset, DatasetStore};

use super::{
    golden_file,
    images::{encode, put},
    manifest::{described, refusal},
};

const SHARDS: [&str; 3] = ["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"];

pub fn shards(folder: &Path) {
    for shard in SHARDS {
        put(folder, &format!("data/{shard}.parquet"), &golden_file(&format!("parquet/data/{shard}.parquet")));
    }
}

/// Pixel 0 of a sample is its index.
fn indices(dataset: &Dataset) -> Vec<u8> {
    dataset.tile(0..dataset.n_samples()).column(0).iter().map(|value| (value * 255.0).round() as u8).collect()
}

#[test]
fn shards_are_one_dataset_in_order_with_its_classes_names() {
    for (manifest, expected, labels) in [
        ("", vec![0, 1, 2, 3, 4, 5], [2, 0, 1, 0, 2, 1].as_slice()),
        ("part = \"train\"", vec![0, 1, 2, 3, 4], &[2, 0, 1, 0, 2]),
        ("part = \"test\"\nlabel = \"label\"", vec![5], &[1]),
        ("classes = [\"owl\", \"cat\"]", vec![0, 1, 3, 4], &[0, 1, 1, 0]),
    ] {
        let (_dir, store) = described(manifest, shards);
        let dataset = store.get("d").unwrap();
        assert_eq!((indices(&dataset), dataset.labels()), (expected, Some(labels)), "{manifest}");
    }
    let (_dir, store) = described("", shards);
    let (found, all) = (store.find("d").unwrap(), store.get("d").unwrap());
    assert_eq!((found.format(), found.shape(), found.classes()[1].as_str()), ("parquet", [3, 4, 3].as_slice(), "dog"));
    // 40 h + 20 w + 10 c + index, as the script writes.
    let expected: Vec<f32> =
        (0..36).map(|i| (40 * (i / 3 % 4) + 20 * (i % 3) + 10 * (i / 12) + 4) as f32 / 255.0).collect();
    assert_eq!(all.samples(&[4]).row(0).to_vec(), expected);
    for seed in 0..8 {
        assert_eq!(store.load(&found, 3, seed).unwrap().digest(), all.subset(3, seed).digest());
    }
}

#[test]
fn one_file_and_a_column_of_bytes_do_as_well() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one.parquet"), golden_file("parquet/data/test-00000-of-00001.parquet")).unwrap();
    fs::write(dir.path().join("plain.parquet"), golden_file("binary_column.parquet")).unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    assert_eq!(store.names(), ["one", "plain"]);
    assert_eq!(indices(&store.get("one").unwrap()), [5]);
    let plain = store.get("plain").unwrap();
    assert_eq!((plain.shape(), plain.labels()), ([1, 4, 3].as_slice(), None));
    let manifest = format!("path = {:?}\nlabel = \"fine\"", dir.path().join("plain.parquet").display().to_string());
    assert_eq!(described(&manifest, |_| {}).1.get("d").unwrap().labels(), Some([4].as_slice()));
}

#[test]
fn wrong_columns_and_damaged_files_say_which_and_what_mends_them() {
    let message = refusal(described("label = \"labell\"", shards));
    let file = "d/data/train-00000-of-00002.parquet";
    assert!(
        message.contains(&format!("label is \"labell\", which is no column of {file}; did you mean label?")),
        "{message}"
    );
    let message = refusal(described("label = \"image.path\"", shards));
    assert!(message.contains(file) && message.contains("that is no whole numbers; name another label"), "{message}");
    let message = refusal(described("part = \"validation\"", shards));
    assert!(message.contains("part is \"validation\", but the dataset has train, test"), "{message}");
    let text = refusal(described("", |folder| put(folder, "a.parquet", b"PAR1 and then nothing")));
    assert!(text.contains("d/a.parquet is no readable Parquet file"), "{text}");
}

#[test]
fn every_cut_and_every_flipped_byte_is_an_error_or_a_dataset() {
    let dir = tempfile::tempdir().unwrap();
    let good = golden_file("parquet/data/test-00000-of-00001.parquet");
    let file = dir.path().join("d.parquet");
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    for cut in (0..good.len()).step_by(7) {
        fs::write(&file, &good[..cut]).unwrap();
        let message = store.get("d").expect_err("a cut file").to_string();
        assert!(message.contains("d.parquet"), "cut at {cut}: {message}");
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        fs::write(&file, &bytes).unwrap();
        // Whatever comes of it, it comes. A new store, as size and time may be as before.
        drop(DatasetStore::open(&[dir.path().to_owned()]).unwrap().get("d"));
    }
}

/// One group of rows in several pages; pixel 0 of a row is its index, the others vary.
fn pages(n_rows: u8, properties: WriterProperties) -> Vec<u8> {
    let schema = Arc::new(parse_message_type("message m { required binary image; }").unwrap());
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties)).unwrap();
    let picture = |row: u8| -> ByteArray {
        let pixels = (0..64_u32).map(|pixel| row.wrapping_add((pixel * pixel * 37 % 251) as u8)).collect();
        encode(&DynamicImage::ImageLuma8(GrayImage::from_raw(8, 8, pixels).unwrap()), ImageFormat::Png).into()
    };
    let pictures: Vec<ByteArray> = (0..n_rows).map(picture).collect();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&pictures, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    file
}

#[test]
fn rows_within_pages_are_reached() {
    let dir = tempfile::tempdir().unwrap();
    let compressions = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::GZIP(GzipLevel::default())];
    for (compression, has_dictionary) in compressions.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(has_dictionary)
            .set_write_batch_size(4)
            .set_data_page_row_count_limit(8)
            .build();
        fs::write(dir.path().join("d.parquet"), pages(40, properties)).unwrap();
        let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
        assert_eq!(indices(&store.get("d").unwrap()), (0..40).collect::<Vec<u8>>(), "{compression} {has_dictionary}");
        let all = store.get("d").unwrap();
        for seed in 0..8 {
            let found = store.find("d").unwrap();
            assert_eq!(store.load(&found, 3, seed).unwrap().digest(), all.subset(3, seed).digest());
        }
    }
}

/// Where a file is not refused for it, this does not fail but goes on for long.
#[test]
fn lists_without_end_are_refused() {
    const KINDS: [u8; 4] = [1, 2, 7, 13];
    let dir = tempfile::tempdir().unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    let good = golden_file("parquet/data/test-00000-of-00001.parquet");
    let tail = good.len() - 8;
    let description = tail - u32::from_le_bytes(good[tail..tail + 4].try_into().unwrap()) as usize;
    // What the first page and the file say of themselves, and a field of each that is told to be a number, but is not.
    let (page, file) = ((4, [0x76].as_slice()), (description, [0x26, 0x9c].as_slice()));
    let beginnings = [(4, [].as_slice()), (description, &[]), page, file];
    for (i, ((place, beginning), of)) in beginnings.into_iter().flat_map(|at| KINDS.map(|of| (at, of))).enumerate() {
        let mut bytes = good.clone();
        // Field 15 is a list of 2^31 − 1 truth values, numbers of eight bytes, or of sixteen.
        let list = [beginning, &[0xf9, 0xf0 | of, 0xff, 0xff, 0xff, 0xff, 0x07]].concat();
        bytes[place..place + list.len()].copy_from_slice(&list);
        let name = format!("d{i}");
        fs::write(dir.path().join(format!("{name}.parquet")), bytes).unwrap();
        let message = store.get(&name).expect_err("a list without end").to_string();
        assert!(message.contains("is no readable Parquet file"), "{message}");
    }
}
