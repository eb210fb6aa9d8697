//! Strided convolutions in front of a network, whose adjoint comes out position by position.

use super::{Net, checked, count, counts};
use crate::gradient::model::{Model, Value};

/// Whether the gradient comes out in phases.
fn in_phases(model: &Model, shapes: super::Shapes) -> bool {
    let graph = checked(model, shapes);
    let found = (count(&graph, "DepthToSpace"), count(&graph, "ConvTranspose"));
    assert_eq!(found.0 + found.1, 1, "{:?}", counts(&graph));
    found.0 == 1
}

fn stem(channels: usize, size: usize, kernel: usize, attributes: &[(&str, Value)]) -> (Model, [usize; 4]) {
    let (mut net, x) = Net::on(&format!("n,{channels},{size},{size}"), size);
    let weight = net.weight(16, channels, kernel);
    let made = net.node("Conv", &[&x.name, &weight], attributes);
    let y = net.node("Tanh", &[&made], &[]);
    (net.finish(&[&y]), [2, channels, size, size])
}

fn window(stride: usize, pads: [i64; 4]) -> Vec<(&'static str, Value)> {
    vec![("strides", [stride as i64; 2].into()), ("pads", pads.into())]
}

#[test]
fn stems_of_published_networks_come_out_in_phases() {
    for (channels, size, kernel, stride, pad) in
        [(3, 16, 7, 2, 3), (3, 16, 4, 4, 0), (3, 32, 16, 16, 0), (4, 12, 5, 2, 2), (3, 12, 7, 4, 3), (4, 12, 6, 3, 3)]
    {
        let (model, shape) = stem(channels, size, kernel, &window(stride, [pad; 4]));
        assert!(in_phases(&model, &[("x", &shape)]), "{channels} {size} {kernel} {stride} {pad}");
    }
}

#[test]
fn uneven_padding_is_right_in_either_form() {
    for pads in [[2, 3, 3, 2], [3, 2, 2, 3], [0, 1, 1, 0], [6, 6, 6, 6], [1, 5, 4, 0], [0, 0, 0, 0]] {
        for (size, kernel, stride) in [(12, 7, 2), (12, 7, 3), (16, 4, 4), (12, 3, 2)] {
            let (model, shape) = stem(3, size, kernel, &window(stride, pads));
            in_phases(&model, &[("x", &shape)]);
        }
    }
    for auto_pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        let (model, shape) = stem(3, 12, 7, &[("strides", [2, 2].into()), ("auto_pad", auto_pad.into())]);
        assert!(in_phases(&model, &[("x", &shape)]), "{auto_pad}");
    }
}

#[test]
fn other_stems_stay_transposed_convolutions() {
    // Odd sizes, too little to save, too many channels, dilation.
    let dilated = [window(2, [3; 4]), vec![("dilations", [2, 2].into())]].concat();
    for (channels, size, kernel, attributes) in [
        (3, 15, 7, window(2, [3; 4])),
        (1, 16, 7, window(2, [3; 4])),
        (4, 10, 4, window(2, [1; 4])),
        (3, 11, 7, window(2, [2, 2, 1, 1])),
        (3, 12, 3, window(4, [0; 4])),
        (5, 12, 7, window(2, [3; 4])),
        (3, 16, 7, dilated),
    ] {
        let (model, shape) = stem(channels, size, kernel, &attributes);
        assert!(!in_phases(&model, &[("x", &shape)]), "{channels} {size} {kernel}");
    }
    let (mut net, x) = Net::on("n,3,12,12", 12);
    let weight = net.weight(16, 3, 7);
    let made = net.node("Conv", &[&x.name, &weight], &[("strides", [2, 3].into()), ("pads", [3; 4].into())]);
    let y = net.node("Tanh", &[&made], &[]);
    assert!(!in_phases(&net.finish(&[&y]), &[("x", &[2, 3, 12, 12])]));
}

#[test]
fn a_size_that_only_the_run_tells_is_not_taken_apart() {
    for shape in ["n,3,h,w", "n,3,16,w", "n,3,h,16"] {
        let (mut net, x) = Net::on(shape, 16);
        let made = net.conv(&x, 16, 7, 2);
        let y = net.act("Tanh", &made);
        assert!(!in_phases(&net.finish(&[&y.name]), &[("x", &[2, 3, 16, 16])]), "{shape}");
    }
}

#[test]
fn strides_of_a_billion_pixels_take_no_time() {
    let far = 1i64 << 30;
    for (kernel, size) in [(1, far), (3, far), (1, 3 * far)] {
        let (strides, channels) = ([far, far], 1);
        let model = Model::new(17)
            .input("x", &format!("n,{channels},{size},1"))
            .weight("w", &[1, channels, kernel, 1])
            .node("Conv", &["x", "w"], &["y"], &[("strides", strides.into())])
            .output("y");
        assert_eq!(count(&super::derived(&model), "DepthToSpace"), 0);
    }
}

#[test]
fn kernels_of_a_million_taps_take_no_time() {
    let long = 1usize << 20;
    let model = Model::new(17)
        .input("x", &format!("n,1,{},1", 2 * long))
        .floats("w", &[1, 1, long as i64, 1], &vec![0.5; long])
        .node("Conv", &["x", "w"], &["y"], &[("strides", [long as i64, 1].into())])
        .output("y");
    assert_eq!(count(&super::derived(&model), "DepthToSpace"), 0);
}

#[test]
fn rows_and_columns_are_not_mixed_up() {
    let (mut net, x) = Net::on("n,3,12,16", 12);
    let weight = net.constant(&[16, 3, 7, 5], -0.2, 0.2);
    let made = net.node("Conv", &[&x.name, &weight], &[("strides", [2, 2].into()), ("pads", [3, 1, 2, 2].into())]);
    let y = net.node("Tanh", &[&made], &[]);
    assert!(in_phases(&net.finish(&[&y]), &[("x", &[2, 3, 12, 16])]));
}
