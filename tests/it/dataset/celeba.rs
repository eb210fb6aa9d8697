//! CelebA's lists and pictures, as its authors and as Kaggle lay them out.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::Path,
};

use transferscore::dataset::{Dataset, DatasetStore};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{
    images::{png, put},
    manifest::{described, refusal},
};

const FACES: [(&str, i8, i8, u32, u8); 4] = [
    ("000001.jpg", -1, 1, 2880, 0),
    ("000002.jpg", 1, 1, 2937, 2),
    ("000003.jpg", -1, -1, 2880, 1),
    ("000004.jpg", 1, -1, 17, 2),
];

fn attributes() -> String {
    let lines = FACES.map(|(name, young, smiling, ..)| format!("{name} {young:>2} {smiling:>2}\n"));
    format!("4\nYoung Smiling \n{}", lines.concat())
}

fn lists(folder: &Path) {
    put(folder, "list_attr_celeba.txt", attributes().as_bytes());
    put(folder, "identity_CelebA.txt", FACES.map(|(name, _, _, id, _)| format!("{name} {id}\n")).concat().as_bytes());
    put(folder, "list_eval_partition.txt", FACES.map(|(name, .., p)| format!("{name} {p}\n")).concat().as_bytes());
}

/// The pictures are PNGs under their published names: kinds are told by contents.
pub fn original(folder: &Path) {
    lists(folder);
    for (index, (name, ..)) in FACES.iter().enumerate() {
        put(folder, &format!("img_align_celeba/{name}"), &png(5, 4, 50 * index as u8));
    }
}

fn kaggle(folder: &Path) {
    let table = FACES.map(|(name, young, smiling, ..)| format!("{name},{young},{smiling}\r\n")).concat();
    put(folder, "list_attr_celeba.csv", format!("image_id,Young,Smiling\r\n{table}").as_bytes());
    let parts = FACES.map(|(name, .., p)| format!("{name},{p}\r\n")).concat();
    put(folder, "list_eval_partition.csv", format!("image_id,partition\r\n{parts}").as_bytes());
    for (index, (name, ..)) in FACES.iter().enumerate() {
        put(folder, &format!("img_align_celeba/img_align_celeba/{name}"), &png(5, 4, 50 * index as u8));
    }
}

fn zipped(folder: &Path) {
    lists(&folder.join("Anno"));
    fs::create_dir_all(folder.join("Eval")).unwrap();
    fs::rename(folder.join("Anno/list_eval_partition.txt"), folder.join("Eval/list_eval_partition.txt")).unwrap();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (index, (name, ..)) in FACES.iter().enumerate() {
        zip.start_file(format!("img_align_celeba/{name}"), SimpleFileOptions::default()).unwrap();
        zip.write_all(&png(5, 4, 50 * index as u8)).unwrap();
    }
    put(folder, "Img/img_align_celeba.zip", &zip.finish().unwrap().into_inner());
}

fn firsts(dataset: &Dataset) -> Vec<u8> {
    dataset.tile(0..dataset.n_samples()).column(0).iter().map(|value| (value * 255.0).round() as u8).collect()
}

#[test]
fn faces_attributes_identities_and_parts_come_from_every_layout() {
    for (case, fill) in [original as fn(&Path), kaggle, zipped].into_iter().enumerate() {
        let (_dir, store) = described("label = \"Smiling\"", fill);
        let (found, faces) = (store.find("d").unwrap(), store.get("d").unwrap());
        assert_eq!(
            (found.format(), found.classes()),
            ("celeba", ["not Smiling".to_owned(), "Smiling".to_owned()].as_slice())
        );
        assert_eq!((firsts(&faces), faces.shape()), (vec![0, 50, 100, 150], [3, 5, 4].as_slice()), "{case}");
        assert_eq!(faces.labels().unwrap(), [1, 1, 0, 0], "{case}");
        for (manifest, expected, labels) in [
            ("part = \"train\"", vec![0], None),
            ("part = \"validation\"\nlabel = \"Young\"", vec![100], Some(vec![0])),
            ("part = \"test\"\nlabel = \"Young\"", vec![50, 150], Some(vec![1, 1])),
            ("label = \"Young\"\nclasses = [\"Young\"]", vec![50, 150], Some(vec![0, 0])),
        ] {
            let (_dir, store) = described(manifest, fill);
            let faces = store.get("d").unwrap();
            assert_eq!((firsts(&faces), faces.labels().map(<[u32]>::to_vec)), (expected, labels), "{case} {manifest}");
        }
    }
    for fill in [original, zipped] {
        let (_dir, store) = described("label = \"identity\"\npart = \"test\"", fill);
        let faces = store.get("d").unwrap();
        assert_eq!((faces.labels().unwrap(), firsts(&faces)), ([2937, 17].as_slice(), vec![50, 150]));
    }
    // Found by its form, faces have no label.
    let dir = tempfile::tempdir().unwrap();
    original(&dir.path().join("faces"));
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    assert_eq!((store.names(), store.get("faces").unwrap().labels()), (vec!["faces".to_owned()], None));
    assert_eq!(
        store.load(&store.find("faces").unwrap(), 2, 9).unwrap().digest(),
        store.get("faces").unwrap().subset(2, 9).digest()
    );
}

