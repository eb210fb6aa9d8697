//! Taskonomy's folders of views, with and without a domain as dense target.

use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma};
use transferscore::dataset::{Dataset, DatasetStore};

use super::{
    images::{encode, png, put},
    manifest::{described, refusal},
};

/// Building, point, view; in the order in which samples come.
const VIEWS: [(&str, u32, u32); 4] = [("allen", 2, 0), ("allen", 10, 0), ("allen", 10, 3), ("bolton", 0, 1)];

/// 16 bits: 1000 (row + 2 column) + index.
fn depth(index: u16) -> Vec<u8> {
    let image: ImageBuffer<Luma<u16>, Vec<u16>> =
        ImageBuffer::from_fn(4, 4, |x, y| Luma([1000 * (y as u16 + 2 * x as u16) + index]));
    encode(&DynamicImage::ImageLuma16(image), ImageFormat::Png)
}

/// 8 bits: a name for each column.
fn segments() -> Vec<u8> {
    let image = ImageBuffer::from_fn(4, 4, |x, _| Luma([[7, 7, 200, 3][x as usize]]));
    encode(&DynamicImage::ImageLuma8(image), ImageFormat::Png)
}

fn fill(folder: &Path, path: impl Fn(&str, &str) -> String) {
    for (index, (building, point, view)) in VIEWS.iter().enumerate() {
        let write = |domain: &str, bytes: &[u8]| {
            let file = format!("{}/point_{point}_view_{view}_domain_{domain}.png", path(building, domain));
            put(folder, &file, bytes);
        };
        write("rgb", &png(4, 4, index as u8));
        write("depth_zbuffer", &depth(index as u16));
        write("segment_semantic", &segments());
    }
}

fn by_building(folder: &Path) {
    fill(folder, |building, domain| format!("{building}_{domain}"));
}

pub fn by_domain(folder: &Path) {
    fill(folder, |building, domain| format!("{domain}/{building}"));
}

fn firsts(dataset: &Dataset) -> Vec<u8> {
    dataset.tile(0..dataset.n_samples()).column(0).iter().map(|value| (value * 255.0).round() as u8).collect()
}

#[test]
fn views_come_in_order_from_both_layouts_with_a_domain_as_target() {
    for layout in [by_building as fn(&Path), by_domain] {
        let dir = tempfile::tempdir().unwrap();
        layout(&dir.path().join("rooms"));
        let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
        let found = store.find("rooms").unwrap();
        assert_eq!((found.format(), found.shape(), found.n_samples()), ("taskonomy", [3, 4, 4].as_slice(), 4));
        let views = store.get("rooms").unwrap();
        assert_eq!((firsts(&views), views.labels(), views.target_size()), (vec![0, 1, 2, 3], None, 0));

        let (_dir, store) = described("label = \"depth_zbuffer\"", layout);
        let (found, views) = (store.find("d").unwrap(), store.get("d").unwrap());
        assert_eq!((found.target_size(), views.target_size()), (16, 16));
        let targets = views.targets().unwrap();
        for (sample, row, column) in [(0, 0, 0), (1, 3, 0), (3, 1, 3)] {
            let expected = (1000 * (row + 2 * column) + sample) as f32 / 65_535.0;
            assert_eq!(targets[[sample, 4 * row + column]], expected);
        }
        assert_eq!(store.load(&found, 2, 4).unwrap().digest(), views.subset(2, 4).digest());

        // Resized with the picture: the mean of four.
        let (_dir, store) = described("label = \"depth_zbuffer\"\nsize = [2, 2]", layout);
        let small = store.get("d").unwrap();
        assert_eq!((small.shape(), small.target_size()), ([3, 2, 2].as_slice(), 4));
        assert!((small.targets().unwrap()[[2, 0]] - 1502.0 / 65_535.0).abs() < 1e-7);
        // Names are not averaged.
        let (_dir, store) = described("label = \"segment_semantic\"\nsize = [2, 2]", layout);
        let names: Vec<f32> = store.get("d").unwrap().targets().unwrap().row(0).mapv(|value| value * 255.0).to_vec();
        assert!(names.iter().zip([7.0, 3.0, 7.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-4), "{names:?}");
    }
}

#[test]
fn missing_domains_and_views_are_named() {
    let message = refusal(described("label = \"normal\"", by_domain));
    assert!(message.contains("label is \"normal\", a domain that has no folder there"), "{message}");
    let message = refusal(described("label = \"../rgb\"", by_domain));
    assert!(message.contains("label is \"../rgb\", a domain"), "{message}");
    let message = refusal(described("label = \"depth_zbuffer\"", |folder| {
        by_building(folder);
        std::fs::remove_file(folder.join("allen_depth_zbuffer/point_10_view_3_domain_depth_zbuffer.png")).unwrap();
    }));
    let file = "d/allen_depth_zbuffer/point_10_view_3_domain_depth_zbuffer.png";
    assert!(message.contains(&format!("{file} (row 2) is missing; unpack the domain's archive there")), "{message}");
    let message = refusal(described("label = \"depth_zbuffer\"", |folder| {
        by_building(folder);
        put(folder, file.trim_start_matches("d/"), &png(4, 4, 0));
    }));
    assert!(message.contains(&format!("{file} (row 2) is 3x4x4, the first one 1x4x4")), "{message}");
    let message = refusal(described("format = \"taskonomy\"", |folder| put(folder, "rgb/cat.png", &png(2, 2, 0))));
    assert!(message.contains("d has no views"), "{message}");
    let message = refusal(described("part = \"test\"", by_domain));
    assert!(message.contains("the dataset has no parts"), "{message}");
}
