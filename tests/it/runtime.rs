use ndarray::Array2;
use transferscore::runtime::RuntimeError;

use crate::support::{runtime, shared};

#[test]
fn garbage_is_refused_with_a_reason() {
    let error = runtime().compile(&b"not a model"[..]).err().expect("garbage is no model");
    assert!(matches!(error, RuntimeError::Model(_)), "{error}");
}

#[test]
fn a_missing_library_says_what_mends_it() {
    let error = transferscore::runtime::Runtime::load("/nowhere/libonnxruntime.so".as_ref(), 1).err();
    // The process may already hold a library; then the path is not looked at.
    if let Some(error) = error {
        assert!(error.to_string().contains("make setup"), "{error}");
    }
}

#[test]
fn a_model_runs_and_a_wrong_shape_is_an_error() {
    let Some(path) = shared("data/synthetic/reference.onnx") else { return };
    let executable = runtime().compile(std::fs::read(path).unwrap()).unwrap();
    let x = Array2::<f32>::zeros((3, 50)).into_dyn();
    let outputs = executable.run(&[("x", x.view())]).unwrap();
    assert_eq!(outputs[0].shape(), [3, 10]);
    let narrow = Array2::<f32>::zeros((3, 49)).into_dyn();
    assert!(matches!(executable.run(&[("x", narrow.view())]), Err(RuntimeError::Run(_))));
}

#[test]
fn results_come_in_the_order_of_the_pieces_and_the_first_error_wins() {
    let runtime = runtime();
    let pieces: Vec<usize> = (0..100).collect();
    let mut seen = Vec::new();
    let double = |piece: &usize| Ok::<_, String>(piece * 2);
    runtime
        .workers()
        .in_order(&pieces, 7, double, |value| {
            seen.push(value);
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, pieces.iter().map(|piece| piece * 2).collect::<Vec<_>>());
    let fail_late = |piece: &usize| if *piece < 3 { Ok(()) } else { Err(format!("{piece}")) };
    assert_eq!(runtime.workers().in_order(&pieces, 50, fail_late, |()| Ok(())), Err("3".to_owned()));
}
