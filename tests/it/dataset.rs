//! Probe sets: what is read from archives that NumPy, other writers and ill-wishers make, subsets, digests, versions.

mod celeba;
mod cifar10;
pub mod images;
mod manifest;
mod parquet;
mod resize;
mod served;
mod stl10;
mod taskonomy;
pub mod zipped;

use std::{
    fs,
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use ndarray::{Axis, array};
use npyz::WriterBuilder as _;
use transferscore::{
    dataset::{Dataset, DatasetError, DatasetStore, inline},
    error::{Error, Kind, Reason},
    limits,
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// An array as npyz writes it.
pub fn npy<T: npyz::AutoSerialize + Clone>(shape: &[u64], values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(shape).writer(Cursor::new(&mut bytes)).begin_nd().unwrap();
    writer.extend(values.iter().cloned()).unwrap();
    writer.finish().unwrap();
    bytes
}

/// An array whose header says anything.
pub fn raw_npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

pub fn header(descr: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")
}

pub fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in arrays {
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn read(bytes: &[u8]) -> Result<Arc<Dataset>, DatasetError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("d.npz"), bytes).unwrap();
    DatasetStore::open(&[dir.path().to_owned()]).unwrap().get("d")
}

/// What `tests/golden/datasets/write.py` wrote.
pub fn golden_file(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/datasets").join(name)).unwrap()
}

fn golden(name: &str) -> Arc<Dataset> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/numpy");
    DatasetStore::open(&[folder]).unwrap().get(name).unwrap()
}

fn vectors(n: u64, width: u64) -> Vec<u8> {
    npy(&[n, width], &(0..n * width).map(|i| i as f32).collect::<Vec<_>>())
}

#[test]
fn numpys_uint8_images_become_pixels_in_channel_order() {
    for name in ["images_uint8", "images_fortran"] {
        let dataset = golden(name);
        assert_eq!((dataset.shape(), dataset.n_samples(), dataset.n_features()), ([3, 4, 5].as_slice(), 2, 60));
        assert!(dataset.is_pixels());
        assert_eq!((dataset.labels(), dataset.n_classes()), (Some([3, 1].as_slice()), 4));
        let tile = dataset.tile(0..2);
        for n in 0..2 {
            for (c, h, w) in (0..60).map(|i| (i / 20, i / 5 % 4, i % 5)) {
                // The generating rule: arange(2·4·5·3) mod 251, sample by sample, row by row, pixel by pixel.
                let expected = (((n * 4 + h) * 5 + w) * 3 + c) % 251;
                let found = tile[[n, c * 20 + h * 5 + w]];
                assert_eq!(found, expected as f32 / 255.0, "{name} n{n} c{c} h{h} w{w}");
            }
        }
        // Bytes stay bytes: 120 pixels and two labels.
        assert_eq!(dataset.bytes(), 120 + 8);
    }
}

#[test]
fn numpys_vectors_are_read_in_any_order_width_and_byte_order() {
    let expected = array![[-0.5, -0.375, -0.25, -0.125], [0.0, 0.125, 0.25, 0.375], [0.5, 0.625, 0.75, 0.875f32]];
    for name in ["vectors_float64_fortran", "vectors_big_endian", "vectors_float16"] {
        let dataset = golden(name);
        assert_eq!(dataset.tile(0..3), expected, "{name}");
        assert_eq!((dataset.shape(), dataset.is_pixels()), ([4].as_slice(), false));
    }
    assert_eq!(golden("vectors_big_endian").labels(), Some([2, 0, 1].as_slice()));
    let regression = golden("vectors_float64_fortran");
    assert_eq!(regression.targets().unwrap(), array![[0.5], [-1.0], [2.0f32]]);
    assert_eq!((regression.labels(), regression.n_classes(), regression.target_size()), (None, 0, 1));
}

#[test]
fn half_precision_is_exact_at_its_corners() {
    // Smallest subnormal, largest subnormal, smallest normal, one, largest, minus zero; values from the standard.
    let bits: [u16; 6] = [0x0001, 0x03ff, 0x0400, 0x3c00, 0x7bff, 0x8000];
    let data: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let dataset = read(&npz(&[("x", raw_npy(&header("<f2", "(1, 6)"), &data))])).unwrap();
    let expected = [5.960_464_5e-8, 6.097_555e-5, 6.103_515_6e-5, 1.0, 65504.0, -0.0];
    assert_eq!(dataset.tile(0..1).row(0).to_vec(), expected);
    let infinite = read(&npz(&[("x", raw_npy(&header("<f2", "(1, 1)"), &0xfc00u16.to_le_bytes()))]));
    assert!(infinite.unwrap_err().to_string().contains("element 0 is -inf"));
}

