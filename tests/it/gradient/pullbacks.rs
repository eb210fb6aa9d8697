//! Gradient graphs that models bring, against those that are derived of another form of the same model.

use ndarray::ArrayD;
use transferscore::{
    gradient::{
        ElementType, GradientError, Graph, Loss, Tensor, check,
        compose::{self, Accumulated, Head, Norm},
        cut_at, jvp, vjp, vjp_parts,
    },
    verify::{Given, verify},
};

use super::{
    attack_step::prepared,
    calculus::{Feeds, Random, Values, compile, get, norm, run},
    model::{Model, unary},
    parts::pulled,
};
use crate::support::runtime;

/// A network of images with four outputs that has a determinant of 2 x 2 in it, as an operator that has no derivative here,
/// or multiplied out.
pub fn network(image: [i64; 3], multiplied_out: bool) -> Model {
    let [channels, height, width] = image;
    let model = Model::new(17)
        .input("x", &format!("n,{channels},{height},{width}"))
        .weight("w", &[4, channels, height, width])
        .weight("u", &[4, 4])
        .weight("v", &[1, 4])
        .integers("matrix", &[-1, 2, 2])
        .integers("column", &[-1, 1])
        .node("Conv", &["x", "w"], &["c"], &[])
        .node("Tanh", &["c"], &["t"], &[])
        .node("Flatten", &["t"], &["f"], &[]);
    let model = match multiplied_out {
        false => model.node("Reshape", &["f", "matrix"], &["m"], &[]).node("Det", &["m"], &["d"], &[]).node(
            "Reshape",
            &["d", "column"],
            &["z"],
            &[],
        ),
        true => model
            .node("Split", &["f"], &["p", "q", "r", "s"], &[("axis", 1.into())])
            .node("Mul", &["p", "s"], &["ps"], &[])
            .node("Mul", &["q", "r"], &["qr"], &[])
            .node("Sub", &["ps", "qr"], &["z"], &[]),
    };
    model
        .node("MatMul", &["z", "v"], &["zv"], &[])
        .node("MatMul", &["f", "u"], &["fu"], &[])
        .node("Add", &["zv", "fu"], &["y"], &[])
        .output("y")
}

fn parsed(model: &Model) -> Graph {
    Graph::parse(model.bytes()).unwrap()
}

/// A gradient graph as it is in a file.
fn filed(graph: &Graph) -> Graph {
    Graph::parse(graph.to_onnx().into()).unwrap()
}

/// A network with a determinant and the gradient graph of the other form, and that form.
fn pair() -> [Graph; 2] {
    let twin = parsed(&network([2, 3, 3], true));
    let own = filed(&vjp(&twin, &[], &[]).unwrap());
    [parsed(&network([2, 3, 3], false)).with_pullback(own).unwrap(), twin]
}

#[track_caller]
fn agree(found: &Feeds, expected: &Feeds) {
    assert!(!expected.is_empty());
    for (name, expected) in expected {
        let found = get(found, name);
        assert!(
            norm(expected) > 1e-3 && norm(&(found - expected)) <= 1e-5 * norm(expected),
            "{name}: {found} {expected}"
        );
    }
}

#[test]
fn derivatives_go_through_what_a_model_brings() {
    let [with_own, twin] = pair().map(|graph| prepared(&graph));
    let mut random = Random::new(3);
    let mut array = |shape: &[usize]| random.array(shape, Values::AwayFromZero);
    let x = array(&[3, 2, 4, 4]);
    let feeds: Feeds = vec![
        ("x".into(), x.clone()),
        ("cotangent/y".into(), array(&[3, 4])),
        ("tangent/x".into(), array(&[3, 2, 4, 4])),
    ];
    let both = |derive: &dyn Fn(&Graph) -> Graph, feeds: &Feeds| {
        let derived = derive(&with_own);
        assert!(!derived.has_pullback());
        agree(&run(&compile(&filed(&derived)), feeds), &run(&compile(&derive(&twin)), feeds));
    };
    both(&|graph| vjp(graph, &[], &[]).unwrap(), &feeds);
    both(&|graph| jvp(graph, &[], &[]).unwrap(), &feeds);
    let in_parts = |graph: &Graph| {
        let parts = vjp_parts(graph, &["x"], &["y"]).unwrap();
        pulled(&parts, &vec![("x".into(), x.clone())], &[vec![feeds[1].clone()]]).1.remove(0)
    };
    agree(&in_parts(&with_own), &in_parts(&twin));

    let number = |value: f32| ArrayD::from_elem(vec![1], value);
    let mut feeds: Feeds = vec![
        ("x".into(), x.clone()),
        ("clean/x".into(), x.clone()),
        ("momentum/x".into(), ArrayD::zeros(x.raw_dim())),
        ("target/y".into(), array(&[3, 4])),
    ];
    let settings = [("epsilon", 0.1), ("step", 0.02), ("decay", 0.5), ("low", -9.0), ("high", 9.0)];
    feeds.extend(settings.map(|(name, value)| (format!("attack/{name}"), number(value))));
    let step = |graph: &Graph| {
        compose::attack_step(graph, "x", "y", Loss::SquaredDeviation, Norm::L2, Accumulated::Gradients).unwrap()
    };
    both(&step, &feeds);
}

