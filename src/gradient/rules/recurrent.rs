//! Recurrent layers, `LSTM`, `GRU` and `RNN`, as their equations: one set of small operators for each step.
//!
//! The products of the inputs with their weights are one matrix product over all steps; only what depends on the step
//! before is done step by step. Values keep the layout `[1, batch, features]`.

use super::{
    super::{
        builder::Builder,
        error::{GradientError, Result},
        graph::{Attribute, Dim, Node, ValueType},
        shape::{Inference, Inferred, wrong},
        tensor::Tensor,
    },
    Derivative as D, Rule,
    recurrent_activations::{Activation, activations},
    rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("LSTM", recurrent_type, D::Composed(composed)),
    rule("GRU", recurrent_type, D::Composed(composed)),
    rule("RNN", recurrent_type, D::Composed(composed)),
];

/// Most steps that are written out.
const LONGEST: u64 = 1024;

/// How many blocks of rows the weights of an operator have.
fn n_gates(operator: &str) -> i64 {
    match operator {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    }
}

fn n_directions(node: &Node) -> u64 {
    if node.text("direction") == Some("bidirectional") { 2 } else { 1 }
}

fn recurrent_type(inference: &Inference) -> Inferred {
    let [steps, batch, _] = inference.shape(0)? else { return wrong("its input must have three axes") };
    if inference.node.int("layout").unwrap_or(0) != 0 {
        return Err(super::super::shape::Cause::Unknown);
    }
    let hidden = match inference.node.int("hidden_size").and_then(|size| u64::try_from(size).ok()) {
        Some(size) => Dim::Known(size),
        None => inference.shape(2)?.last().cloned().unwrap_or(Dim::Known(0)),
    };
    let element = inference.element(0)?;
    let directions = Dim::Known(n_directions(inference.node));
    let all = vec![steps.clone(), directions.clone(), batch.clone(), hidden.clone()];
    let last = vec![directions, batch.clone(), hidden];
    let states = std::iter::repeat_n(ValueType::new(element, last), 2);
    Ok([ValueType::new(element, all)].into_iter().chain(states).collect())
}

/// What all directions of a layer share.
struct Layer<'a> {
    node: &'a Node,
    steps: usize,
    hidden: i64,
    clip: Option<f32>,
    /// 1 where a sequence still lasts and 0 behind its end, for each step; `None` where all last to the end.
    lasts: Option<Vec<String>>,
}

/// What a direction gives.
struct Run {
    /// The hidden states in the order of time.
    states: Vec<String>,
    hidden: String,
    cell: String,
}

fn refused(reason: &str) -> GradientError {
    GradientError::Unsupported(reason.to_owned())
}

fn composed(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let layer = layer(builder, node)?;
    let direction = node.text("direction").unwrap_or("forward");
    let mut runs = Vec::new();
    for (index, backwards) in [("forward", false), ("reverse", true)]
        .into_iter()
        .filter(|(name, _)| direction == "bidirectional" || direction == *name)
        .map(|(_, backwards)| backwards)
        .enumerate()
    {
        runs.push(run(builder, &layer, index, backwards)?);
    }
    if runs.is_empty() {
        return Err(refused("its direction is not known"));
    }
    let mut all = Vec::new();
    for run in &runs {
        let states = along(builder, &run.states, 0)?;
        all.push(builder.unsqueezed(&states, &[1])?);
    }
    let all = along(builder, &all, 1)?;
    let hidden: Vec<String> = runs.iter().map(|run| run.hidden.clone()).collect();
    let cells: Vec<String> = runs.iter().map(|run| run.cell.clone()).collect();
    let mut outputs = vec![all, along(builder, &hidden, 0)?];
    if node.op == "LSTM" {
        outputs.push(along(builder, &cells, 0)?);
    }
    Ok(outputs)
}

fn along(builder: &mut Builder, values: &[String], axis: i64) -> Result<String> {
    match values {
        [single] => Ok(single.clone()),
        values => {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            builder.emit("Concat", &values, &[("axis", Attribute::Int(axis))])
        }
    }
}

