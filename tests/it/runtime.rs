use ndarray::{Array2, ArrayD};
use transferscore::runtime::{Carry, Iteration, RuntimeError, TypedArray};

use crate::{
    gradient::model::Model,
    support::{runtime, shared},
};

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
    let outputs = executable.run(&[("x", x.view().into())]).unwrap();
    assert_eq!(outputs[0].view().unwrap().shape(), [3, 10]);
    let narrow = Array2::<f32>::zeros((3, 49)).into_dyn();
    assert!(matches!(executable.run(&[("x", narrow.view().into())]), Err(RuntimeError::Run(_))));
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

#[test]
fn what_one_graph_gives_another_takes_without_leaving_the_runtime() {
    let Some(path) = shared("data/synthetic/reference.onnx") else { return };
    let executable = runtime().compile(std::fs::read(path).unwrap()).unwrap();
    let x = Array2::<f32>::from_elem((3, 50), 0.1).into_dyn();
    let values = executable.run(&[("x", x.view().into())]).unwrap();
    assert_eq!(values[0].name(), executable.outputs()[0].name);
    // The output has ten columns, the input fifty.
    assert!(matches!(executable.run(&[("x", (&values[0]).into())]), Err(RuntimeError::Run(_))));
    let logits =
        runtime().compile(Model::new(17).input("x", "n,10").node("Neg", &["x"], &["y"], &[]).output("y").bytes());
    let negated = logits.unwrap().run(&[("x", (&values[0]).into())]).unwrap();
    assert_eq!(negated[0].view().unwrap(), -&values[0].view().unwrap());
}

#[test]
fn tensors_of_each_type_go_in_and_come_out() {
    let counts = ndarray::arr2(&[[0.0f32, 1.0, 2.0], [3.0, 4.0, 5.0]]).into_dyn();
    let arrays = [
        (1, TypedArray::Float32(counts.clone())),
        (11, TypedArray::Float64(counts.mapv(f64::from))),
        (6, TypedArray::Int32(counts.mapv(|count| count as i32))),
        (7, TypedArray::Int64(counts.mapv(|count| count as i64))),
        (2, TypedArray::Uint8(counts.mapv(|count| count as u8))),
        (9, TypedArray::Bool(counts.mapv(|count| count > 2.0))),
    ];
    for (code, array) in arrays {
        let cast =
            |to: i32| Model::new(17).input("x", "2,3").node("Cast", &["x"], &["y"], &[("to", i64::from(to).into())]);
        let there = runtime().compile(cast(code).output("y").typed("y", code).bytes()).unwrap();
        let threshold = counts.mapv(|count| if code == 9 { f32::from(count > 2.0) } else { count });
        let given = there.run(&[("x", threshold.view().into())]).unwrap();
        assert_eq!(given[0].to_array().unwrap(), array);
        assert_eq!(given[0].view().is_ok(), code == 1);
        let back = runtime().compile(cast(1).output("y").typed("x", code).bytes()).unwrap();
        assert_eq!(back.run(&[("x", (&array).into())]).unwrap()[0].view().unwrap(), threshold);
    }
    // Any order in memory.
    let negate = Model::new(17).input("x", "3,2").node("Neg", &["x"], &["y"], &[]).output("y");
    let negated = runtime().compile(negate.bytes()).unwrap().run(&[("x", counts.t().into())]).unwrap();
    assert_eq!(negated[0].view().unwrap(), -&counts.t());
}

/// s, x → s · x, s · x + x: a geometric and a summed state.
fn recurrence() -> bytes::Bytes {
    Model::new(17)
        .input("s", "1")
        .input("x", "n,2")
        .input("total", "n,2")
        .node("Mul", &["s", "x"], &["next"], &[])
        .node("Add", &["total", "next"], &["next_total"], &[])
        .output("next")
        .output("next_total")
        .bytes()
}

#[test]
fn carried_outputs_become_inputs_and_the_watch_sees_each_run() {
    let executable = runtime().compile(recurrence()).unwrap();
    let (factor, x) = (ArrayD::from_elem(vec![1], 2.0f32), ArrayD::from_shape_fn(vec![3, 2], |at| at[0] as f32 + 1.0));
    let zeros = ArrayD::zeros(x.raw_dim());
    let feeds = [("s", factor.view()), ("x", x.view()), ("total", zeros.view())];
    let carries = [Carry { output: "next", input: "x" }, Carry { output: "next_total", input: "total" }];
    let iterate = |runs, stop_after: usize| {
        let iteration = Iteration { feeds: &feeds, carries: &carries, watched: &["next"], runs };
        let mut seen = Vec::new();
        let last = executable.iterate(&iteration, |watched| {
            seen.push(watched[0][[2, 1]]);
            if seen.len() < stop_after { Ok(()) } else { Err(RuntimeError::Run("stopped".into())) }
        });
        (last, seen)
    };
    let (last, seen) = iterate(4, 9);
    let last = last.unwrap();
    assert_eq!((last[0].clone(), last[1].clone()), (&x * 16.0, &x * 30.0));
    assert_eq!(seen, [6.0, 12.0, 24.0, 48.0]);
    assert_eq!(iterate(0, 9).0.unwrap(), [x.clone(), zeros.clone()]);
    let (stopped, seen) = iterate(4, 2);
    assert_eq!((stopped.unwrap_err().to_string().contains("stopped"), seen.len()), (true, 2));
    // The session goes back to the pool and still works, with other shapes too.
    assert_eq!(iterate(1, 9).0.unwrap()[0], &x * 2.0);
    let wrong = [Carry { output: "next", input: "nope" }];
    let iteration = Iteration { feeds: &feeds, carries: &wrong, watched: &[], runs: 1 };
    assert!(executable.iterate(&iteration, |_| Ok::<(), RuntimeError>(())).is_err());
}