#[test]
fn a_model_that_brings_its_gradient_has_no_obstacle() {
    let [with_own, _] = pair();
    let without = parsed(&network([2, 3, 3], false));
    assert_eq!(check(&without).iter().map(|obstacle| obstacle.operator.as_str()).collect::<Vec<_>>(), ["Det"]);
    assert_eq!(check(&with_own), []);
    assert_eq!(check(&prepared(&with_own)), []);
}

#[test]
fn derivatives_within_the_model_are_its_operators_own() {
    let twin = parsed(&network([2, 3, 3], true));
    let wrong = parsed(&twice());
    let model = twin.clone().with_pullback(wrong).unwrap();
    let feeds: Feeds = vec![
        ("x".into(), Random::new(4).array(&[2, 2, 3, 3], Values::AwayFromZero)),
        ("cotangent/y".into(), Random::new(5).array(&[2, 4], Values::AwayFromZero)),
        ("cotangent/f".into(), Random::new(6).array(&[2, 4], Values::AwayFromZero)),
    ];
    let of = |graph: &Graph, outputs: &[&str]| {
        let exposed = compose::with_outputs(graph, outputs).unwrap();
        get(&run(&compile(&vjp(&exposed, &["x"], outputs).unwrap()), &feeds), "gradient/x").clone()
    };
    // What it says is taken, and for the features the operators.
    assert!(norm(&(of(&model, &["y"]) - of(&twin, &["y"]) * 2.0)) < 1e-5 * norm(&of(&model, &["y"])));
    assert_eq!(of(&model, &["f"]), of(&twin, &["f"]));
    assert_eq!(of(&model, &["y", "f"]), of(&twin, &["y", "f"]));
    // And for the weights.
    let by_weight = |graph: &Graph| {
        let cut = cut_at(graph, &["u"]).unwrap();
        let mut feeds = feeds.clone();
        feeds.push(("u".into(), Random::new(7).array(&[4, 4], Values::AwayFromZero)));
        get(&run(&compile(&vjp(&cut, &["u"], &["y"]).unwrap()), &feeds), "gradient/u").clone()
    };
    assert_eq!(by_weight(&model), by_weight(&twin));
    // A model with another head, or other weights, is another model, and so is one that takes a weight.
    assert!(!cut_at(&model, &["u"]).unwrap().has_pullback() && cut_at(&model, &["x"]).unwrap().has_pullback());
    let zeros = |dims: &[u64]| {
        Tensor::from_floats(ElementType::Float32, dims.to_vec(), &vec![0.0; dims.iter().product::<u64>() as usize])
            .unwrap()
    };
    let head = Head { weight: zeros(&[4, 4]), bias: zeros(&[4]) };
    assert!(!compose::with_head(&model, "f", "y", &head).unwrap().0.has_pullback());
    let u = twin.constant("u").unwrap().clone();
    assert!(!model.with_constants([("u".to_owned(), u)]).unwrap().has_pullback());
}

/// The gradient graph of the network, whose gradient is twice what it should be.
fn twice() -> Model {
    let right = vjp(&parsed(&network([2, 3, 3], true)), &[], &[]).unwrap().to_onnx();
    let mut model = Model { proto: prost::Message::decode(right.as_slice()).unwrap() };
    let graph = model.graph();
    for output in graph.node.iter_mut().flat_map(|node| &mut node.output).filter(|name| *name == "gradient/x") {
        *output = "half".into();
    }
    model.node("Add", &["half", "half"], &["gradient/x"], &[])
}

#[test]
fn wrong_gradients_are_told_by_finite_differences() {
    let [with_own, twin] = pair();
    let measured = |graph: &Graph| verify(&runtime(), graph, &Given::new(), 1).unwrap();
    let right = measured(&with_own);
    assert!(right.passes() && right.worst() > 0.0, "{right:?}");
    let wrong = measured(&twin.with_pullback(parsed(&twice())).unwrap());
    assert!(!wrong.passes() && wrong.worst() > 0.4, "{wrong:?}");
}