#[test]
fn the_channel_axis_is_found_by_the_documented_rule() {
    let cases: [(&[u64], &[usize]); 6] = [
        (&[1, 3, 4, 5], &[3, 4, 5]),
        (&[1, 4, 5, 3], &[3, 4, 5]),
        (&[1, 1, 4, 5], &[1, 4, 5]),
        (&[1, 4, 5, 1], &[1, 4, 5]),
        (&[1, 4, 5], &[1, 4, 5]),
        (&[1, 3, 3, 3], &[3, 3, 3]),
    ];
    for (shape, expected) in cases {
        let n: u64 = shape.iter().product();
        let floats: Vec<f32> = (0..n).map(|i| i as f32 / n as f32).collect();
        let bytes: Vec<u8> = (0..n).map(|i| i as u8).collect();
        assert_eq!(read(&npz(&[("x", npy(shape, &floats))])).unwrap().shape(), expected, "float {shape:?}");
        assert_eq!(read(&npz(&[("x", npy(shape, &bytes))])).unwrap().shape(), expected, "uint8 {shape:?}");
    }
    // Where both axes could be: floats have channels second, bytes last.
    let floats: Vec<f32> = (0..27).map(|i| i as f32 / 27.0).collect();
    let bytes: Vec<u8> = (0..27).collect();
    let first = |array| read(&npz(&[("x", array)])).unwrap().tile(0..1)[[0, 1]];
    assert_eq!(first(npy(&[1, 3, 3, 3], &floats)), 1.0 / 27.0);
    assert_eq!(first(npy(&[1, 3, 3, 3], &bytes)), 3.0 / 255.0);
}

#[test]
fn labels_of_any_integer_type_and_targets_of_any_rank_are_read() {
    let with = |y| read(&npz(&[("x", vectors(3, 2)), ("y", y)])).unwrap();
    let labels = [
        npy(&[3], &[5u8, 0, 2]),
        npy(&[3], &[5i8, 0, 2]),
        npy(&[3], &[5u16, 0, 2]),
        npy(&[3], &[5i16, 0, 2]),
        npy(&[3], &[5u32, 0, 2]),
        npy(&[3, 1], &[5i32, 0, 2]),
        npy(&[3], &[5u64, 0, 2]),
        npy(&[3, 1], &[5i64, 0, 2]),
    ];
    for y in labels {
        let dataset = with(y);
        assert_eq!((dataset.labels(), dataset.n_classes()), (Some([5, 0, 2].as_slice()), 6));
    }
    assert_eq!(with(npy(&[3], &[true, false, true])).labels(), Some([1, 0, 1].as_slice()));
    let dense: Vec<f32> = (0..12).map(|i| -(i as f32)).collect();
    let dataset = with(npy(&[3, 2, 2], &dense));
    assert_eq!(dataset.targets().unwrap().row(1).to_vec(), [-4.0, -5.0, -6.0, -7.0]);
    assert_eq!((dataset.target_size(), dataset.labels()), (4, None));
}

