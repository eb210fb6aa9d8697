//! CIFAR-10 in both versions and packed, from bytes written by hand and by the libraries that wrote the real ones.

use std::{fs, io::Write as _, path::Path};

use flate2::{Compression, write::GzEncoder};
use transferscore::dataset::DatasetStore;

use super::{
    golden_file,
    manifest::{described, refusal},
};

const NAMES: &str = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

/// The file of one batch: picture `i` has label `first + i` mod 10, and byte j of its pixels is `i + 3 j` mod 256.
fn batch(first: usize, n: usize) -> Vec<u8> {
    let record = |i: usize| {
        std::iter::once(((first + i) % 10) as u8).chain((0..3072).map(move |j| (i + 3 * j) as u8)).collect::<Vec<_>>()
    };
    (0..n).flat_map(record).collect()
}

/// Name and contents of every file: batches of 2, 3, 4, 5, 6 pictures, and 4 of the test.
fn binary() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = (1..=5).map(|i| (format!("data_batch_{i}.bin"), batch(i, i + 1))).collect();
    files.push(("test_batch.bin".to_owned(), batch(7, 4)));
    files.push(("batches.meta.txt".to_owned(), NAMES.into()));
    files
}

fn write(folder: &Path, files: &[(String, Vec<u8>)]) {
    fs::create_dir_all(folder).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
}

/// A tar archive, header by header, as POSIX describes it.
pub fn tar(folder: &str, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut entry = |name: &str, kind: u8, bytes: &[u8]| {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = kind;
        header[257..263].copy_from_slice(b"ustar\0");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    };
    entry(&format!("{folder}/"), b'5', b"");
    files.iter().for_each(|(name, bytes)| entry(&format!("{folder}/{name}"), b'0', bytes));
    archive.extend_from_slice(&[0; 1024]);
    archive
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Six files and the classes' names: 24 pictures.
pub fn binary_folder(folder: &Path) {
    write(folder, &binary());
}

#[test]
fn the_binary_version_is_found_read_and_divided() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("cifar/cifar-10-batches-bin"), &binary());
    write(&dir.path().join("direct"), &binary());
    fs::write(dir.path().join("packed.tar.gz"), gzip(&tar("cifar-10-batches-bin", &binary()))).unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    assert_eq!(store.names(), ["cifar", "direct", "packed"]);
    for name in store.names() {
        let found = store.find(&name).unwrap();
        assert_eq!((found.format(), found.n_samples(), found.shape()), ("cifar10", 24, [3, 32, 32].as_slice()));
        assert_eq!((found.n_classes(), found.classes()[9].as_str()), (10, "truck"));
        let all = store.get(&name).unwrap();
        // Row 5 is the first of the third file, row 22 the third of the test's.
        assert_eq!((all.labels().unwrap()[5], all.labels().unwrap()[22]), (3, 9));
        let expected: Vec<f32> = (0..3072).map(|j| ((2 + 3 * j) % 256) as f32 / 255.0).collect();
        assert_eq!(all.samples(&[22]).row(0).to_vec(), expected, "{name}");
        // A few of them are those of the whole.
        let few = store.load(&found, 5, 1).unwrap();
        assert_eq!(few.digest(), all.subset(5, 1).digest());
        assert_eq!(few.place(2), all.subset(5, 1).place(2));
    }
    let fill = |folder: &Path| write(folder, &binary());
    for (manifest, n, first) in [("part = \"train\"", 20, 1), ("part = \"test\"", 4, 7), ("part = \"all\"", 24, 1)] {
        let (_dir, store) = described(manifest, fill);
        let part = store.get("d").unwrap();
        assert_eq!((part.n_samples(), part.labels().unwrap()[0]), (n, first), "{manifest}");
    }
    let (_dir, store) = described("part = \"test\"\nclasses = [\"truck\", \"ship\"]", fill);
    let vehicles = store.find("d").unwrap();
    assert_eq!((vehicles.classes(), vehicles.n_samples()), (["truck".to_owned(), "ship".to_owned()].as_slice(), 2));
    assert_eq!(store.get("d").unwrap().labels().unwrap(), [1, 0]);
}

