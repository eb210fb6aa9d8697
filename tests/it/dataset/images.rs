//! Folders of image files: classes, parts, kinds of files, sizes that differ, damage.

use std::{fs, io::Cursor, path::Path};

use image::{DynamicImage, ImageFormat, RgbImage};
use transferscore::dataset::DatasetStore;

use super::{
    golden_file,
    manifest::{described, refusal},
};

/// A PNG: pixel (row, column) is (10 row + index, 20 column, 30).
pub fn png(height: u32, width: u32, index: u8) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(10 * y) as u8 + index, (20 * x) as u8, 30]));
    encode(&image.into(), ImageFormat::Png)
}

pub fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn put(folder: &Path, path: &str, bytes: &[u8]) {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

/// First value of each sample, which tells the pictures apart.
fn firsts(dataset: &transferscore::dataset::Dataset) -> Vec<u8> {
    dataset.tile(0..dataset.n_samples()).column(0).iter().map(|value| (value * 255.0).round() as u8).collect()
}

fn classes(folder: &Path) {
    put(folder, "owl/b.png", &png(4, 3, 3));
    put(folder, "owl/a.PNG", &png(4, 3, 2));
    put(folder, "cat/z.png", &png(4, 3, 1));
    put(folder, "cat/deeper/y.png", &png(4, 3, 0));
    put(folder, "owl/notes.txt", b"no picture");
    put(folder, "owl/.hidden.png", b"no picture");
    put(folder, "empty/notes.txt", b"no picture");
    put(folder, "montage.png", &png(9, 9, 0));
}

#[test]
fn a_folder_for_each_class_is_read_in_order_of_name() {
    let dir = tempfile::tempdir().unwrap();
    classes(&dir.path().join("birds"));
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    let found = store.find("birds").unwrap();
    assert_eq!((found.format(), found.shape(), found.n_samples()), ("images", [3, 4, 3].as_slice(), 4));
    assert_eq!(found.classes(), ["cat", "owl"]);
    let all = store.get("birds").unwrap();
    assert_eq!((firsts(&all), all.labels()), (vec![0, 1, 2, 3], Some([0, 0, 1, 1].as_slice())));
    let third = all.samples(&[2]).into_shape_with_order((3, 4, 3)).unwrap().mapv(|value| (value * 255.0).round());
    assert_eq!((third[[0, 3, 1]], third[[1, 3, 1]], third[[2, 3, 1]]), (32.0, 20.0, 30.0));
    let few = store.load(&found, 2, 3).unwrap();
    assert_eq!(few.digest(), all.subset(2, 3).digest());

    // A picture that is replaced counts, one that is not in use is not even read.
    let unused = (0..4).find(|&row| (0..2).all(|sample| few.place(sample) != row)).unwrap();
    let paths = ["cat/deeper/y.png", "cat/z.png", "owl/a.PNG", "owl/b.png"];
    if unused > 0 {
        put(&dir.path().join("birds"), paths[unused], b"damaged, and longer than before it was");
    }
    assert_eq!(store.load(&store.find("birds").unwrap(), 2, 3).unwrap().digest(), few.digest());
    // By renaming, so that it is another file even within a tick of the clock.
    put(dir.path(), "new.png", &png(4, 3, 99));
    fs::rename(dir.path().join("new.png"), dir.path().join("birds").join(paths[few.place(1)])).unwrap();
    assert_eq!(firsts(&store.load(&store.find("birds").unwrap(), 2, 3).unwrap())[1], 99);
}

#[test]
fn parts_and_pictures_without_classes_are_recognised() {
    let fill = |folder: &Path| {
        put(folder, "test/owl/a.png", &png(2, 2, 7));
        put(folder, "train/cat/a.png", &png(2, 2, 1));
        put(folder, "train/owl/a.png", &png(2, 2, 2));
        put(folder, "val/cat/a.png", &png(2, 2, 5));
    };
    for (manifest, expected, labels) in [
        ("", vec![1, 2, 5, 7], [0, 1, 0, 1].as_slice()),
        ("part = \"train\"", vec![1, 2], &[0, 1]),
        ("part = \"validation\"", vec![5], &[0]),
        // The part's own classes: only one of them.
        ("part = \"test\"", vec![7], &[0]),
    ] {
        let (_dir, store) = described(manifest, fill);
        let dataset = store.get("d").unwrap();
        assert_eq!((firsts(&dataset), dataset.labels()), (expected, Some(labels)), "{manifest}");
    }
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("loose"), "2.png", &png(2, 2, 2));
    put(&dir.path().join("loose"), "1.png", &png(2, 2, 1));
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    let loose = store.get("loose").unwrap();
    assert_eq!((firsts(&loose), loose.labels(), loose.n_classes()), (vec![1, 2], None, 0));
}

