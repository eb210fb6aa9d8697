//! `dataset.toml`: which samples it takes of a dataset, and what it says when it cannot.

use std::{fs, path::Path};

use ndarray::Axis;
use tempfile::TempDir;
use transferscore::dataset::{Dataset, DatasetStore};

use super::{npy, npz, vectors};
use crate::support;

/// A store of one dataset folder `d` with a manifest, and beside it whatever `fill` puts there.
pub fn described(manifest: &str, fill: impl Fn(&Path)) -> (TempDir, DatasetStore) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("d");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("dataset.toml"), manifest).unwrap();
    fill(&folder);
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    (dir, store)
}

/// What is said of a dataset that cannot be had, be it when it is found or when it is read.
pub fn refusal((_dir, store): (TempDir, DatasetStore)) -> String {
    store.get("d").expect_err("a dataset that is no good").to_string()
}

/// Ten vectors `[i]` with label i mod 3.
fn ten(folder: &Path) {
    let labels: Vec<i64> = (0..10).map(|i| i % 3).collect();
    fs::write(folder.join("data.npz"), npz(&[("x", vectors(10, 1)), ("y", npy(&[10], &labels))])).unwrap();
}

fn values(dataset: &Dataset) -> Vec<f32> {
    dataset.tile(0..dataset.n_samples()).iter().copied().collect()
}

#[test]
fn a_manifest_takes_classes_in_its_order_and_positions_within_each() {
    let cases: [(&str, &[f32], &[u32], usize); 6] = [
        ("", &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9.], &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0], 3),
        ("classes = [2, 0]", &[0., 2., 3., 5., 6., 8., 9.], &[1, 0, 1, 0, 1, 0, 1], 2),
        ("per_class = [1, 3]", &[3., 4., 5., 6., 7., 8.], &[0, 1, 2, 0, 1, 2], 3),
        // Positions past a class's end do not exist.
        ("per_class = [3, 9]", &[9.], &[0], 3),
        ("classes = [1]\nper_class = [0, 2]", &[1., 4.], &[0, 0], 1),
        (
            "part = \"all\"\nformat = \"npz\"",
            &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9.],
            &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0],
            3,
        ),
    ];
    for (manifest, expected, labels, n_classes) in cases {
        let (_dir, store) = described(manifest, ten);
        let dataset = store.get("d").unwrap();
        assert_eq!((values(&dataset).as_slice(), dataset.labels()), (expected, Some(labels)), "{manifest}");
        let found = store.find("d").unwrap();
        assert_eq!((dataset.n_classes(), found.n_classes()), (n_classes, n_classes), "{manifest}");
        assert_eq!((found.n_samples(), found.shape(), found.format()), (expected.len(), [1].as_slice(), "npz"));
    }
}

#[test]
fn a_subset_of_a_view_is_drawn_and_counted_within_the_view() {
    let (_dir, store) = described("classes = [0]", ten);
    let (whole, subset) = (store.get("d").unwrap(), store.load(&store.find("d").unwrap(), 2, 5).unwrap());
    assert_eq!(subset.n_samples(), 2);
    for sample in 0..2 {
        assert_eq!(subset.tile(sample..sample + 1), whole.tile(subset.place(sample)..subset.place(sample) + 1));
    }
    // As other datasets of four samples draw.
    let other = transferscore::dataset::inline(&[1], vec![0., 3., 6., 9.], &[0; 4]).unwrap().subset(2, 5);
    assert_eq!((values(&subset), subset.digest()), (values(&other), other.digest()));
}