#[test]
fn lists_and_pictures_that_are_wrong_say_file_row_and_mend() {
    let with = |manifest: &str, file: &str, contents: &str| {
        refusal(described(manifest, |folder| {
            original(folder);
            put(folder, file, contents.as_bytes());
        }))
    };
    let attributes_file = "list_attr_celeba.txt";
    let cases = [
        ("", attributes_file, attributes().replace("4\n", "5\n"), "lists 4 faces, not the 5 of its first line"),
        (
            "",
            attributes_file,
            attributes().replace("000003.jpg -1 -1", "000003.jpg -1"),
            "(line 5) has 2 fields, not 3",
        ),
        ("", attributes_file, attributes().replace("000003.jpg", "../secret"), "(line 5) names \"../secret\""),
        (
            "label = \"Young\"",
            attributes_file,
            attributes().replace("000003.jpg -1", "000003.jpg  x"),
            "(line 5) has \"x\", which is no number",
        ),
        (
            "label = \"Young\"",
            attributes_file,
            attributes().replace("000003.jpg -1", "000003.jpg  7"),
            "(row 2) has Young 7, which is out of range",
        ),
        ("", attributes_file, "0\nYoung Smiling\n".to_owned(), "lists no face"),
        ("", attributes_file, String::new(), "lists no face"),
        (
            "label = \"identity\"",
            "identity_CelebA.txt",
            "000001.jpg 5\n".to_owned(),
            "lacks \"000002.jpg\", row 1 of d/list_attr_celeba.txt",
        ),
        (
            "label = \"identity\"",
            "identity_CelebA.txt",
            FACES.map(|(name, ..)| format!("{name} 70000\n")).concat(),
            "(row 0) has identity 70000",
        ),
        ("part = \"test\"", "list_eval_partition.txt", "000001.jpg\n".to_owned(), "d/list_eval_partition.txt"),
    ];
    for (manifest, file, contents, part) in cases {
        let message = with(manifest, file, &contents);
        assert!(message.contains("d/") && message.contains(part), "{message:?} lacks {part:?}");
    }
    let message = refusal(described("label = \"Smilling\"", original));
    assert!(
        message.contains(
            "label is \"Smilling\", which is none of the 2 attributes of d/list_attr_celeba.txt; did you mean Smiling?"
        ),
        "{message}"
    );

    let without = |manifest: &str, path: &str| {
        refusal(described(manifest, |folder| {
            original(folder);
            let path = folder.join(path);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }))
    };
    assert!(without("", "img_align_celeba/000003.jpg").contains("d/img_align_celeba/000003.jpg (row 2) is missing"));
    assert!(without("", "img_align_celeba").contains("d has neither img_align_celeba/ nor img_align_celeba.zip"));
    assert!(without("label = \"identity\"", "identity_CelebA.txt").contains("d has no identity_CelebA.txt"));
    assert!(without("part = \"train\"", "list_eval_partition.txt").contains("d has no list_eval_partition.txt"));

    let broken_zip = |cut: usize| {
        refusal(described("", |folder| {
            zipped(folder);
            let file = folder.join("Img/img_align_celeba.zip");
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..bytes.len() - cut]).unwrap();
        }))
    };
    assert!(broken_zip(30).contains("d/Img/img_align_celeba.zip is no readable .zip"));
    // A picture that is not among the listed ones is missed by its row.
    let missing = refusal(described("", |folder| {
        zipped(folder);
        let lines = attributes().replace("4\n", "5\n") + "000005.jpg -1 -1\n";
        put(folder, "Anno/list_attr_celeba.txt", lines.as_bytes());
    }));
    assert!(missing.contains("d/Img/img_align_celeba.zip/000005.jpg (row 4) is missing"), "{missing}");
}

#[test]
fn every_cut_of_the_attributes_is_refused() {
    let whole = attributes();
    // Without its last line's end it still says everything.
    for cut in 0..whole.len() - 2 {
        let message = refusal(described("label = \"Smiling\"", |folder| {
            original(folder);
            put(folder, "list_attr_celeba.txt", &whole.as_bytes()[..cut]);
        }));
        assert!(message.contains("d/"), "cut at {cut}: {message}");
    }
}
