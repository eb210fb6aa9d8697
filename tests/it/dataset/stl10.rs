//! STL-10's binary files, written by hand.

use std::{fs, path::Path};

use transferscore::dataset::DatasetStore;

use super::{
    cifar10::{gzip, tar},
    manifest::{described, refusal},
};

const SIDE: usize = 96;
const PIXELS: usize = 3 * SIDE * SIDE;

/// A picture, channel by channel and column by column: (channel 80 + row + 2 column + index) mod 256.
fn picture(index: usize) -> Vec<u8> {
    let pixel = |i: usize| {
        let (channel, column, row) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
        (80 * channel + row + 2 * column + index) as u8
    };
    (0..PIXELS).map(pixel).collect()
}

fn files() -> Vec<(String, Vec<u8>)> {
    let names = "airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n";
    vec![
        ("train_X.bin".to_owned(), (0..3).flat_map(picture).collect()),
        ("train_y.bin".to_owned(), vec![2, 9, 10]),
        ("test_X.bin".to_owned(), (3..5).flat_map(picture).collect()),
        ("test_y.bin".to_owned(), vec![1, 9]),
        ("class_names.txt".to_owned(), names.into()),
    ]
}

pub fn write(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    files().iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
}

#[test]
fn pictures_are_turned_and_labels_begin_at_zero() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("stl/stl10_binary"));
    write(&dir.path().join("direct"));
    fs::write(dir.path().join("packed.tar.gz"), gzip(&tar("stl10_binary", &files()))).unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    assert_eq!(store.names(), ["direct", "packed", "stl"]);
    for name in store.names() {
        let found = store.find(&name).unwrap();
        assert_eq!((found.format(), found.n_samples(), found.shape()), ("stl10", 5, [3, 96, 96].as_slice()));
        assert_eq!((found.classes()[8].as_str(), found.n_classes()), ("ship", 10));
        let all = store.get(&name).unwrap();
        assert_eq!(all.labels().unwrap(), [1, 8, 9, 0, 8]);
        let fourth = all.samples(&[3]).into_shape_with_order((3, 96, 96)).unwrap();
        for (channel, row, column) in [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 50, 7), (2, 95, 94)] {
            let expected = (80 * channel + row + 2 * column + 3) % 256;
            assert_eq!(fourth[[channel, row, column]], expected as f32 / 255.0, "{name} {channel} {row} {column}");
        }
        assert_eq!(store.load(&found, 2, 7).unwrap().digest(), all.subset(2, 7).digest());
    }
    let (_dir, store) = described("part = \"test\"\nclasses = [\"ship\"]\nsize = [32, 32]", write);
    let ships = store.get("d").unwrap();
    assert_eq!((ships.n_samples(), ships.shape(), ships.labels()), (1, [3, 32, 32].as_slice(), Some([0].as_slice())));
    // The mean of nine: of row 0..2 and 2 column, 0..2, about the middle.
    assert_eq!(ships.tile(0..1)[[0, 0]], (1 + 2 + 4) as f32 / 255.0);
}

#[test]
fn damaged_files_say_file_row_and_mend() {
    type Case = (&'static str, fn(&mut Vec<u8>), &'static str);
    let cases: [Case; 6] = [
        (
            "train_X.bin",
            |bytes| bytes.truncate(bytes.len() - 1),
            "d/train_X.bin has 82943 bytes, which is no multiple of the 27648",
        ),
        ("test_X.bin", Vec::clear, "d/test_X.bin has 0 bytes"),
        ("train_y.bin", |bytes| bytes.push(1), "d/train_y.bin has 4 labels for the 3 pictures of d/train_X.bin"),
        ("train_y.bin", |bytes| bytes[2] = 0, "d/train_y.bin (row 2) has label 0, not 1 to 10"),
        ("test_y.bin", |bytes| bytes[1] = 11, "d/test_y.bin (row 1) has label 11, not 1 to 10"),
        ("class_names.txt", |bytes| bytes.truncate(20), "d/class_names.txt names 4 classes, not 10"),
    ];
    for (file, change, part) in cases {
        let message = refusal(described("", |folder| {
            write(folder);
            let mut bytes = fs::read(folder.join(file)).unwrap();
            change(&mut bytes);
            fs::write(folder.join(file), bytes).unwrap();
        }));
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    let missing = |folder: &Path| {
        write(folder);
        fs::remove_file(folder.join("test_y.bin")).unwrap();
    };
    assert!(refusal(described("", missing)).contains("d/test_y.bin is missing"));
    // The other part is whole.
    assert_eq!(described("part = \"train\"", missing).1.get("d").unwrap().n_samples(), 3);
}