#[test]
fn bad_archives_say_file_array_row_and_mend() {
    let x = |array: Vec<u8>| npz(&[("x", array)]);
    let xy = |y: Vec<u8>| npz(&[("x", vectors(3, 2)), ("y", y)]);
    let floats = |shape: &[u64], odd: f32| {
        let n = shape.iter().product::<u64>() as usize;
        let mut values = vec![0.5; n];
        values[n - 1] = odd;
        npy(shape, &values)
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty file", vec![], "d.npz: no readable .npz archive"),
        ("text", b"x,y\n1,2\n".to_vec(), "no readable .npz archive"),
        (
            "no x",
            npz(&[("images", vectors(1, 1)), ("y", vectors(1, 1))]),
            "no array \"x\", but [\"images\", \"y\"]; save it",
        ),
        ("x is text", x(b"hello, world".to_vec()), "array \"x\" not a NumPy array: it does not start"),
        ("x is short", x(b"\x93NUM".to_vec()), "it is too short"),
        ("version 9", x(b"\x93NUMPY\x09\x00\x00\x00".to_vec()), "its version is not 1, 2 or 3"),
        ("header cut off", x(b"\x93NUMPY\x01\x00\xff\x00{".to_vec()), "its header is cut off"),
        ("header of 4 GiB", x(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec()), "its header is too long"),
        ("header no dict", x(raw_npy("[1, 2]", b"")), "its header is malformed"),
        ("header no shape", x(raw_npy("{'descr': '<f4', 'fortran_order': False}", b"")), "its header lacks"),
        ("header nested", x(raw_npy(&"{'shape': ((((((".repeat(3000), b"")), "its shape is no tuple of integers"),
        ("negative length", x(raw_npy(&header("<f4", "(-1, 2)"), b"")), "its shape is no tuple of integers"),
        ("overflowing length", x(raw_npy(&header("<f4", "(99999999999999999999, 2)"), b"")), "its shape is no tuple"),
        (
            "overflowing product",
            x(raw_npy(&header("<f4", "(4294967296, 4294967296)"), b"")),
            "more than the 8589934592 bytes",
        ),
        (
            "zero hides overflow",
            x(raw_npy(&header("<f4", "(0, 4294967296, 4294967296)"), b"")),
            "more than the 8589934592 bytes",
        ),
        ("rank 17", x(raw_npy(&header("<f4", &format!("({})", "1, ".repeat(17))), b"")), "has 17 dimensions"),
        (
            "declares more than there is",
            x(raw_npy(&header("<f4", "(1000000, 1000)"), &[0; 8])),
            "of 1000000000 elements: the file is truncated",
        ),
        (
            "more than declared",
            x(raw_npy(&header("<f4", "(1, 1)"), &[0; 8])),
            "holds more data than its shape [1, 1] says",
        ),
        (
            "pickled",
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/numpy/pickled.npz")).unwrap(),
            "never unpickled",
        ),
        (
            "structured",
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/numpy/structured.npz")).unwrap(),
            "structured elements",
        ),
        ("strings", x(raw_npy(&header("<U3", "(1, 1)"), &[0; 12])), "elements of type <U3"),
        ("complex", x(raw_npy(&header("<c8", "(1, 1)"), &[0; 8])), "elements of type <c8"),
        ("int samples", x(npy(&[1, 2], &[1i32, 2])), "array \"x\" has elements of type int32; save pixels as uint8"),
        ("uint8 vectors", x(npy(&[1, 2], &[1u8, 2])), "has uint8 elements and shape [1, 2]; reshape images"),
        ("one dimension", x(npy(&[2], &[1.0f32, 2.0])), "has shape [2]; give"),
        ("five dimensions", x(npy(&[1, 1, 1, 1, 1], &[0.5f32])), "has shape [1, 1, 1, 1, 1]; give"),
        ("a number", x(npy(&[], &[0.5f32])), "has shape []; give"),
        ("no channels", x(npy(&[1, 4, 4, 4], &[0.5f32; 64])), "with no axis of 1 or 3 channels"),
        ("no samples", x(npy::<f32>(&[0, 4], &[])), "is empty, its shape is [0, 4]"),
        ("no features", x(npy::<f32>(&[4, 0], &[])), "is empty, its shape is [4, 0]"),
        ("NaN", x(floats(&[3, 4], f32::NAN)), "array \"x\" row 2, element 3 is NaN; remove"),
        ("float64 beyond float32", x(npy(&[1, 1], &[1e300f64])), "row 0, element 0 is inf"),
        (
            "pixels 0..255",
            x(floats(&[2, 1, 2, 2], 254.0)),
            "row 1, element 3 is 254; pixels are 0..1: undo any normalisation and divide by 255",
        ),
        ("pixels below 0", x(floats(&[2, 2, 2], -0.01)), "row 1, element 3 is -0.01; pixels"),
        ("infinite pixels", x(floats(&[1, 1, 1], f32::INFINITY)), "row 0, element 0 is inf; remove"),
        (
            "lengths differ",
            npz(&[("x", vectors(3, 2)), ("y", npy(&[2], &[1u8, 2]))]),
            "array \"x\" has 3 samples, y has 2",
        ),
        (
            "negative label",
            xy(npy(&[3], &[0i64, 1, -1])),
            "array \"y\" row 2 has label -1; labels are class indices from 0 to 65535",
        ),
        ("large label", xy(npy(&[3], &[0i64, 65_536, 1])), "row 1 has label 65536"),
        ("huge label", xy(npy(&[3], &[u64::MAX, 0, 1])), "row 0 has label 9223372036854775807"),
        ("attributes", xy(npy(&[3, 2], &[1i8; 6])), "array \"y\" has int8 elements and shape [3, 2]"),
        ("NaN target", xy(npy(&[3], &[0.0f32, f32::NAN, 0.0])), "array \"y\" row 1, element 0 is NaN"),
        ("empty targets", xy(npy::<f32>(&[3, 0], &[])), "array \"y\" is empty"),
        ("one target", xy(npy(&[], &[1u8])), "array \"y\" is a single number"),
    ];
    for (case, bytes, part) in cases {
        let error = read(&bytes).expect_err(case);
        let message = error.to_string();
        assert!(message.contains("d.npz: ") && message.contains(part), "{case}: {message:?} lacks {part:?}");
        assert_eq!(Error::from(error).reason, Reason::DatasetInvalid, "{case}");
    }
}

