//! Networks of 16 channels and more, which stay in ONNX Runtime's blocked layout.

use super::{Image, Net, arranged, checked, count, counts, derived};

/// conv → act → conv of stride 2 beside a shortcut → sum → act → mean → classes.
fn residual(shape: &str, act: &str, mean: &str) -> (Net, Image) {
    let (mut net, x) = Net::on(shape, 9);
    let first = net.conv(&x, 16, 3, 1);
    let first = net.act(act, &first);
    let second = net.conv(&first, 32, 3, 2);
    let second = net.act(act, &second);
    let second = net.conv(&second, 32, 3, 1);
    let shortcut = net.conv(&first, 32, 1, 2);
    let sum = net.join("Add", &second, &shortcut);
    let sum = net.act(act, &sum);
    let pooled = net.pooled(&sum, mean);
    (net, pooled)
}

#[test]
fn residual_networks_spread_the_cotangent_of_a_mean_by_enlarging() {
    for act in ["Relu", "x·Sigmoid", "Tanh"] {
        for mean in ["ReduceMean", "GlobalAveragePool"] {
            for shape in ["n,3,9,9", "2,3,9,9"] {
                let (net, y) = residual(shape, act, mean);
                let graph = checked(&net.finish(&[&y.name]), &[("x", &[2, 3, 9, 9])]);
                let found = (count(&graph, "Resize"), count(&graph, "Expand"), count(&graph, "ReduceMean"));
                assert_eq!(found, (1, 0, 0), "{act} {mean} {shape}: {:?}", counts(&graph));
                // The sum of two branches meets a transposed convolution, which comes from outside.
                assert!(arranged(&graph, "Conv") > 0, "{act} {mean} {shape}");
            }
        }
    }
}

#[test]
fn what_only_the_run_tells_is_not_enlarged() {
    for shape in ["n,3,h,w", "n,3,9,w"] {
        let (net, y) = residual(shape, "Relu", "ReduceMean");
        let graph = checked(&net.finish(&[&y.name]), &[("x", &[2, 3, 9, 9])]);
        assert_eq!(count(&graph, "Resize"), 0, "{shape}");
        assert_eq!(count(&graph, "Expand"), 1, "{shape}");
    }
}

#[test]
fn gates_of_channels_are_enlarged_and_their_cotangents_averaged() {
    for mean in ["ReduceMean", "GlobalAveragePool"] {
        for gate in ["Sigmoid", "HardSigmoid"] {
            for (shape, sizes) in [("n,3,6,6", 6), ("1,3,6,6", 6), ("n,3,h,w", 6)] {
                let (mut net, x) = Net::on(shape, sizes);
                let wide = net.conv(&x, 32, 3, 1);
                let gated = net.gated(&wide, mean, gate);
                let narrow = net.conv(&gated, 16, 1, 1);
                let again = net.gated(&narrow, mean, gate);
                let y = net.conv(&again, 16, 3, 1);
                let batch = if shape.starts_with('1') { 1 } else { 2 };
                let graph = checked(&net.finish(&[&y.name]), &[("x", &[batch, 3, 6, 6])]);
                let fixed = !shape.contains('h');
                assert_eq!(count(&graph, "ReduceSum") == 0, fixed, "{mean} {gate} {shape}: {:?}", counts(&graph));
                // Each gate forward, and spread backward, and each mean backward.
                assert_eq!(count(&graph, "Resize") >= 4, fixed, "{mean} {gate} {shape}: {:?}", counts(&graph));
            }
        }
    }
}

#[test]
fn images_of_one_pixel_are_neither_enlarged_nor_averaged() {
    let (mut net, x) = Net::on("n,16,1,1", 1);
    let wide = net.conv(&x, 32, 1, 1);
    let gated = net.gated(&wide, "ReduceMean", "Sigmoid");
    let y = net.conv(&gated, 16, 1, 1);
    let graph = checked(&net.finish(&[&y.name]), &[("x", &[2, 16, 1, 1])]);
    assert_eq!((count(&graph, "Resize"), count(&graph, "ReduceSum")), (0, 0));
}