#[test]
fn a_path_leads_from_the_manifest_to_a_file_elsewhere_and_changes_there_count() {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("far.npz");
    fs::write(&file, npz(&[("x", vectors(4, 2))])).unwrap();
    let manifest = format!("path = {:?}\nsummary = \"far away\"\nlicence = \"CC0\"", file.display().to_string());
    let (dir, store) = described(&manifest, |_| {});
    let found = store.find("d").unwrap();
    assert_eq!((found.n_samples(), found.summary(), found.licence()), (4, "far away", "CC0"));
    fs::write(&file, npz(&[("x", vectors(5, 2))])).unwrap();
    assert_eq!(store.find("d").unwrap().n_samples(), 5);
    // The manifest itself, changed in place.
    fs::write(dir.path().join("d/dataset.toml"), "path = \"../d/near.npz\"").unwrap();
    fs::write(dir.path().join("d/near.npz"), npz(&[("x", vectors(6, 2))])).unwrap();
    assert_eq!(store.find("d").unwrap().n_samples(), 6);
}

#[test]
fn a_manifest_that_makes_no_sense_says_where_and_what_mends_it() {
    let cases = [
        ("sise = [32, 32]", "d/dataset.toml, line 1: unknown field `sise`, expected one of `format`, `path`"),
        ("summary = \"s\"\npart = \"testing\"", "line 2: unknown variant `testing`, expected one of `train`, `test`"),
        ("part = \"test\"", "part is \"test\", but the dataset has no parts; leave it out"),
        ("label = \"depth\"", "label is \"depth\", but the archive has x, y; name one of its arrays"),
        ("format = \"hdf5\"", "format is \"hdf5\"; give one of npz"),
        ("path = \"nowhere\"", "path is \"nowhere\", where nothing is"),
        ("path = \" \"", "path is empty or longer"),
        ("size = [32]", "size is [32]; give [height, width]"),
        ("size = [0, 3]", "size is [0, 3]; give [height, width], each from 1 to 8192"),
        ("size = [4, 4]", "size is for pictures, but the samples are vectors"),
        ("channels = 2", "channels is 2; give 1 for grey"),
        ("classes = []", "classes names 0 classes"),
        ("classes = [0, 3]", "classes names 3, which is no class of the dataset; give numbers from 0 to 2"),
        ("classes = [-1]", "classes names -1, which"),
        ("classes = [1, 0, 1]", "classes names 1 twice"),
        ("classes = [\"cat\"]", "classes names \"cat\", which is no class of the dataset; the dataset names none"),
        ("per_class = [3, 3]", "per_class is [3, 3]; give [from, to]"),
        ("per_class = [-1, 3]", "per_class is [-1, 3]; give [from, to]"),
        ("per_class = [4, 9]", "per_class is [4, 9], but no class has more than 4 of 10 samples"),
        ("summary = \"two\\nlines\"", "summary has line breaks"),
        ("=", "d/dataset.toml, line 1: "),
    ];
    for (manifest, part) in cases {
        let message = refusal(described(manifest, ten));
        assert!(message.contains("d/dataset.toml") && message.contains(part), "{manifest}: {message:?} lacks {part:?}");
    }
    let unlabelled = |folder: &Path| fs::write(folder.join("data.npz"), npz(&[("x", vectors(3, 1))])).unwrap();
    assert!(refusal(described("per_class = [0, 1]", unlabelled)).contains("per_class needs labels"));
    let nothing = refusal(described("", |_| {}));
    assert!(nothing.contains("d is laid out as no known dataset (npz"), "{nothing}");
    assert!(refusal(described(&"#".repeat(70_000), ten)).contains("d/dataset.toml has 70000 bytes"));
}

#[test]
fn a_label_takes_another_array_of_an_archive_in_the_place_of_y() {
    let fill = |folder: &Path| {
        let arrays = [
            ("x", vectors(3, 1)),
            ("y", npy(&[3], &[0_i64, 1, 1])),
            ("depth", npy(&[3, 2, 1], &[1.0_f32, 2., 3., 4., 5., 6.])),
            ("room", npy(&[3], &[4_u8, 0, 2])),
            ("short", npy(&[2], &[0_u8, 1])),
        ];
        fs::write(folder.join("data.npz"), npz(&arrays)).unwrap();
    };
    let get = |manifest: &str| {
        let (_dir, store) = described(manifest, fill);
        store.get("d").unwrap()
    };
    assert_eq!(get("").labels(), Some([0, 1, 1].as_slice()));
    assert_eq!(get("label = \"room\"").labels(), Some([4, 0, 2].as_slice()));
    let dense = get("label = \"depth\"");
    let targets = dense.targets().unwrap();
    assert_eq!((dense.labels(), targets.shape(), targets[[2, 1]]), (None, [3, 2].as_slice(), 6.0));
    let short = refusal(described("label = \"short\"", fill));
    assert!(short.contains("x\" has 3 samples, short has 2"), "{short}");
}