fn layer<'a>(builder: &mut Builder, node: &'a Node) -> Result<Layer<'a>> {
    if node.int("layout").unwrap_or(0) != 0 {
        return Err(refused(
            "ONNX Runtime does not run it with the batch first (layout = 1); export it with layout = 0",
        ));
    }
    let shape = builder.shape(node.input(0).unwrap_or(""))?;
    let Some(steps) = shape.first().and_then(Dim::known) else {
        return Err(refused("its number of steps is not fixed; export the model with a fixed sequence length"));
    };
    if !(1..=LONGEST).contains(&steps) {
        return Err(refused("it has no steps, or more than 1024; export the model with shorter sequences"));
    }
    let recurrence = builder.shape(node.input(2).unwrap_or(""))?;
    let hidden = recurrence.last().and_then(Dim::known).and_then(|size| i64::try_from(size).ok());
    let hidden = hidden.ok_or_else(|| refused("the size of its state is not known"))?;
    let steps = steps as usize;
    let lasts = lasts(builder, node, steps)?;
    Ok(Layer { node, steps, hidden, clip: node.float("clip").filter(|&clip| clip > 0.0), lasts })
}

/// The masks of sequences that may be shorter than the longest.
fn lasts(builder: &mut Builder, node: &Node, steps: usize) -> Result<Option<Vec<String>>> {
    let Some(lengths) = node.input(4).map(str::to_owned) else { return Ok(None) };
    let known = Inference { graph: builder.graph(), node }.known_integers(4);
    if known.is_ok_and(|lengths| lengths.iter().all(|&length| length == steps as i64)) {
        return Ok(None);
    }
    let lengths = builder.cast(&lengths, super::super::graph::ElementType::Int64)?;
    let lengths = builder.reshaped(&lengths, &[1, -1, 1])?;
    let mut masks = Vec::with_capacity(steps);
    for step in 0..steps {
        let step = builder.constant(Tensor::from_integers(vec![], &[step as i64])?);
        let lasts = builder.emit("Less", &[&step, &lengths], &[])?;
        masks.push(builder.mask(&lasts, node.input(0).unwrap_or(""))?);
    }
    Ok(Some(masks))
}

/// The weights of one direction, ready to be multiplied from the right.
struct Weights {
    /// `[1, batch, gates·hidden]` for each step: the input's part of the gates, with all constant biases.
    inputs: Vec<String>,
    /// `[hidden, gates·hidden]`.
    recurrence: String,
    /// The recurrent bias of each gate, where it must be kept apart.
    recurrent_bias: Option<Vec<String>>,
    peepholes: Option<Vec<String>>,
    activations: Vec<Activation>,
}

/// The part of a weight that belongs to a direction.
fn part(builder: &mut Builder, name: &str, direction: usize) -> Result<String> {
    let direction = builder.constant(Tensor::from_integers(vec![], &[direction as i64])?);
    builder.emit("Gather", &[name, &direction], &[("axis", Attribute::Int(0))])
}

fn pieces(builder: &mut Builder, value: &str, n: i64, size: i64, axis: i64) -> Result<Vec<String>> {
    if n == 1 {
        return Ok(vec![value.to_owned()]);
    }
    let sizes = builder.integers(&vec![size; usize::try_from(n).unwrap_or(1)])?;
    builder.emit_all("Split", &[value, &sizes], &[("axis", Attribute::Int(axis))], usize::try_from(n).unwrap_or(1))
}

fn weights(builder: &mut Builder, layer: &Layer, direction: usize) -> Result<Weights> {
    let node = layer.node;
    let gates = n_gates(&node.op);
    let [x, w, r] = [0, 1, 2].map(|index| node.input(index).unwrap_or(""));
    let weight = part(builder, w, direction)?;
    let weight = builder.permuted(&weight, &[1, 0])?;
    let recurrence = part(builder, r, direction)?;
    let recurrence = builder.permuted(&recurrence, &[1, 0])?;
    let mut inputs = builder.emit("MatMul", &[x, &weight], &[])?;
    let mut recurrent_bias = None;
    if let Some(bias) = node.input(3) {
        let bias = part(builder, bias, direction)?;
        let halves = pieces(builder, &bias, 2, gates * layer.hidden, 0)?;
        if let [of_input, of_state] = halves.as_slice() {
            inputs = builder.add(&inputs, of_input)?;
            if node.op == "GRU" && node.int("linear_before_reset").unwrap_or(0) != 0 {
                recurrent_bias = Some(pieces(builder, of_state, gates, layer.hidden, 0)?);
            } else {
                inputs = builder.add(&inputs, of_state)?;
            }
        }
    }
    let peepholes = match node.input(7).filter(|_| node.op == "LSTM") {
        Some(peepholes) => {
            let peepholes = part(builder, peepholes, direction)?;
            Some(pieces(builder, &peepholes, 3, layer.hidden, 0)?)
        }
        None => None,
    };
    let inputs = pieces(builder, &inputs, layer.steps as i64, 1, 0)?;
    let activations = activations(node, direction)?;
    Ok(Weights { inputs, recurrence, recurrent_bias, peepholes, activations })
}