#[test]
fn image_files_of_every_kind_are_read_as_another_library_wrote_them() {
    // 4×3 pixels, channel c at row h, column w: 40 h + 20 w + 10 c.
    let expected: Vec<u8> = (0..36).map(|i| (40 * (i / 3 % 4) + 20 * (i % 3) + 10 * (i / 12)) as u8).collect();
    for name in ["colour.png", "colour.bmp", "palette.png", "alpha.png"] {
        let (_dir, store) = described("", |folder| put(folder, name, &golden_file(name)));
        let bytes: Vec<u8> = store.get("d").unwrap().tile(0..1).iter().map(|v| (v * 255.0).round() as u8).collect();
        if name == "palette.png" {
            // Few enough colours, but the library may have moved some.
            let distance = bytes.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(distance <= 30, "{bytes:?}");
        } else {
            assert_eq!(bytes, expected, "{name}");
        }
    }
    let (_dir, store) = described("", |folder| put(folder, "flat.jpg", &golden_file("flat.jpg")));
    let flat = store.get("d").unwrap();
    assert_eq!(flat.shape(), [3, 8, 16]);
    for (channel, value) in [200, 100, 50].into_iter().enumerate() {
        let found = (flat.tile(0..1)[[0, 128 * channel + 64]] * 255.0).round();
        assert!((found - value as f32).abs() <= 2.0, "channel {channel}: {found}");
    }
}

#[test]
fn grey_pictures_have_one_channel_unless_the_manifest_says_three() {
    let grey = |folder: &Path| put(folder, "1.png", &golden_file("grey.png"));
    let both = |folder: &Path| {
        grey(folder);
        put(folder, "2.png", &golden_file("colour.png"));
    };
    assert_eq!(described("", grey).1.get("d").unwrap().shape(), [1, 4, 3]);
    let (_dir, store) = described("channels = 3", both);
    let three = store.get("d").unwrap();
    assert_eq!((three.n_samples(), three.shape()), (2, [3, 4, 3].as_slice()));
    assert_eq!(three.tile(0..1)[[0, 5]], three.tile(0..1)[[0, 17]]);
    let message = refusal(described("", both));
    assert!(message.contains("d/2.png (row 1) has colours, the first image has none; set channels = 3"), "{message}");
}

#[test]
fn pictures_of_several_sizes_need_one_to_be_resized_to() {
    let fill = |folder: &Path| {
        put(folder, "1.png", &png(4, 4, 0));
        put(folder, "2.png", &png(8, 2, 0));
    };
    let message = refusal(described("", fill));
    assert!(message.contains("d/2.png (row 1) is 3x8x2, the first one 3x4x4"), "{message}");
    assert!(message.contains("set size = [height, width] in dataset.toml"), "{message}");
    let (_dir, store) = described("size = [4, 2]", fill);
    let dataset = store.get("d").unwrap();
    assert_eq!((dataset.n_samples(), dataset.shape()), (2, [3, 4, 2].as_slice()));
    // Red grows by 10 a row: at half the height, by 20 from 5; green by 20 a column.
    let second: Vec<f32> = dataset.tile(1..2).iter().map(|value| (value * 255.0).round()).collect();
    assert_eq!(second[..8], [5., 5., 25., 25., 45., 45., 65., 65.]);
    assert_eq!(dataset.tile(0..1).iter().map(|value| (value * 255.0).round()).collect::<Vec<_>>()[8..10], [10., 50.]);
}

#[test]
fn damaged_and_hostile_images_are_named_with_their_row() {
    let good = png(4, 3, 1);
    let with = |bytes: &[u8]| {
        refusal(described("", |folder| {
            put(folder, "1.png", &good);
            put(folder, "2.png", bytes);
        }))
    };
    let cases: [(&[u8], &str); 4] = [
        (b"", "d/2.png (row 1) is no image of a known kind"),
        (b"GIF89a and so on", "d/2.png (row 1) is not read: The image format Gif is not supported; save it as PNG"),
        (&good[..good.len() - 20], "d/2.png (row 1) is no readable image"),
        (&huge(&good), "d/2.png (row 1) is larger than 16384 by 16384 pixels"),
    ];
    for (bytes, part) in cases {
        let message = with(bytes);
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    for cut in 0..good.len() - 12 {
        let message = with(&good[..cut]);
        assert!(message.contains("d/2.png (row 1)"), "cut at {cut}: {message}");
    }
    let first = refusal(described("", |folder| put(folder, "1.png", b"\x89PNG")));
    assert!(first.contains("d/1.png is no "), "{first}");
    let nothing = refusal(described("format = \"images\"", |folder| put(folder, "cat/notes.txt", b"")));
    assert!(nothing.contains("d has no pictures (png, jpg"), "{nothing}");
}

/// The PNG's head saying 100,000 by 100,000 pixels, its checksum made right.
fn huge(png: &[u8]) -> Vec<u8> {
    let mut bytes = png.to_vec();
    bytes[16..20].copy_from_slice(&100_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&100_000_u32.to_be_bytes());
    let mut crc = !0_u32;
    for &byte in &bytes[12..29] {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_datasets_folder_is_refused_unless_a_manifest_leads_there() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(outside.path(), "cat/far.png", &png(2, 2, 0));
    put(&dir.path().join("d"), "cat/near.png", &png(2, 2, 0));
    std::os::unix::fs::symlink(outside.path().join("cat/far.png"), dir.path().join("d/cat/far.png")).unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    assert!(store.get("d").unwrap_err().to_string().contains("d/cat/far.png leads out of its folder"));
    let (_dir, store) = described(&format!("path = {:?}", dir.path().join("d").display().to_string()), |_| {});
    assert_eq!(store.get("d").unwrap().n_samples(), 2);
}