/// One batch as Python 2 wrote the real ones: protocol 2, by hand from its documentation.
fn python_2(labels: &[u8], pixels: &[u8]) -> Vec<u8> {
    let mut bytes =
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(".to_vec();
    labels.iter().for_each(|&label| bytes.extend([b'K', label]));
    bytes.extend(b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\x09U\x01bq\x0a\x87q\x0bRq\x0c(K\x01");
    bytes.extend([b'K', labels.len() as u8]);
    bytes.extend(b"M\x00\x0c\x86q\x0dcnumpy\ndtype\nq\x0eU\x02u1q\x0fK\x00K\x01\x87q\x10Rq\x11(K\x03U\x01|q\x12NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x13b\x89T");
    bytes.extend((pixels.len() as u32).to_le_bytes());
    bytes.extend(pixels);
    bytes.extend(b"q\x14tq\x15bU\tfilenamesq\x16]q\x17(U\x05a.pngq\x18U\x05b.pngq\x19eu.");
    bytes
}

fn pixels(n: usize) -> Vec<u8> {
    (0..n * 3072).map(|i| (i * 7 % 251) as u8).collect()
}

fn python(folder: &Path, batch: &[u8]) {
    let mut files: Vec<(String, Vec<u8>)> =
        (1..=5).map(|i| (format!("data_batch_{i}"), python_2(&[i], &pixels(1)))).collect();
    files.push(("test_batch".to_owned(), batch.to_vec()));
    files.push(("batches.meta".to_owned(), golden_file("meta.pickle")));
    write(folder, &files);
}

#[test]
fn pickles_of_every_protocol_hold_the_same_pictures() {
    let mut batches = vec![python_2(&[6, 9], &pixels(2))];
    batches.extend([3, 4, 5].map(|protocol| golden_file(&format!("batch_protocol_{protocol}.pickle"))));
    for (case, batch) in batches.iter().enumerate() {
        let (_dir, store) = described("part = \"test\"", |folder| python(&folder.join("cifar-10-batches-py"), batch));
        let dataset = store.get("d").unwrap();
        assert_eq!((dataset.labels(), dataset.shape()), (Some([6, 9].as_slice()), [3, 32, 32].as_slice()), "{case}");
        let expected: Vec<f32> = pixels(2).into_iter().map(|byte| f32::from(byte) / 255.0).collect();
        assert_eq!(dataset.tile(0..2).iter().copied().collect::<Vec<_>>(), expected, "{case}");
        assert_eq!(store.find("d").unwrap().classes()[3], "cat");
    }
    let dir = tempfile::tempdir().unwrap();
    python(&dir.path().join("unpacked"), &batches[0]);
    let files: Vec<(String, Vec<u8>)> = fs::read_dir(dir.path().join("unpacked"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect();
    fs::write(dir.path().join("packed.tgz"), gzip(&tar("cifar-10-batches-py", &files))).unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    assert_eq!(store.get("packed").unwrap().digest(), store.get("unpacked").unwrap().digest());
    assert_eq!(store.get("packed").unwrap().n_samples(), 7);
}

#[test]
fn damaged_batches_say_file_row_and_mend() {
    let change = |name: &'static str, change: fn(&mut Vec<u8>)| {
        move |folder: &Path| {
            write(folder, &binary());
            let mut bytes = fs::read(folder.join(name)).unwrap();
            change(&mut bytes);
            fs::write(folder.join(name), bytes).unwrap();
        }
    };
    let refused = |fill: &dyn Fn(&Path)| refusal(described("", fill));
    let message = refused(&change("data_batch_2.bin", |bytes| bytes.truncate(bytes.len() - 1)));
    assert!(message.contains("d/data_batch_2.bin has 9218 bytes, which is no multiple of the 3073"), "{message}");
    let message = refused(&change("data_batch_4.bin", Vec::clear));
    assert!(message.contains("d/data_batch_4.bin has 0 bytes"), "{message}");
    let message = refused(&change("test_batch.bin", |bytes| bytes[2 * 3073] = 10));
    assert!(message.contains("d/test_batch.bin (row 2) has label 10, not 0 to 9"), "{message}");
    let message = refused(&change("batches.meta.txt", |bytes| bytes.extend(b"bus\n")));
    assert!(message.contains("d/batches.meta.txt names 11 classes"), "{message}");
    let missing = |folder: &Path| {
        write(folder, &binary());
        fs::remove_file(folder.join("data_batch_3.bin")).unwrap();
    };
    assert!(refused(&missing).contains("d/data_batch_3.bin is missing; unpack the whole archive there"));
    let message = refusal(described("part = \"validation\"", |folder| write(folder, &binary())));
    assert!(message.contains("part is \"validation\", but the dataset has train, test"), "{message}");

    let pickled = |batch: &[u8]| refusal(described("", |folder| python(folder, batch)));
    let cases: [(&str, Vec<u8>, &str); 9] = [
        (
            "python 3 in protocol 2",
            golden_file("batch_protocol_2.pickle"),
            "it names _codecs.encode, which is part of no array",
        ),
        ("Fortran order", golden_file("batch_fortran.pickle"), "has \"data\", which is in Fortran order"),
        (
            "a call",
            b"\x80\x02cos\nsystem\nU\x06reboot\x85R.".to_vec(),
            "it names os.system, which is part of no array and never executed",
        ),
        ("a label too many", python_2(&[1, 2, 3], &pixels(2)), "has another number of bytes than its shape says"),
        ("a label out of range", python_2(&[1, 77], &pixels(2)), "d/test_batch (row 1) has label 77"),
        ("no dictionary", b"\x80\x02]q\x01.".to_vec(), "has no list \"labels\""),
        ("no data", b"\x80\x02}(U\x06labels](K\x01eu.".to_vec(), "has \"data\", which is missing or no array"),
        (
            "a label of text",
            b"\x80\x02}(U\x06labels](K\x01U\x01aeu.".to_vec(),
            "(row 1) has an entry of \"labels\" that is no integer",
        ),
        ("4 GiB of nothing", b"\x80\x02}(U\x06labelsT\xff\xff\xff\xff".to_vec(), "it ends here"),
    ];
    for (case, batch, part) in cases {
        let message = pickled(&batch);
        assert!(message.contains("d/test_batch") && message.contains(part), "{case}: {message:?} lacks {part:?}");
    }
}

#[test]
fn pickles_that_recurse_or_grow_end_in_an_error() {
    // A list in itself, marks and references without number, a machine that takes what is not there.
    let hostile: [Vec<u8>; 6] = [
        b"\x80\x02]q\x01h\x01a.".to_vec(),
        [b"\x80\x02}(U\x06labels".to_vec(), b"]q\x01h\x01a".repeat(1000), b"u.".to_vec()].concat(),
        b"(".repeat(100_000),
        [b"\x80\x02Nq\x01".to_vec(), b"h\x01".repeat(2_000_000)].concat(),
        b"\x80\x02tttttt".to_vec(),
        [b"\x80\x02".to_vec(), b"N".repeat(2_000_000)].concat(),
    ];
    for (case, batch) in hostile.iter().enumerate() {
        let message = refusal(described("part = \"test\"", |folder| python(folder, batch)));
        assert!(message.contains("d/test_batch"), "{case}: {message}");
    }
}

#[test]
fn every_cut_of_a_batch_and_many_flipped_bytes_are_an_error_or_a_dataset() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("d");
    let good = python_2(&[6, 9], &pixels(2));
    python(&folder, &good);
    fs::write(folder.join("dataset.toml"), "part = \"test\"").unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    let (head, tail) = (0..420, good.len() - 100..good.len());
    for cut in head.clone().chain(tail.clone()) {
        fs::write(folder.join("test_batch"), &good[..cut]).unwrap();
        assert!(store.get("d").is_err(), "cut at {cut}");
    }
    for at in head.chain(tail) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            fs::write(folder.join("test_batch"), &bytes).unwrap();
            // Whatever comes of it, it comes. A new store, as size and time may be as before.
            drop(DatasetStore::open(&[dir.path().to_owned()]).unwrap().get("d"));
        }
    }
}

#[test]
fn every_cut_of_a_packed_version_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let good = gzip(&tar("cifar-10-batches-bin", &binary()));
    let file = dir.path().join("d.tar.gz");
    fs::write(&file, &good).unwrap();
    let store = DatasetStore::open(&[dir.path().to_owned()]).unwrap();
    assert!(store.get("d").is_ok());
    // The archive's last bytes end nothing that is needed.
    for cut in (0..good.len() - 64).step_by(good.len() / 150) {
        fs::write(&file, &good[..cut]).unwrap();
        let message = store.get("d").expect_err("a cut archive").to_string();
        assert!(message.contains("d.tar.gz"), "cut at {cut}: {message}");
    }
    let mut wrong = tar("cifar-10-batches-bin", &binary());
    wrong[512] ^= 1;
    fs::write(&file, gzip(&wrong)).unwrap();
    assert!(store.get("d").unwrap_err().to_string().contains("a header's checksum is wrong"));
    fs::write(&file, gzip(&tar("holiday", &[]))).unwrap();
    assert!(store.get("d").unwrap_err().to_string().contains("d.tar.gz is laid out as no known dataset"));
}