#[test]
fn every_cut_of_an_archive_and_every_flipped_byte_is_an_error_or_a_dataset() {
    let whole = npz(&[("x", vectors(3, 2)), ("y", npy(&[3], &[0i64, 1, 2]))]);
    let dataset = read(&whole).unwrap();
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).is_err(), "cut at {end}");
    }
    for i in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[i] ^= 0x55;
        // Some bytes carry no meaning, such as times; where the archive is still accepted, its data are the same.
        if let Ok(read) = read(&damaged) {
            let same = read.tile(0..3) == dataset.tile(0..3);
            let ignored = read.labels().is_none();
            assert!(same && (ignored || read.labels() == dataset.labels()), "byte {i} changes the data unnoticed");
        }
    }
}

#[test]
fn two_arrays_of_one_name_are_refused() {
    let name = |name: &[u8], bytes: Vec<u8>| {
        let places: Vec<usize> = (0..bytes.len() - 5).filter(|&i| &bytes[i..i + 5] == b"z.npy").collect();
        assert_eq!(places.len(), 2, "one in the entry, one in the directory");
        places.into_iter().fold(bytes, |mut bytes, i| {
            bytes[i..i + 5].copy_from_slice(name);
            bytes
        })
    };
    let two = npz(&[("x", vectors(1, 1)), ("z", vectors(2, 2))]);
    assert!(read(&name(b"x.npy", two.clone())).unwrap_err().to_string().contains("two arrays have the same name"));
    read(&name(b"w.npy", two)).unwrap();
}

#[test]
fn an_archive_that_unpacks_to_more_than_it_declares_is_refused() {
    // 64 MiB of zeros in some 64 KiB, behind a header that declares four bytes: reading stops after the fifth.
    let bomb = raw_npy(&header("<f4", "(1, 1)"), &vec![0; 64 << 20]);
    let bytes = npz(&[("x", bomb)]);
    assert!(bytes.len() < 200 << 10);
    assert!(read(&bytes).unwrap_err().to_string().contains("holds more data"));
    // One that declares, and has, more than the bound is refused before anything is unpacked.
    let n = limits::DATASET_UNPACKED_BYTES / 4 + 1;
    let huge = raw_npy(&header("<f4", &format!("({n}, 1)")), &vec![0; 1 << 20]);
    assert!(read(&npz(&[("x", huge)])).unwrap_err().to_string().contains("more than the 8589934592 bytes"));
}

#[test]
fn tiles_are_rows_of_the_whole_and_end_with_it() {
    for x in [vectors(5, 2), npy(&[5, 1, 2], &(0..10u8).collect::<Vec<_>>())] {
        let dataset = read(&npz(&[("x", x)])).unwrap();
        let whole = dataset.tile(0..5);
        for chosen in [Arc::clone(&dataset), Arc::new(dataset.subset(3, 7))] {
            let all = chosen.tile(0..usize::MAX);
            assert_eq!(all.nrows(), chosen.n_samples());
            let parts = [chosen.tile(0..2), chosen.tile(2..99)];
            let joined = ndarray::concatenate(Axis(0), &parts.each_ref().map(|part| part.view())).unwrap();
            assert_eq!(joined, all);
            assert!(all.rows().into_iter().all(|row| whole.rows().into_iter().any(|other| other == row)));
        }
        assert_eq!(dataset.tile(9..12).dim(), (0, 2));
        assert_eq!(dataset.tile(4..4).dim(), (0, 2));
    }
}

