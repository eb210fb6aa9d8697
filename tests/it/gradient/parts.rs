//! One forward for many backward passes: the pair against the one graph, and what passes between the two.

use transferscore::{
    gradient::{ElementType, Graph, Parts, vjp, vjp_parts},
    runtime::{Executable, Feed, Value},
};

use super::{
    calculus::{Feeds, Random, Values, compile, get, norm, read, run},
    model::{Model, unary},
    networks::residual,
};

/// The gradients of a pair for several sets of cotangents, from one forward run.
pub fn pulled(parts: &Parts, model: &Feeds, cotangents: &[Feeds]) -> (Feeds, Vec<Feeds>) {
    let (forward, backward) = (compile(&parts.forward), compile(&parts.backward));
    let given = forward.run(&array_feeds(&forward, model, &[])).unwrap();
    let gradients = cotangents.iter().map(|cotangents| {
        let feeds: Feeds = cotangents.iter().chain(model).cloned().collect();
        let pulled = backward.run(&array_feeds(&backward, &feeds, &given)).unwrap();
        read(&pulled)
    });
    let gradients = gradients.collect();
    let outputs = given.into_iter().filter(|value| parts.saved.iter().all(|port| port.name != value.name()));
    (read(&outputs.collect::<Vec<_>>()), gradients)
}

/// What a graph takes, from values where there are such, else from arrays.
fn array_feeds<'a>(executable: &'a Executable, arrays: &'a Feeds, values: &'a [Value]) -> Vec<(&'a str, Feed<'a>)> {
    let inputs = executable.inputs().iter().map(|input| input.name.as_str());
    inputs
        .map(|name| match values.iter().find(|value| value.name() == name) {
            Some(value) => (name, value.into()),
            None => (name, get(arrays, name).view().into()),
        })
        .collect()
}

#[test]
fn many_backward_passes_on_one_forward_give_the_gradients_of_the_one_graph() {
    let mut random = Random::new(5);
    let pooled = Model::new(17)
        .input("x", "n,2,6,6")
        .input("scale", "2,1,1")
        .weight("w", &[3, 2, 3, 3])
        .node("Mul", &["x", "scale"], &["scaled"], &[])
        .node("Conv", &["scaled", "w"], &["c"], &[])
        .node("Tanh", &["c"], &["t"], &[])
        .node("MaxPool", &["t"], &["p"], &[("kernel_shape", [2, 2].into())])
        .node("Softmax", &["p"], &["y"], &[("axis", 1.into())])
        .output("y")
        .output("t");
    type Shapes = &'static [(&'static str, &'static [usize])];
    let cases: [(Model, Shapes); 3] = [
        (residual("12,10", "Relu"), &[("x", &[2, 3, 12, 10])]),
        (residual("height,width", "Softplus"), &[("x", &[2, 3, 12, 10])]),
        (pooled, &[("x", &[3, 2, 6, 6]), ("scale", &[2, 1, 1])]),
    ];
    for (model, shapes) in cases {
        let graph = Graph::parse(model.bytes()).unwrap();
        let feeds: Feeds =
            shapes.iter().map(|(name, shape)| ((*name).into(), random.array(shape, Values::AwayFromZero))).collect();
        let clean = run(&compile(&graph), &feeds);
        let cotangents: Vec<Feeds> = (0..3)
            .map(|_| {
                let seeds = clean.iter().map(|(name, value)| {
                    (format!("cotangent/{name}"), random.array(value.shape(), Values::AwayFromZero))
                });
                seeds.collect()
            })
            .collect();
        let whole = compile(&vjp(&graph, &[], &[]).unwrap());
        let (outputs, gradients) = pulled(&vjp_parts(&graph, &[], &[]).unwrap(), &feeds, &cotangents);
        for (name, value) in &clean {
            assert!(norm(&(value - get(&outputs, name))) <= 1e-6 * norm(value), "{name}");
        }
        for (cotangents, gradients) in cotangents.iter().zip(&gradients) {
            let expected = run(&whole, &feeds.iter().chain(cotangents).cloned().collect());
            for (name, _) in shapes {
                let name = format!("gradient/{name}");
                let (expected, found) = (get(&expected, &name), get(gradients, &name));
                assert!(norm(&(expected - found)) <= 1e-6 * norm(expected), "{name}: {found} is not {expected}");
            }
        }
    }
}

/// The element types of what passes, and the operators that the backward graph repeats or makes.
fn passing(model: &Model) -> (Vec<ElementType>, Vec<(String, usize)>) {
    let parts = vjp_parts(&Graph::parse(model.bytes()).unwrap(), &[], &[]).unwrap();
    let types = parts.saved.iter().map(|port| port.value_type.as_ref().unwrap().element).collect();
    (types, parts.backward.operator_counts())
}

#[test]
fn as_few_bytes_pass_as_the_derivative_allows() {
    let chain = |op: &'static str| {
        Model::new(20)
            .input("x", "n,32")
            .weight("a", &[32, 64])
            .weight("b", &[64, 8])
            .node("MatMul", &["x", "a"], &["h"], &[])
            .node(op, &["h"], &["r"], &[])
            .node("MatMul", &["r", "b"], &["y"], &[])
            .output("y")
    };
    use ElementType::Float32;
    // A Relu leaves its mask, smooth functions leave their slope, each computed once.
    for op in ["Relu", "Sigmoid", "Gelu", "Tanh"] {
        let (types, operators) = passing(&chain(op));
        assert_eq!(types, [Float32], "{op}");
        assert_eq!(operators.iter().find(|(op, _)| op == "Mul"), Some(&("Mul".to_owned(), 1)), "{op}");
    }
    // What is an input or an output of the model passes under its own name.
    let (types, _) = passing(&unary("Exp", "n,5", &[]));
    assert_eq!(types, []);
    // An affine model needs nothing.
    let (types, operators) = passing(&chain("Identity"));
    assert_eq!(types, []);
    assert!(operators.contains(&("MatMul".to_owned(), 2)), "{operators:?}");
}

#[test]
fn an_output_that_does_not_depend_on_an_input_has_zero_gradients() {
    let model = Model::new(13).input("x", "n,4").input("z", "n,3").node("Exp", &["x"], &["y"], &[]).output("y");
    let parts = vjp_parts(&Graph::parse(model.bytes()).unwrap(), &[], &[]).unwrap();
    let feeds: Feeds = [("x", [2, 4]), ("z", [2, 3])]
        .map(|(name, shape)| (name.into(), Random::new(1).array(&shape, Values::Positive)))
        .into();
    let cotangents: Feeds = vec![("cotangent/y".into(), Random::new(2).array(&[2, 4], Values::Positive))];
    let (_, gradients) = pulled(&parts, &feeds, &[cotangents]);
    assert_eq!(get(&gradients[0], "gradient/z").shape(), [2, 3]);
    assert_eq!(norm(get(&gradients[0], "gradient/z")), 0.0);
}
