//! `transferscore measure`, and what `benches/gpu.sh` does without a graphics card and without PyTorch.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::{
    cli::{run, text},
    server_process::repository,
    support,
};

/// What makes the command find ONNX Runtime and what is bundled.
fn places() -> Vec<String> {
    let folder = |path: &str| repository(path).display().to_string();
    let library = support::library().display().to_string();
    let places = ["--models", &folder("models"), "--datasets", &folder("models/datasets"), "--onnxruntime", &library];
    places.map(str::to_owned).to_vec()
}

fn measure(arguments: &[&str]) -> Output {
    let places = places();
    let fixed = ["measure", "digits-50", "--dataset", "digits", "--samples", "70"];
    run(&[&fixed[..], arguments, &places.iter().map(String::as_str).collect::<Vec<_>>()].concat())
}

fn lines(output: &[u8]) -> Vec<serde_json::Value> {
    text(output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn measurements_are_a_table_for_people() {
    let output = measure(&["--rounds", "2", "--steps", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for words in ["samples a second", "gradient", "attack, 2 steps", "70", "64", "CPUExecutionProvider"] {
        assert!(table.contains(words), "nothing of {words:?}:\n{table}");
    }
}

#[test]
fn measurements_are_lines_of_json_for_programs() {
    let output = measure(&["--rounds", "3", "--work", "gradient", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines = lines(&output.stdout);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!((&lines[0]["samples"], &lines[0]["tile"], &lines[0]["steps"]), (&70.into(), &64.into(), &10.into()));
    assert_eq!(lines[0]["readings"]["gradient"].as_array().map(Vec::len), Some(8));
    assert!(lines[0]["readings"].get("attack").is_none());
    for line in &lines[1..] {
        assert!(line["work"] == "gradient" && line["seconds"][0].as_f64() > Some(0.0), "{line}");
    }
}

#[test]
fn on_request_it_works_as_often_and_on_as_many_samples_as_it_is_told() {
    let ask = |requests: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_transferscore"))
            .args(["measure", "digits-50", "--dataset", "digits", "--samples", "70", "--steps", "2", "--on-request"])
            .args(places())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().expect("a pipe").write_all(requests.as_bytes()).expect("it listens");
        child.wait_with_output().expect("it ends")
    };
    let output = ask("attack 3\ngradient 2 16\ngradient\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let answers = lines(&output.stdout);
    let counts: Vec<_> = answers[1..].iter().map(|answer| answer["seconds"].as_array().map(Vec::len)).collect();
    assert_eq!(counts, [Some(3), Some(2), Some(1)]);
    assert_eq!(answers[1]["work"], "attack");

    for (request, code, words) in [
        ("rank 1\n", 2, "\"rank 1\" is no request; give gradient or attack [TIMES [SAMPLES]]"),
        ("gradient 1 1000000\n", 1, "1000000 samples of `digits`; give 1 to"),
    ] {
        let output = ask(request);
        let errors = text(&output.stderr);
        assert_eq!((output.status.code(), errors.lines().count()), (Some(code), 1), "{errors}");
        assert!(errors.contains(words), "{errors}");
        assert_eq!(lines(&output.stdout).len(), 1, "ready, then refused");
    }
}

fn python(arguments: &[&str]) -> Output {
    Command::new("python3").args(arguments).current_dir(repository("benches/gpu")).output().expect("Python")
}

#[test]
fn what_the_measurements_on_graphics_cards_are_made_of_works() {
    let output = python(&["-B", "test_gpu.py"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn files_written_without_packages_are_models_and_datasets() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = "
import onnx_file, struct, sys
graph = onnx_file.Graph()
numbers = lambda n: struct.pack(f'<{n}f', *((i * 7 % 11 - 5) / 8 for i in range(n)))
weights, bias = graph.constant([4, 3, 3, 3], numbers(108)), graph.constant([4], numbers(4))
x = graph.apply('Conv', 'x', weights, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1], group=1)
x = graph.apply('Reshape', graph.apply('Relu', x), graph.integers(0, 4, -1))
x = graph.apply('LayerNormalization', x, graph.constant([16], numbers(16)), axis=-1, epsilon=0.5)
x = graph.apply('Softmax', graph.apply('Transpose', x, perm=[0, 2, 1]), axis=-1)
graph.apply('Flatten', x, output='y')
graph.write(sys.argv[1] + '/written.onnx', [('x', ['batch', 3, 4, 4])], [('y', ['batch', 64])])
onnx_file.write_npz(sys.argv[1] + '/pictures.npz', 'x', [9, 3, 4, 4], struct.pack('<432f', *(i % 11 / 16 for i in range(432))))
";
    let path = |name: &str| folder.path().join(name).display().to_string();
    let output = python(&["-B", "-c", write, &folder.path().display().to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let library = support::library().display().to_string();
    let checked = run(&["check", &path("written.onnx"), "--verify", "--onnxruntime", &library]);
    assert_eq!(checked.status.code(), Some(0), "{}{}", text(&checked.stdout), text(&checked.stderr));
    let folder = folder.path().display().to_string();
    let listed = run(&["datasets", "--models", &folder, "--datasets", &folder, "--onnxruntime", &library]);
    assert!(text(&listed.stdout).contains("3x4x4"), "{}", text(&listed.stdout));
}

/// Runs the script with a PyTorch that says what it is told to.
fn script(torch: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("torch")).expect("a folder");
    std::fs::write(folder.path().join("torch/__init__.py"), torch).expect("a file");
    let mut command = Command::new(repository("benches/gpu.sh"));
    command.args(arguments).env("PYTHONPATH", folder.path()).env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHON");
    let output = command.current_dir(folder.path()).output().expect("the script runs");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    (output.status.code(), text(&output.stderr))
}

/// A PyTorch in name only.
fn torch(sees_card: &str) -> String {
    format!(
        "class cuda:\n    is_available = lambda: {sees_card}\nclass version:\n    cuda = '13.0'\n\
         class backends:\n    class cudnn:\n        version = lambda: 91900\n__version__ = '0'\n"
    )
}

#[test]
fn the_script_refuses_in_one_line_where_it_cannot_begin() {
    let binary = env!("CARGO_BIN_EXE_transferscore");
    let without_card = torch("False");
    let with_card = torch("True");
    let empty = tempfile::tempdir().expect("a folder");
    let empty = empty.path().display().to_string();
    let on_processor = tempfile::tempdir().expect("a folder");
    std::fs::write(on_processor.path().join("libonnxruntime.so.1.31.1"), "").expect("a file");
    let on_processor = on_processor.path().display().to_string();
    for (torch, arguments, words) in [
        ("raise ImportError('not for this system')", &[][..], "no working PyTorch (ImportError: not for this system)"),
        (&without_card, &[], "PyTorch sees no NVIDIA graphics card here"),
        (&without_card, &["--device", "cpu", "--transferscore", "/nowhere/at-all"], "no program there"),
        (
            &without_card,
            &["--device", "cpu", "--transferscore", binary, "--onnxruntime", &empty],
            "no ONNX Runtime library there",
        ),
        (
            &with_card,
            &["--transferscore", binary, "--onnxruntime", &on_processor],
            "has no libonnxruntime_providers_cuda.so; fill it with `make setup DEVICE=cuda`",
        ),
    ] {
        let (code, errors) = script(torch, arguments);
        assert_eq!((code, errors.lines().count()), (Some(2), 1), "{arguments:?}: {errors}");
        assert!(errors.starts_with("error: ") && errors.contains(words), "{arguments:?}: {errors}");
    }
    let (code, errors) = script(&with_card, &["--batches", "none"]);
    assert!(code == Some(2) && errors.contains("--batches"), "{errors}");
}

#[test]
fn the_script_names_the_python_that_is_not_there() {
    let mut command = Command::new(repository("benches/gpu.sh"));
    let output = command.env("PYTHON", Path::new("/nowhere/python")).output().expect("the script runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "error: there is no /nowhere/python; name a Python that has PyTorch with PYTHON=...\n"
    );
}