/// The state that a direction begins with: zeros where none is given.
fn initial(builder: &mut Builder, layer: &Layer, input: usize, direction: usize) -> Result<String> {
    if let Some(name) = layer.node.input(input) {
        let (start, end) = (builder.integers(&[direction as i64])?, builder.integers(&[direction as i64 + 1])?);
        let axis = builder.integers(&[0])?;
        return builder.emit("Slice", &[name, &start, &end, &axis], &[]);
    }
    let x = layer.node.input(0).unwrap_or("");
    let batch = builder.size_value(x, 1)?;
    let (one, hidden) = (builder.integers(&[1])?, builder.integers(&[layer.hidden])?);
    let shape = builder.joined(&[one, batch, hidden])?;
    let zero = Tensor::from_floats(builder.element(x)?, vec![1], &[0.0])?;
    builder.emit("ConstantOfShape", &[&shape], &[("value", Attribute::Tensor(zero))])
}

fn run(builder: &mut Builder, layer: &Layer, direction: usize, backwards: bool) -> Result<Run> {
    let weights = weights(builder, layer, direction)?;
    let mut hidden = initial(builder, layer, 5, direction)?;
    let has_cell = layer.node.op == "LSTM";
    let mut cell = if has_cell { initial(builder, layer, 6, direction)? } else { String::new() };
    let mut states = Vec::with_capacity(layer.steps);
    let mut order: Vec<usize> = (0..layer.steps).collect();
    if backwards {
        order.reverse();
    }
    for step in order {
        let Some(input) = weights.inputs.get(step) else { return Err(refused("it has no steps")) };
        let (mut next, mut next_cell) = match layer.node.op.as_str() {
            "LSTM" => lstm(builder, layer, &weights, input, &hidden, &cell)?,
            "GRU" => (gru(builder, layer, &weights, input, &hidden)?, String::new()),
            _ => (rnn(builder, layer, &weights, input, &hidden)?, String::new()),
        };
        let mut state = next.clone();
        if let Some(lasts) = layer.lasts.as_ref().and_then(|masks| masks.get(step)) {
            state = builder.mul(&next, lasts)?;
            next = kept(builder, &hidden, &next, lasts)?;
            if has_cell {
                next_cell = kept(builder, &cell, &next_cell, lasts)?;
            }
        }
        (hidden, cell) = (next, next_cell);
        states.push(state);
    }
    if backwards {
        states.reverse();
    }
    Ok(Run { states, hidden, cell })
}

/// The new state of sequences that last, the old one of others.
fn kept(builder: &mut Builder, old: &str, new: &str, lasts: &str) -> Result<String> {
    let change = builder.sub(new, old)?;
    let change = builder.mul(&change, lasts)?;
    builder.add(old, &change)
}

/// An activation of a gate, which comes after the clipping of the gate.
fn gate(builder: &mut Builder, layer: &Layer, weights: &Weights, which: usize, value: &str) -> Result<String> {
    let value = clipped(builder, layer, value)?;
    activated(builder, weights, which, &value)
}

fn activated(builder: &mut Builder, weights: &Weights, which: usize, value: &str) -> Result<String> {
    match weights.activations.get(which) {
        Some(activation) => activation.emit(builder, value),
        None => Err(refused("it names too few activations")),
    }
}

