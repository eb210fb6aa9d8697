//! Recurrent layers in the forms that files use.

use transferscore::gradient::{Graph, vjp};

use super::{
    calculus::{Case, check},
    model::{Model, Value},
    operators::{check_all, smooth},
};

const STEPS: usize = 4;
const BATCH: usize = 2;

/// Which optional inputs a case gives.
#[derive(Clone, Copy, Default)]
struct Inputs {
    bias: bool,
    lengths: Option<&'static [i64]>,
    state: bool,
    peepholes: bool,
}

fn layer(op: &'static str, inputs: Inputs, attributes: &[(&str, Value)], outputs: &[&str]) -> (&'static str, Case) {
    let (gates, hidden, features) = (
        match op {
            "LSTM" => 4,
            "GRU" => 3,
            _ => 1,
        },
        3,
        2,
    );
    let is = |text: &str| attributes.iter().any(|(_, value)| matches!(value, Value::Text(value) if *value == text));
    let directions = if is("bidirectional") { 2 } else { 1 };
    let mut model = Model::new(14)
        .input("x", "4,n,2")
        .weight("w", &[directions, gates * hidden, features])
        .weight("r", &[directions, gates * hidden, hidden]);
    let mut names = vec!["x", "w", "r", "", "", "", "", ""];
    let mut shapes: Vec<Vec<usize>> = vec![vec![STEPS, BATCH, 2]];
    if inputs.bias {
        model = model.weight("b", &[directions, 2 * gates * hidden]);
        names[3] = "b";
    }
    if let Some(lengths) = inputs.lengths {
        model = model.integers("long", lengths).node("Cast", &["long"], &["l"], &[("to", 6.into())]);
        names[4] = "l";
    }
    if inputs.state {
        let states: &[&str] = if op == "LSTM" { &["h", "c"] } else { &["h"] };
        for (index, name) in states.iter().enumerate() {
            model = model.input(name, &format!("{directions},n,3"));
            names[5 + index] = name;
            shapes.push(vec![directions as usize, BATCH, 3]);
        }
    }
    if inputs.peepholes {
        model = model.weight("p", &[directions, 3 * hidden]);
        names[7] = "p";
    }
    while names.last() == Some(&"") {
        names.pop();
    }
    if attributes.iter().any(|(name, _)| *name == "clip") {
        // Inputs that move little, so that few steps cross a bound.
        model = model
            .weight("base", &[4, 1, 2])
            .floats("little", &[], &[0.3])
            .node("Mul", &["x", "little"], &["small"], &[])
            .node("Add", &["base", "small"], &["moved"], &[]);
        names[0] = "moved";
    }
    let mut all: Vec<(&str, Value)> = attributes.to_vec();
    all.push(("hidden_size", hidden.into()));
    model = model.node(op, &names, outputs, &all);
    for output in outputs.iter().filter(|name| !name.is_empty()) {
        model = model.output(output);
    }
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    (op, smooth(model, &shapes))
}

pub fn cases() -> Vec<(&'static str, Case)> {
    let mut cases = Vec::new();
    let full = Inputs { bias: true, state: true, ..Default::default() };
    for op in ["LSTM", "GRU", "RNN"] {
        let outputs: &[&str] = if op == "LSTM" { &["y", "yh", "yc"] } else { &["y", "yh"] };
        cases.push(layer(op, Inputs::default(), &[], &["y"]));
        cases.push(layer(op, full, &[], &["", "yh"]));
        for direction in ["forward", "reverse", "bidirectional"] {
            let attributes = [("direction", direction.into())];
            cases.push(layer(op, full, &attributes, outputs));
            let shorter = Inputs { lengths: Some(&[2, 4]), ..full };
            cases.push(layer(op, shorter, &attributes, outputs));
        }
        cases.push(layer(op, Inputs { lengths: Some(&[4, 4]), ..full }, &[], outputs));
    }
    let peepholes = Inputs { peepholes: true, ..full };
    cases.push(layer("LSTM", peepholes, &[], &["y", "yh", "yc"]));
    cases.push(layer("LSTM", full, &[("input_forget", 1.into())], &["y"]));
    for direction in ["forward", "bidirectional"] {
        let reset = [("linear_before_reset", 1.into()), ("direction", direction.into())];
        cases.push(layer("GRU", full, &reset, &["y", "yh"]));
        cases.push(layer("GRU", Inputs::default(), &reset, &["y", "yh"]));
    }
    let named = |names: &[&'static str]| ("activations", Value::Texts(names.to_vec()));
    cases.push(layer("LSTM", full, &[named(&["HardSigmoid", "Softsign", "Tanh"])], &["y"]));
    cases.push(layer("GRU", full, &[named(&["Sigmoid", "Elu"])], &["y"]));
    cases.push(layer("RNN", full, &[named(&["Softplus"])], &["y"]));
    let parameters: [(&str, Value); 4] = [
        named(&["ScaledTanh", "Affine"]),
        ("activation_alpha", Value::Floats(vec![0.7, 0.4])),
        ("activation_beta", Value::Floats(vec![0.6, 0.1])),
        ("direction", "bidirectional".into()),
    ];
    cases.push(layer("RNN", full, &parameters, &["y"]));
    cases
}

#[test]
fn recurrent_layers_satisfy_calculus() {
    check_all(cases());
}

/// A step across a bound spoils the difference, so a few of the bounds may; a wrong derivative fails for all.
#[test]
fn clipped_layers_satisfy_calculus() {
    for (op, peepholes) in [("LSTM", true), ("LSTM", false), ("GRU", false), ("RNN", false)] {
        for direction in ["forward", "reverse", "bidirectional"] {
            let inputs = Inputs { bias: true, peepholes, ..Default::default() };
            let failure = |bound: f32| {
                let attributes = [("direction", direction.into()), ("clip", bound.into())];
                check(&layer(op, inputs, &attributes, &["y", "yh"]).1).err()
            };
            let failures: Vec<String> = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7].into_iter().filter_map(failure).collect();
            assert!(failures.len() < 3, "{op}, {direction}: {}", failures.join("\n"));
        }
    }
}

/// What cannot be written out step by step says so.
#[test]
fn unknown_lengths_are_refused() {
    let model = Model::new(14)
        .input("x", "t,n,2")
        .weight("w", &[1, 3, 2])
        .weight("r", &[1, 3, 3])
        .node("RNN", &["x", "w", "r"], &["y"], &[("hidden_size", 3.into())])
        .output("y");
    let graph = Graph::parse(model.bytes()).unwrap();
    let error = vjp(&graph, &[], &[]).unwrap_err().to_string();
    assert!(error.contains("fixed sequence length"), "{error}");
}