#[test]
fn operands_that_are_no_images_of_the_batch_stay_outside() {
    // A constant for each channel, one for each batch and channel, one for each pixel, one for each column; a scalar.
    for (dims, batch, enlarged) in [
        (vec![1, 16, 1, 1], "n", 0),
        (vec![1, 16, 1, 1], "1", 1),
        (vec![1, 16, 1, 1], "2", 0),
        (vec![2, 16, 1, 1], "2", 1),
        (vec![2, 1, 1, 1], "2", 0),
        (vec![16, 1, 1], "n", 0),
        (vec![1, 16, 5, 5], "n", 0),
        (vec![1, 16, 1, 5], "n", 0),
        (vec![5], "n", 0),
        (vec![], "n", 0),
    ] {
        for op in ["Add", "Mul", "Sum"] {
            let (mut net, x) = Net::on(&format!("{batch},3,5,5"), 5);
            let made = net.conv(&x, 16, 3, 1);
            let made = net.act("Sigmoid", &made);
            let term = net.constant(&dims, 0.5, 1.5);
            let moved = net.node(op, &[&term, &made.name], &[]);
            let y = net.conv(&Image { name: moved, ..made }, 16, 3, 1);
            let samples = if batch == "1" { 1 } else { 2 };
            let graph = checked(&net.finish(&[&y.name]), &[("x", &[samples, 3, 5, 5])]);
            assert!(count(&graph, "Resize") <= 2 * enlarged, "{op} {dims:?} {batch}: {:?}", counts(&graph));
            assert!(count(&graph, "Resize") >= enlarged, "{op} {dims:?} {batch}: {:?}", counts(&graph));
        }
    }
}

#[test]
fn inputs_of_other_batches_broadcast_as_they_did() {
    // `m` may be 1 while `n` is not.
    let (mut net, x) = Net::on("n,16,5,5", 5);
    let other = net.input("z", "m,16,5,5", 5);
    let gate = net.input("g", "m,16,1,1", 1);
    let made = net.conv(&x, 16, 3, 1);
    let sum = net.join("Add", &made, &other);
    let product = net.join("Mul", &sum, &gate);
    let y = net.conv(&product, 16, 3, 1);
    let model = net.finish(&[&y.name]);
    checked(&model, &[("x", &[3, 16, 5, 5]), ("z", &[1, 16, 5, 5]), ("g", &[1, 16, 1, 1])]);
    checked(&model, &[("x", &[3, 16, 5, 5]), ("z", &[3, 16, 5, 5]), ("g", &[3, 16, 1, 1])]);
}

#[test]
fn sums_and_products_of_every_number_of_operands_are_right() {
    let (mut net, x) = Net::on("n,16,6,6", 6);
    let z = net.input("z", "n,16,6,6", 6);
    let made = net.conv(&x, 16, 3, 1);
    let one = net.node("Sum", &[&made.name], &[]);
    let square = net.node("Mul", &[&one, &one], &[]);
    let three = net.node("Sum", &[&square, &z.name, &made.name], &[]);
    let mixed = net.node("Mul", &[&three, &z.name], &[]);
    let y = net.conv(&Image { name: mixed.clone(), ..made.clone() }, 16, 3, 1);
    let outputs = [&y.name, &made.name, &one, &square, &three, &mixed].map(String::as_str);
    let graph = checked(&net.finish(&outputs), &[("x", &[2, 16, 6, 6]), ("z", &[2, 16, 6, 6])]);
    assert!(arranged(&graph, "Conv") > 0, "{:?}", counts(&graph));
}

/// Concatenations of 16 channels each, with BatchNormalization, Relu and Conv between.
fn dense(axis: i64, outputs: &[usize]) -> super::Graph {
    let (mut net, x) = Net::on("n,3,6,6", 6);
    let mut parts = vec![net.conv(&x, 16, 3, 1)];
    let mut joined: Vec<String> = Vec::new();
    for _ in 0..3 {
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        let name =
            if names.len() == 1 { names[0].to_owned() } else { net.node("Concat", &names, &[("axis", axis.into())]) };
        joined.push(name.clone());
        let whole = Image { name, channels: 16 * parts.len(), size: 6 };
        let whole = net.normalized(&whole);
        let whole = net.act("Relu", &whole);
        let narrow = net.conv(&whole, 32, 1, 1);
        let narrow = net.act("Relu", &narrow);
        parts.push(net.conv(&narrow, 16, 3, 1));
    }
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let all = net.node("Concat", &names, &[("axis", axis.into())]);
    let all = net.normalized(&Image { name: all, channels: 64, size: 6 });
    let all = net.act("Relu", &all);
    let small = net.pool("AveragePool", &all, 2, 2);
    let y = net.conv(&small, 16, 1, 1);
    let mut names = vec![y.name.clone()];
    names.extend(outputs.iter().map(|&at| joined[at].clone()));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    checked(&net.finish(&names), &[("x", &[2, 3, 6, 6])])
}

#[test]
fn densely_connected_networks_are_nested_and_scaled() {
    for axis in [1, -3] {
        for outputs in [&[][..], &[1], &[1, 2]] {
            let graph = dense(axis, outputs);
            let concatenations: Vec<String> =
                super::lines(&graph).into_iter().filter(|line| line.contains(" = Concat(")).collect();
            // Each begins with the one before; forward only.
            assert_eq!(concatenations.len(), 3, "{concatenations:?}");
            assert!(concatenations.iter().all(|line| line.matches(", ").count() == 1), "{concatenations:?}");
            assert!(super::scaled::factors(&graph) > 0, "{:?}", super::lines(&graph));
        }
    }
}