#[test]
fn a_subset_is_drawn_by_its_seed_without_replacement_in_order() {
    let x: Vec<f32> = (0..100).map(|i| i as f32).collect();
    let dataset = inline(&[1], x, &(0..100).collect::<Vec<_>>()).unwrap();
    let subset = dataset.subset(10, 3);
    let labels = subset.labels().unwrap().to_vec();
    assert_eq!((subset.n_samples(), labels.len(), subset.n_classes()), (10, 10, 100));
    assert!(labels.is_sorted_by(|a, b| a < b), "{labels:?}");
    // Samples and labels stay together.
    assert_eq!(subset.tile(0..10).column(0).to_vec(), labels.iter().map(|&i| i as f32).collect::<Vec<_>>());
    assert_eq!(dataset.subset(10, 3).labels().unwrap(), labels);
    // Pinned: a published score must stay repeatable by its seed.
    assert_eq!(labels, [20, 22, 23, 28, 31, 42, 77, 79, 94, 95]);
    assert_ne!(dataset.subset(10, 4).labels().unwrap(), labels);
    for all in [0, 100, 101, usize::MAX] {
        assert_eq!(dataset.subset(all, 3).digest(), dataset.digest());
    }
    let nested = subset.subset(4, 1);
    assert!(nested.labels().unwrap().iter().all(|label| labels.contains(label)));
    assert_eq!(
        nested.tile(0..4).column(0).to_vec(),
        nested.labels().unwrap().iter().map(|&i| i as f32).collect::<Vec<_>>()
    );
    // Every sample is as likely as any other: 10,000 draws of 10 hit each of 100 some 1,000 times, ± 5 sigma.
    let mut hits = vec![0u32; 100];
    for seed in 0..10_000 {
        dataset.subset(10, seed).labels().unwrap().iter().for_each(|&label| hits[label as usize] += 1);
    }
    assert!(hits.iter().all(|&n| (850..=1150).contains(&n)), "{hits:?}");
}

#[test]
fn the_digest_covers_shape_samples_labels_and_targets_and_nothing_else() {
    let x = || vec![0.0, 0.25, 0.5, 0.75, 1.0, 0.125];
    let base = inline(&[2], x(), &[0, 1, 1]).unwrap();
    let mut other = x();
    other[5] = 0.126;
    let different = [
        inline(&[2], other, &[0, 1, 1]).unwrap(),
        inline(&[2], x(), &[0, 1, 2]).unwrap(),
        inline(&[2], x(), &[]).unwrap(),
        inline(&[1, 1, 2], x(), &[0, 1, 1]).unwrap(),
        inline(&[3], x(), &[0, 1]).unwrap(),
        base.subset(2, 0),
        (*read(&npz(&[("x", npy(&[3, 2], &x())), ("y", npy(&[3], &[0.0f32, 1.0, 1.0]))])).unwrap()).clone(),
    ];
    let mut digests: Vec<String> = different.iter().map(|dataset| dataset.digest().to_string()).collect();
    digests.push(base.digest().to_string());
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), different.len() + 1);
    // The same content under another name, from another kind of file, is the same.
    let stored = read(&npz(&[("x", npy(&[3, 2], &x())), ("y", npy(&[3], &[0u8, 1, 1]))])).unwrap();
    assert_eq!((stored.name(), stored.digest()), ("d", base.digest()));
    let bytes = read(&npz(&[("x", npy(&[2, 1, 1], &[0u8, 51]))])).unwrap();
    assert_eq!(bytes.digest(), inline(&[1, 1, 1], vec![0.0, 0.2], &[]).unwrap().digest());
}