fn clipped(builder: &mut Builder, layer: &Layer, value: &str) -> Result<String> {
    let Some(clip) = layer.clip else { return Ok(value.to_owned()) };
    let (low, high) = (builder.scalar((-clip).into(), value)?, builder.scalar(clip.into(), value)?);
    builder.emit("Clip", &[value, &low, &high], &[])
}

/// i, o, f: gates; c: what may go into the cell.
fn lstm(
    builder: &mut Builder,
    layer: &Layer,
    weights: &Weights,
    input: &str,
    hidden: &str,
    cell: &str,
) -> Result<(String, String)> {
    let product = builder.emit("MatMul", &[hidden, &weights.recurrence], &[])?;
    let sum = builder.add(input, &product)?;
    let gates = pieces(builder, &sum, 4, layer.hidden, 2)?;
    let [i, o, f, c] = gates.as_slice() else { return Err(refused("it has no gates")) };
    let peep = |builder: &mut Builder, gate: &str, which: usize, cell: &str| match &weights.peepholes {
        Some(peepholes) => {
            let peephole = peepholes.get(which).map_or("", String::as_str);
            let part = builder.mul(cell, peephole)?;
            builder.add(gate, &part)
        }
        None => Ok(gate.to_owned()),
    };
    let i = peep(builder, i, 0, cell)?;
    let i = gate(builder, layer, weights, 0, &i)?;
    let f = if layer.node.int("input_forget").unwrap_or(0) != 0 {
        let one = builder.scalar(1.0, &i)?;
        builder.sub(&one, &i)?
    } else {
        let f = peep(builder, f, 2, cell)?;
        gate(builder, layer, weights, 0, &f)?
    };
    let c = gate(builder, layer, weights, 1, c)?;
    let (kept, added) = (builder.mul(&f, cell)?, builder.mul(&i, &c)?);
    let cell = builder.add(&kept, &added)?;
    let o = peep(builder, o, 1, &cell)?;
    let o = gate(builder, layer, weights, 0, &o)?;
    // ONNX Runtime clips what enters the gates, not the cell.
    let shown = activated(builder, weights, 2, &cell)?;
    Ok((builder.mul(&o, &shown)?, cell))
}

/// z: how much of the state stays; r: how much of it enters the new one.
fn gru(builder: &mut Builder, layer: &Layer, weights: &Weights, input: &str, hidden: &str) -> Result<String> {
    let inputs = pieces(builder, input, 3, layer.hidden, 2)?;
    let matrices = pieces(builder, &weights.recurrence, 3, layer.hidden, 1)?;
    let ([xz, xr, xh], [rz, rr, rh]) = (inputs.as_slice(), matrices.as_slice()) else {
        return Err(refused("it has no gates"));
    };
    let bias = |which: usize| weights.recurrent_bias.as_ref().and_then(|bias| bias.get(which));
    let product = |builder: &mut Builder, state: &str, matrix: &str, which: usize| {
        let product = builder.emit("MatMul", &[state, matrix], &[])?;
        match bias(which) {
            Some(bias) => builder.add(&product, bias),
            None => Ok(product),
        }
    };
    let z = product(builder, hidden, rz, 0)?;
    let z = builder.add(xz, &z)?;
    let z = gate(builder, layer, weights, 0, &z)?;
    let r = product(builder, hidden, rr, 1)?;
    let r = builder.add(xr, &r)?;
    let r = gate(builder, layer, weights, 0, &r)?;
    let entering = if layer.node.int("linear_before_reset").unwrap_or(0) != 0 {
        let entering = product(builder, hidden, rh, 2)?;
        builder.mul(&r, &entering)?
    } else {
        let reset = builder.mul(&r, hidden)?;
        product(builder, &reset, rh, 2)?
    };
    let h = builder.add(xh, &entering)?;
    let h = gate(builder, layer, weights, 1, &h)?;
    let change = builder.sub(hidden, &h)?;
    let change = builder.mul(&z, &change)?;
    builder.add(&h, &change)
}

fn rnn(builder: &mut Builder, layer: &Layer, weights: &Weights, input: &str, hidden: &str) -> Result<String> {
    let product = builder.emit("MatMul", &[hidden, &weights.recurrence], &[])?;
    let sum = builder.add(input, &product)?;
    gate(builder, layer, weights, 0, &sum)
}