#[test]
fn inverted_residuals_are_right() {
    for act in ["x·HardSigmoid", "x·Sigmoid", "Relu6", "HardSwish"] {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
            let (mut net, x) = Net::on("n,3,7,7", 7);
            let stem = net.conv(&x, 16, 3, 2);
            let stem = net.act(act, &stem);
            let wide = net.conv(&stem, 32, 1, 1);
            let wide = net.act(act, &wide);
            let deep = net.depthwise(&wide, kernel, stride);
            let deep = net.act(act, &deep);
            let gated = net.gated(&deep, "GlobalAveragePool", "HardSigmoid");
            let narrow = net.conv(&gated, 16, 1, 1);
            let y = if stride == 1 { net.join("Add", &stem, &narrow) } else { narrow };
            let y = net.conv(&y, 16, 1, 1);
            checked(&net.finish(&[&y.name]), &[("x", &[2, 3, 7, 7])]);
        }
    }
}

#[test]
fn poolings_and_outputs_in_between_are_right() {
    for (op, kernel, stride) in [("MaxPool", 3, 2), ("MaxPool", 2, 2), ("AveragePool", 3, 2), ("AveragePool", 3, 1)] {
        let (mut net, x) = Net::on("n,3,8,8", 8);
        let made = net.conv(&x, 16, 3, 1);
        let relu = net.act("Relu", &made);
        let pooled = net.pool(op, &relu, kernel, stride);
        let narrow = net.conv(&pooled, 16, 3, 1);
        let sum = net.join("Add", &narrow, &pooled);
        let joined = net.join("Concat", &sum, &pooled);
        let gated = net.gated(&joined, "ReduceMean", "Sigmoid");
        let y = net.conv(&gated, 16, 1, 1);
        let outputs = [&y.name, &made.name, &relu.name, &pooled.name, &sum.name, &joined.name, &gated.name];
        let graph = checked(&net.finish(&outputs.map(String::as_str)), &[("x", &[2, 3, 8, 8])]);
        assert!(count(&graph, "Resize") > 0);
    }
}

#[test]
fn channels_that_do_not_fill_blocks_stay_as_they_are() {
    let (mut net, x) = Net::on("n,3,6,6", 6);
    let made = net.conv(&x, 24, 3, 1);
    let gated = net.gated(&made, "GlobalAveragePool", "Sigmoid");
    let y = net.conv(&gated, 24, 1, 1);
    let graph = checked(&net.finish(&[&y.name]), &[("x", &[2, 3, 6, 6])]);
    assert_eq!((count(&graph, "Resize"), arranged(&graph, "Conv")), (0, 0), "{:?}", counts(&graph));
}

#[test]
fn concatenations_along_other_axes_are_right() {
    for axis in [0, 2, 3, -1] {
        let (mut net, x) = Net::on("n,16,6,6", 6);
        let (a, b) = (net.conv(&x, 16, 3, 1), net.conv(&x, 16, 1, 1));
        let joined = net.node("Concat", &[&a.name, &b.name, &x.name], &[("axis", axis.into())]);
        let y = net.conv(&Image { name: joined, ..a }, 16, 3, 1);
        checked(&net.finish(&[&y.name]), &[("x", &[2, 16, 6, 6])]);
    }
}

#[test]
fn an_empty_batch_has_empty_gradients() {
    let (mut net, x) = Net::on("n,3,6,6", 6);
    let made = net.conv(&x, 16, 3, 1);
    let gated = net.gated(&made, "ReduceMean", "Sigmoid");
    let y = net.conv(&gated, 16, 1, 1);
    let graph = derived(&net.finish(&[&y.name]));
    assert!(count(&graph, "Resize") > 0);
    let empty = |channels| ndarray::ArrayD::<f32>::zeros(vec![0, channels, 6, 6]);
    let feeds = vec![("x".into(), empty(3)), (format!("cotangent/{}", y.name), empty(16))];
    let pulled = super::run(&super::compile(&graph), &feeds);
    assert_eq!(super::get(&pulled, "gradient/x").shape(), [0, 3, 6, 6]);
}

#[test]
fn rows_and_columns_are_not_mixed_up() {
    let (mut net, x) = Net::on("n,3,5,7", 5);
    let wide = net.conv(&x, 32, 3, 1);
    let gated = net.gated(&wide, "ReduceMean", "Sigmoid");
    let narrow = net.conv(&gated, 16, 1, 1);
    let pooled = net.pooled(&narrow, "GlobalAveragePool");
    let graph = checked(&net.finish(&[&narrow.name, &pooled.name]), &[("x", &[2, 3, 5, 7])]);
    assert!(count(&graph, "Resize") > 2);
}
