//! The forms of resizing before opset 11: coordinates were not centred, and nearest-neighbour resizing rounded down
//! where it enlarged and up where it shrank.

use super::{
    super::{
        error::Result,
        graph::{Attribute, ElementType, Graph, Node},
        tensor::Tensor,
    },
    Conversion, invalid,
};

/// `Upsample` of any opset, and `Resize` of opset 10, as today's `Resize`.
pub(super) fn uncentred(conversion: &mut Conversion, graph: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    let Some(input) = node.input(0).map(str::to_owned) else { return Err(invalid(&node, "it has no input")) };
    let scales = match node.attributes.remove("scales") {
        Some(Attribute::Floats(scales)) => {
            let values: Vec<f64> = scales.iter().map(|&scale| scale.into()).collect();
            let tensor = Tensor::from_floats(ElementType::Float32, vec![values.len() as u64], &values)?;
            conversion.add_constant(graph, tensor)
        }
        _ => match node.input(1) {
            Some(scales) => scales.to_owned(),
            None => return Err(invalid(&node, "it has no scales")),
        },
    };
    let mode = node.text("mode").unwrap_or("nearest").to_owned();
    let known = graph.initializers.get(&scales).and_then(Tensor::floats);
    let (enlarges, shrinks) = match &known {
        Some(scales) => (scales.iter().any(|&scale| scale > 1.0), scales.iter().any(|&scale| scale < 1.0)),
        // An `Upsample` has no factors below 1.
        None => (true, node.op != "Upsample"),
    };
    if mode == "nearest" && enlarges && shrinks {
        let reason = "nearest-neighbour resizing whose factors are unknown, or both below and above 1, is not \
                      supported in this old form; export the model with opset 11 or newer";
        return Err(invalid(&node, reason));
    }
    node.op = "Resize".to_owned();
    node.inputs = vec![input, String::new(), scales];
    let text = |value: &str| Attribute::Text(value.to_owned());
    node.attributes.clear();
    node.attributes.insert("mode".to_owned(), text(&mode));
    node.attributes.insert("coordinate_transformation_mode".to_owned(), text("asymmetric"));
    node.attributes.insert("nearest_mode".to_owned(), text(if shrinks { "ceil" } else { "floor" }));
    Ok(vec![node])
}