/// Forward mode differentiates the gradient graph by its cotangent, which it cannot here.
#[test]
fn a_gradient_that_has_no_adjoint_serves_reverse_mode() {
    let model = parsed(&unary("Det", "n,2,2", &[])).with_pullback(parsed(&by_branch())).unwrap();
    let refused = jvp(&model, &[], &[]).unwrap_err();
    assert!(refused.to_string().contains("in the model's own gradient graph"), "{refused}");
    assert!(matches!(refused, GradientError::NotDifferentiable { ref operator, .. } if operator == "If"), "{refused}");
    let measured = verify(&runtime(), &model, &Given::new(), 2).unwrap();
    assert!(measured.passes() && measured.agreements[0].tangent_error == 0.0, "{measured:?}");
}

/// The gradient of a determinant of 2 x 2, its cotangent passed on by a branch.
fn by_branch() -> Model {
    let branch = |name: &'static str| {
        let mut branch = Model::new(17).node("Identity", &["wide"], &[name], &[]).output(name);
        branch.graph().clone()
    };
    Model::new(17)
        .input("x", "n,2,2")
        .input("cotangent/y", "n")
        .integers("flat", &[-1, 4])
        .integers("square", &[-1, 2, 2])
        .integers("column", &[-1, 1])
        .integers("order", &[3, 2, 1, 0])
        .floats("signs", &[4], &[1.0, -1.0, -1.0, 1.0])
        .floats("zero", &[], &[0.0])
        .node("Det", &["x"], &["y"], &[])
        .node("Reshape", &["x", "flat"], &["f"], &[])
        .node("Gather", &["f", "order"], &["g"], &[("axis", 1.into())])
        .node("Mul", &["g", "signs"], &["a"], &[])
        .node("Reshape", &["cotangent/y", "column"], &["wide"], &[])
        .node("ReduceSum", &["x"], &["sum"], &[("keepdims", 0.into())])
        .node("Greater", &["sum", "zero"], &["is"], &[])
        .node(
            "If",
            &["is"],
            &["c"],
            &[
                ("then_branch", super::model::Value::Graph(branch("yes"))),
                ("else_branch", super::model::Value::Graph(branch("no"))),
            ],
        )
        .node("Mul", &["a", "c"], &["ga"], &[])
        .node("Reshape", &["ga", "square"], &["gradient/x"], &[])
        .output("y")
        .output("gradient/x")
}

#[test]
fn graphs_that_break_the_contract_are_refused() {
    let square = || unary("Mul", "n,2", &[]);
    let model = || {
        let mut model = square();
        model.graph().node[0].input.push("x".into());
        parsed(&model)
    };
    let own = |inputs: &[(&str, &str)], outputs: &[(&'static str, &'static str)]| {
        let mut graph = Model::new(17);
        for (name, shape) in inputs {
            graph = graph.input(name, shape);
        }
        for (output, from) in outputs {
            graph = graph.node("Identity", &[from], &[output], &[]).output(output);
        }
        parsed(&graph)
    };
    let (x, cotangent) = (("x", "n,2"), ("cotangent/y", "n,2"));
    let cases = [
        (own(&[x, cotangent, ("z", "n")], &[("y", "x"), ("gradient/x", "x")]), "takes `z`"),
        (own(&[x, ("cotangent/z", "n")], &[("y", "x"), ("gradient/x", "x")]), "takes `cotangent/z`"),
        (own(&[x, cotangent], &[("y", "x"), ("gradient/z", "x")]), "gives `gradient/z`"),
        (own(&[x, cotangent], &[("y", "x")]), "no `cotangent/<output>` among its inputs, or no `gradient/<input>`"),
        (own(&[x], &[("y", "x"), ("gradient/x", "x")]), "no `cotangent/<output>`"),
        (own(&[x, cotangent], &[("gradient/x", "x")]), "does not give the model's output `y`"),
        (own(&[("x", "n,3"), cotangent], &[("y", "cotangent/y"), ("gradient/x", "x")]), "`x` of float32[n, 3]"),
        (own(&[x, ("cotangent/y", "n")], &[("y", "x"), ("gradient/x", "x")]), "`cotangent/y` of float32[n]"),
    ];
    for (own, problem) in cases {
        let error = model().with_pullback(own).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