#[test]
fn pictures_in_an_archive_are_resized_and_keep_labels_and_targets() {
    let pixels: Vec<u8> = (0..2 * 4 * 4).map(|i| 8 * i).collect();
    let fill = |y: Vec<u8>| {
        let archive = npz(&[("x", npy(&[2, 4, 4, 1], &pixels)), ("y", y)]);
        move |folder: &Path| fs::write(folder.join("data.npz"), &archive).unwrap()
    };
    let (_dir, store) = described("size = [2, 2]", fill(npy(&[2], &[1_u8, 0])));
    let dataset = store.get("d").unwrap();
    // Each the mean of four: of 0, 1, 4, 5 in eighths, and so on.
    let expected: Vec<f32> = [20, 36, 84, 100, 148, 164, 212, 228].map(|byte| byte as f32 / 255.0).to_vec();
    assert_eq!(
        (values(&dataset), dataset.labels(), dataset.shape()),
        (expected.clone(), Some([1, 0].as_slice()), [1, 2, 2].as_slice())
    );
    assert_eq!(store.find("d").unwrap().shape(), [1, 2, 2]);

    let (_dir, store) = described("size = [2, 2]", fill(npy(&[2, 1], &[0.5_f32, -3.0])));
    let one = store.load(&store.find("d").unwrap(), 1, 0).unwrap();
    let place = one.place(0);
    assert_eq!(values(&one), expected[4 * place..4 * place + 4]);
    assert_eq!((one.targets().unwrap()[[0, 0]], one.target_size()), ([0.5, -3.0][place], 1));
}

/// The probe set of the experiment on distributions: STL-10's vehicles at 32×32, the last 250 of each, as an
/// independent mean of nine pixels gives them.
#[test]
fn the_vehicles_probe_set_is_what_the_recipe_writes() {
    let Some(file) = support::shared("data/stl10/vehicles.npz") else { return };
    let file = fs::canonicalize(file).unwrap();
    let manifest = |more: &str| format!("path = {:?}\n{more}", file.display().to_string());
    let (_dir, store) = described(&manifest("size = [32, 32]\nclasses = [0, 2, 8, 9]\nper_class = [250, 500]"), |_| {});
    let probe = store.get("d").unwrap();
    let (_dir, store) = described(&manifest(""), |_| {});
    let whole = store.get("d").unwrap();
    let classes = [0, 2, 8, 9];
    let mut met = [0; 4];
    let kept = |(row, label): (usize, &u32)| {
        let class = classes.iter().position(|class| class == label)?;
        met[class] += 1;
        (met[class] > 250).then_some((row, class as u32))
    };
    let (rows, labels): (Vec<usize>, Vec<u32>) = whole.labels().unwrap().iter().enumerate().filter_map(kept).unzip();
    assert_eq!((probe.n_samples(), probe.shape(), probe.n_classes()), (1000, [3, 32, 32].as_slice(), 4));
    assert_eq!(probe.labels().unwrap(), labels);
    for sample in (0..1000).step_by(37) {
        let large = whole.samples(&[rows[sample]]).into_shape_with_order((3, 32, 3, 32, 3)).unwrap();
        let means = large.mapv(f64::from).mean_axis(Axis(4)).unwrap().mean_axis(Axis(2)).unwrap();
        let expected: Vec<f32> = means.iter().map(|mean| (255.0 * mean).round() as f32 / 255.0).collect();
        assert_eq!(probe.samples(&[sample]).row(0).to_vec(), expected, "sample {sample}");
    }
}
