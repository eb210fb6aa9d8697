//! Einstein summation, and products with every rank and flag.

use transferscore::gradient::{Graph, vjp};

use super::{
    calculus::{Case, Feeds, Random, Values, compile, get, norm, run},
    model::{Model, binary},
    operators::{affine, smooth},
};

/// Operands x0, x1, … → Einsum → y.
fn einsum(equation: &'static str, shapes: &[(&str, &[usize])]) -> (&'static str, Case) {
    let mut model = Model::new(13);
    let names: Vec<String> = (0..shapes.len()).map(|index| format!("x{index}")).collect();
    for (name, (shape, _)) in names.iter().zip(shapes) {
        model = model.input(name, shape);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sizes: Vec<&[usize]> = shapes.iter().map(|(_, size)| *size).collect();
    let model = model.node("Einsum", &names, &["y"], &[("equation", equation.into())]).output("y");
    ("Einsum", if shapes.len() == 1 { affine(model, &sizes) } else { smooth(model, &sizes) })
}

fn sums() -> Vec<(&'static str, Case)> {
    vec![
        einsum("ij,jk->ik", &[("n,4", &[3, 4]), ("4,2", &[4, 2])]),
        einsum("bhid,bhjd->bhij", &[("n,2,3,4", &[2, 2, 3, 4]), ("n,2,l,4", &[2, 2, 5, 4])]),
        einsum("i,j->ij", &[("a", &[3]), ("b", &[4])]),
        einsum("ij,ij->", &[("n,4", &[3, 4]), ("n,4", &[3, 4])]),
        einsum("ij,k->ik", &[("n,4", &[3, 4]), ("2", &[2])]),
        einsum("ij,k->", &[("n,4", &[3, 4]), ("b", &[2])]),
        einsum("ij,jk,kl->il", &[("n,4", &[3, 4]), ("4,2", &[4, 2]), ("2,3", &[2, 3])]),
        einsum("bi,bj,bk->ijk", &[("n,2", &[3, 2]), ("n,3", &[3, 3]), ("n,2", &[3, 2])]),
        einsum("...ij,...jk->...ik", &[("n,2,3,4", &[2, 2, 3, 4]), ("n,2,4,2", &[2, 2, 4, 2])]),
        einsum("...ij,...jk->...ik", &[("n,2,3,4", &[2, 2, 3, 4]), ("n,1,4,2", &[2, 1, 4, 2])]),
        einsum("...j,j->...", &[("n,3,4", &[2, 3, 4]), ("4", &[4])]),
        einsum("b i , i j -> b j", &[("n,4", &[3, 4]), ("4,2", &[4, 2])]),
        einsum("ij,ij->ij", &[("n,4", &[3, 4]), ("n,1", &[3, 1])]),
        einsum("ij,ij->i", &[("n,1", &[3, 1]), ("n,4", &[3, 4])]),
        // Diagonals and traces.
        einsum("ii->i", &[("4,4", &[4, 4])]),
        einsum("ii->", &[("n,n", &[4, 4])]),
        einsum("...ii->...", &[("n,3,3", &[2, 3, 3])]),
        einsum("bii,bj->bij", &[("n,3,3", &[2, 3, 3]), ("n,2", &[2, 2])]),
        einsum("iji,j->i", &[("3,2,3", &[3, 2, 3]), ("2", &[2])]),
        einsum("iii->i", &[("3,3,3", &[3, 3, 3])]),
        // One operand, and no arrow.
        einsum("ijk->kij", &[("n,3,4", &[2, 3, 4])]),
        einsum("ij->", &[("n,4", &[3, 4])]),
        einsum("ij->j", &[("n,4", &[3, 4])]),
        einsum("ba", &[("n,4", &[3, 4])]),
        einsum("ij,jk", &[("n,4", &[3, 4]), ("4,2", &[4, 2])]),
        einsum("...ii", &[("n,3,3", &[2, 3, 3])]),
        // A scalar operand.
        einsum(",ij->ij", &[("", &[]), ("n,4", &[3, 4])]),
    ]
}

fn matrices() -> Vec<(&'static str, Case)> {
    let square = Model::new(13).input("x", "n,3,3").node("MatMul", &["x", "x"], &["y"], &[]).output("y");
    let addend = |c: &str| {
        Model::new(11)
            .input("a", "2,3")
            .input("b", "4,3")
            .input("c", c)
            .node("Gemm", &["a", "b", "c"], &["y"], &[("transB", 1.into()), ("beta", 0.6f32.into())])
            .output("y")
    };
    vec![
        ("MatMul", smooth(square, &[&[2, 3, 3]])),
        ("MatMul", smooth(binary("MatMul", "n,1,2,4", "3,4,2", &[]), &[&[2, 1, 2, 4], &[3, 4, 2]])),
        ("MatMul", smooth(binary("MatMul", "n,3,4", "4", &[]), &[&[2, 3, 4], &[4]])),
        ("MatMul", smooth(binary("MatMul", "a,k", "k,b", &[]), &[&[2, 4], &[4, 3]])),
        ("Gemm", smooth(addend("4"), &[&[2, 3], &[4, 3], &[4]])),
        ("Gemm", smooth(addend("2,1"), &[&[2, 3], &[4, 3], &[2, 1]])),
        ("Gemm", smooth(addend("2,4"), &[&[2, 3], &[4, 3], &[2, 4]])),
        ("Gemm", smooth(addend("1"), &[&[2, 3], &[4, 3], &[1]])),
    ]
}

pub fn cases() -> Vec<(&'static str, Case)> {
    let mut cases = sums();
    cases.extend(matrices());
    cases
}

/// ONNX Runtime crashes on ellipses of different lengths, so its own product is what to compare with.
#[test]
fn ellipses_of_different_lengths_broadcast() {
    let shapes: [(&str, &str, &[usize], &[usize]); 2] =
        [("3,4", "n,2,4,5", &[3, 4], &[3, 2, 4, 5]), ("n,2,3,4", "4,5", &[3, 2, 3, 4], &[4, 5])];
    for (left, right, a, b) in shapes {
        let mut random = Random::new(3);
        let product = vjp_of(&binary("MatMul", left, right, &[]));
        let sum = vjp_of(&binary("Einsum", left, right, &[("equation", "...ij,...jk->...ik".into())]));
        let feeds: Feeds = [("x", a), ("z", b), ("cotangent/y", &[3, 2, 3, 5][..])]
            .map(|(name, shape)| (name.to_owned(), random.array(shape, Values::AwayFromZero)))
            .into();
        let (product, sum) = (run(&compile(&product), &feeds), run(&compile(&sum), &feeds));
        for name in ["y", "gradient/x", "gradient/z"] {
            let difference = norm(&(get(&product, name) - get(&sum, name)));
            assert!(difference < 1e-5 * norm(get(&product, name)), "{name} differs by {difference}");
        }
    }
}

fn vjp_of(model: &Model) -> Graph {
    vjp(&Graph::parse(model.bytes()).unwrap(), &[], &[]).unwrap()
}
