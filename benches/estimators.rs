//! Times the estimators of transferability on arrays from files.
//!
//! `cargo bench --bench estimators -- FOLDER [NAME]...` reads `features`, `source_probabilities` (f64) and
//! `labels` (u32), little-endian and row-major, from FOLDER with `shape`, the text "N D S"; without FOLDER it makes N = 10,000,
//! D = 2,048, S = 1,000 and 100 classes of its own. It prints a JSON line: seconds and value of each estimator in the order in
//! which they were computed, so that the first one that needs a factorisation pays for it, and the seconds in all.
//! benches/peers/estimators.py compares them with the field's own functions.

#![allow(missing_docs, reason = "a program")]

use std::{path::Path, time::Instant};

use ndarray::Array2;
use transferscore::{
    knowledge::{Estimator, Task, TaskOptions, class_probabilities},
    stats::{Confidence, Purpose, Resamples, standard_normal, stream},
};

/// What is measured on.
struct Arrays {
    features: Array2<f64>,
    source_probabilities: Array2<f64>,
    labels: Vec<u32>,
}

fn main() {
    // Cargo adds --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let folder = arguments.first().filter(|argument| Path::new(argument).is_dir());
    let names: Vec<&String> = arguments.iter().skip(usize::from(folder.is_some())).collect();
    let arrays = folder.map_or_else(made, |folder| read(Path::new(folder)));
    let resamples = Resamples::new(arrays.labels.len(), Confidence { level: 0.95, resamples: 1_000 }, 1)
        .expect("settings in range");
    let start = Instant::now();
    let task = Task::new(
        arrays.features.view(),
        Some(&arrays.labels),
        None,
        Some(arrays.source_probabilities),
        TaskOptions { seed: 1, n_neighbors: 5 },
        &resamples,
    )
    .expect("sound arrays");
    let mut lines = Vec::new();
    for estimator in Estimator::all() {
        let name = estimator.path().trim_start_matches("knowledge.");
        if !names.is_empty() && !names.iter().any(|asked| *asked == name) {
            continue;
        }
        let start = Instant::now();
        let value = estimator.score(&task).expect("a value").value();
        lines.push(format!(r#""{name}": {{"seconds": {:.4}, "value": {value}}}"#, start.elapsed().as_secs_f64()));
    }
    println!(r#"{{"seconds": {:.4}, "estimators": {{{}}}}}"#, start.elapsed().as_secs_f64(), lines.join(", "));
}

fn read(folder: &Path) -> Arrays {
    let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let shape: Vec<usize> = String::from_utf8_lossy(&bytes("shape"))
        .split_whitespace()
        .map(|size| size.parse().expect("three numbers"))
        .collect();
    let [n, d, s] = shape[..] else { panic!("shape holds N, D and S") };
    let matrix = |name: &str, columns: usize| {
        let numbers = bytes(name).as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        Array2::from_shape_vec((n, columns), numbers).expect("the shape's numbers")
    };
    Arrays {
        features: matrix("features", d),
        source_probabilities: matrix("source_probabilities", s),
        labels: bytes("labels").as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect(),
    }
}

fn made() -> Arrays {
    const CLASSES: usize = 100;
    let (n, d, s) = (10_000, 2_048, 1_000);
    let mut rng = stream(1, Purpose::Subsample, 0);
    let centres = Array2::from_shape_simple_fn((CLASSES, d), || 0.3 * standard_normal(&mut rng));
    let labels: Vec<u32> = (0..n).map(|sample| (sample % CLASSES) as u32).collect();
    let mut features = Array2::from_shape_simple_fn((n, d), || standard_normal(&mut rng));
    for (mut row, &label) in features.rows_mut().into_iter().zip(&labels) {
        row += &centres.row(label as usize);
    }
    let outputs = Array2::from_shape_simple_fn((n, s), || 2.0 * standard_normal(&mut rng));
    Arrays { features, source_probabilities: class_probabilities(outputs.view()), labels }
}