#[test]
fn inline_samples_are_checked_field_by_field() {
    type Case<'a> = (&'a [u32], Vec<f32>, &'a [u32], &'a str, &'a str);
    let cases: [Case<'_>; 13] = [
        (&[], vec![0.5], &[], "shape", "is empty; give [channels, height, width] or [features]"),
        (&[1, 2], vec![0.5; 2], &[], "shape", "is [1, 2]"),
        (&[0], vec![0.5], &[], "shape", "every length must be at least 1"),
        (&[u32::MAX, u32::MAX, u32::MAX], vec![0.5], &[], "shape", "fit in memory"),
        (&[3], vec![], &[], "samples", "is empty"),
        (&[3], vec![0.5; 4], &[], "samples", "has 4 values, which is no multiple of the 3"),
        (&[2], vec![0.5, 0.5, 0.5, f32::NAN], &[], "samples", "row 1, element 1 is NaN"),
        (&[2], vec![f32::INFINITY; 2], &[], "samples", "row 0, element 0 is inf"),
        (&[1, 1, 1], vec![0.5, 1.5], &[], "samples", "row 1, element 0 is 1.5; pixels are 0..1"),
        (&[1, 1, 1], vec![-0.5], &[], "samples", "row 0, element 0 is -0.5"),
        (&[1], vec![0.5; 3], &[1, 2], "labels", "has 2 values for 3 samples"),
        (&[1], vec![0.5], &[1, 2], "labels", "has 2 values for 1 samples"),
        (&[1], vec![0.5], &[65_536], "labels", "row 0 has label 65536"),
    ];
    for (shape, samples, labels, field, part) in cases {
        let error = Error::from(inline(shape, samples, labels).unwrap_err());
        assert_eq!(error.field.as_deref(), Some(format!("inline_dataset.{field}").as_str()), "{error}");
        assert_eq!((error.reason, error.kind()), (Reason::ProbeInvalid, Kind::InvalidArgument));
        assert!(error.message.contains(part), "{:?} lacks {part:?}", error.message);
    }
    let dataset = inline(&[1, 2, 2], vec![0.0, 0.25, 0.5, 1.0], &[7]).unwrap();
    assert_eq!((dataset.name(), dataset.shape(), dataset.n_classes()), ("", [1, 2, 2].as_slice(), 8));
    assert_eq!(dataset.tile(0..1), array![[0.0, 0.25, 0.5, 1.0]]);
    assert!(inline(&[1], vec![-5.0], &[]).unwrap().labels().is_none());
}

#[test]
fn datasets_are_named_reloaded_and_confined_as_models_are() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("folder/data.npz"), npz(&[("x", vectors(2, 1))])).unwrap();
    fs::write(at("bare.npz"), npz(&[("x", vectors(3, 1))])).unwrap();
    fs::write(at("broken.npz"), b"-").unwrap();
    fs::write(at("ignored.csv"), b"-").unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    assert_eq!(store.names(), ["bare", "broken", "folder"]);
    assert_eq!(store.get("folder").unwrap().n_samples(), 2);

    let old = store.find("bare").unwrap();
    assert!(Arc::ptr_eq(&old, &store.find("bare").unwrap()), "an unchanged file is read again");
    fs::write(at("bare.npz"), npz(&[("x", vectors(4, 9))])).unwrap();
    assert_eq!((store.get("bare").unwrap().n_samples(), old.n_samples()), (4, 3));

    let error = Error::from(store.get("bar").unwrap_err());
    assert_eq!(error.reason, Reason::DatasetNotFound);
    assert!(error.message.contains("no dataset is named \"bar\"; did you mean bare?"), "{error}");
    assert!(store.get("../bare").is_err());

    let large = fs::File::create(at("large.npz")).unwrap();
    large.set_len(limits::DATASET_BYTES + 1).unwrap();
    assert!(store.get("large").unwrap_err().to_string().contains("large.npz has 4294967297 bytes"));
}

#[cfg(unix)]
#[test]
fn a_dataset_link_out_of_the_folder_is_refused() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("o.npz"), npz(&[("x", vectors(2, 1))])).unwrap();
    std::os::unix::fs::symlink(outside.path().join("o.npz"), dir.path().join("link.npz")).unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    assert!(store.get("link").unwrap_err().to_string().contains("link.npz leads out of its folder"));
}

#[test]
fn the_shared_probe_set_is_read_whole() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/synthetic");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    let dataset = DatasetStore::open(&[folder]).unwrap().get("probe").unwrap();
    assert_eq!((dataset.n_samples(), dataset.shape(), dataset.target_size()), (5000, [50].as_slice(), 10));
}
