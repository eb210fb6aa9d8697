//! Random convolutional networks of 16 channels.

use super::{Image, Net, Random, checked};

const FUNCTIONS: [&str; 8] =
    ["Relu", "Relu6", "x·Sigmoid", "x·HardSigmoid", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid"];

/// Adds what a random number chooses; images of other sizes and channels are brought to those of the first by
/// convolutions.
fn step(net: &mut Net, random: &mut Random, images: &[Image]) -> Image {
    let x = images[random.below(images.len())].clone();
    let other = images[random.below(images.len())].clone();
    let same = other.channels == x.channels && other.size == x.size;
    match random.below(14) {
        0 => net.conv(&x, 16, 3, 1),
        1 => net.conv(&x, 32, 1, 1),
        2 => net.conv(&x, 16, 3, 1 + usize::from(x.size > 2)),
        3 => net.depthwise(&x, 3, 1 + usize::from(x.size > 2)),
        4..7 => {
            let function = FUNCTIONS[random.below(FUNCTIONS.len())];
            net.act(function, &x)
        }
        7 => net.gated(
            &x,
            ["ReduceMean", "GlobalAveragePool"][random.below(2)],
            ["Sigmoid", "HardSigmoid"][random.below(2)],
        ),
        8 | 9 if same => net.join("Add", &x, &other),
        10 if same => {
            let gate = net.act("Tanh", &other);
            net.join("Mul", &x, &gate)
        }
        11 if other.size == x.size && x.channels + other.channels <= 64 => net.join("Concat", &x, &other),
        12 if x.size > 2 => net.pool(["MaxPool", "AveragePool"][random.below(2)], &x, 3, 1 + random.below(2)),
        13 => {
            let factor = net.constant(&[1, x.channels, 1, 1], 0.5, 1.5);
            Image { name: net.node("Mul", &[&x.name, &factor], &[]), ..x }
        }
        _ => net.normalized(&x),
    }
}

#[test]
fn random_networks_have_the_derivatives_of_finite_differences() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let size = 5 + random.below(4);
        let free = random.below(4) == 0;
        let shape = if free { "n,3,h,w".to_owned() } else { format!("n,3,{size},{size}") };
        let (mut net, x) = Net::on(&shape, size);
        let mut images = vec![net.conv(&x, 16, 3, 1 + random.below(2))];
        for _ in 0..3 + random.below(8) {
            let image = step(&mut net, &mut random, &images);
            images.push(image);
        }
        let last = net.conv(&images[images.len() - 1], 16, 1, 1);
        let other = images[random.below(images.len())].name.clone();
        let model = net.finish(&[&last.name, &other]);
        checked(&model, &[("x", &[2, 3, size, size])]);
    }
}
