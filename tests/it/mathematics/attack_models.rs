//! Models for attacks: a linear one whose boundaries are known, and any ONNX model through its gradient graphs.

use std::convert::Infallible;

use ndarray::{Array1, Array2, ArrayD, ArrayView2, Axis};
use transferscore::{
    attack::{Choose, Model, Pullback},
    gradient::{Graph, vjp_parts},
    runtime::{Executable, Feed, Value},
};

use crate::support::runtime;

/// W x + b.
pub struct Linear {
    /// d x n.
    pub weights: Array2<f64>,
    pub bias: Array1<f64>,
}

impl Model for Linear {
    type Error = Infallible;

    fn outputs(&self, samples: ArrayView2<'_, f32>) -> Result<Array2<f32>, Infallible> {
        Ok((samples.mapv(f64::from).dot(&self.weights.t()) + &self.bias).mapv(|z| z as f32))
    }

    fn pullback(
        &self,
        samples: ArrayView2<'_, f32>,
        choose: &mut Choose<'_, Infallible>,
    ) -> Result<Pullback, Infallible> {
        let outputs = self.outputs(samples)?;
        let cotangents = choose(0..samples.nrows(), outputs.view())?;
        let pulled = cotangents.iter().map(|c| c.mapv(f64::from).dot(&self.weights).mapv(|g| g as f32));
        Ok(Pullback { outputs, gradients: pulled.collect() })
    }
}

/// An ONNX model of images with one channel, 8 x 8.
pub struct Onnx {
    forward: Executable,
    backward: Executable,
    input: String,
    output: String,
}

impl Onnx {
    pub fn bundled(name: &str) -> Self {
        let path = format!("{}/models/{name}/model.onnx", env!("CARGO_MANIFEST_DIR"));
        let graph = Graph::parse(std::fs::read(path).unwrap().into()).unwrap();
        let (input, output) = (graph.inputs()[0].name.clone(), graph.outputs()[0].name.clone());
        let parts = vjp_parts(&graph, &[&input], &[&output]).unwrap();
        let compile = |graph: &Graph| runtime().compile(graph.to_onnx()).unwrap();
        Onnx { forward: compile(&parts.forward), backward: compile(&parts.backward), input, output }
    }

    fn images(samples: ArrayView2<'_, f32>) -> ArrayD<f32> {
        samples.to_owned().into_shape_with_order(vec![samples.nrows(), 1, 8, 8]).unwrap()
    }

    fn named(given: &[Value], name: &str, rows: usize) -> Array2<f32> {
        let value = given.iter().find(|value| value.name() == name).unwrap().view().unwrap();
        value.to_shape((rows, value.len() / rows)).unwrap().to_owned()
    }
}

impl Model for Onnx {
    type Error = Infallible;

    fn outputs(&self, samples: ArrayView2<'_, f32>) -> Result<Array2<f32>, Infallible> {
        Ok(self.pullback(samples, &mut |_, _| Ok(Vec::new()))?.outputs)
    }

    /// Two rows at a time, so that whoever chooses sees several calls.
    fn pullback(
        &self,
        samples: ArrayView2<'_, f32>,
        choose: &mut Choose<'_, Infallible>,
    ) -> Result<Pullback, Infallible> {
        let (mut outputs, mut gradients) = (Vec::new(), Vec::<Vec<Array2<f32>>>::new());
        for (tile, rows) in samples.axis_chunks_iter(Axis(0), 2).enumerate() {
            let images = Onnx::images(rows);
            let saved = self.forward.run(&[(&self.input, images.view().into())]).unwrap();
            let given = Onnx::named(&saved, &self.output, rows.nrows());
            let cotangents = choose(2 * tile..2 * tile + rows.nrows(), given.view())?;
            gradients.resize_with(cotangents.len(), Vec::new);
            for (all, cotangents) in gradients.iter_mut().zip(cotangents) {
                let (name, cotangents) = (format!("cotangent/{}", self.output), cotangents.into_dyn());
                let mut feeds: Vec<(&str, Feed<'_>)> =
                    vec![(&name, cotangents.view().into()), (&self.input, images.view().into())];
                feeds.extend(saved.iter().map(|value| (value.name(), value.into())));
                feeds.retain(|(name, _)| self.backward.inputs().iter().any(|input| input.name == *name));
                let pulled = self.backward.run(&feeds).unwrap();
                all.push(Onnx::named(&pulled, &format!("gradient/{}", self.input), rows.nrows()));
            }
            outputs.push(given);
        }
        let stack = |tiles: &Vec<Array2<f32>>| {
            ndarray::concatenate(Axis(0), &tiles.iter().map(|tile| tile.view()).collect::<Vec<_>>()).unwrap()
        };
        Ok(Pullback { outputs: stack(&outputs), gradients: gradients.iter().map(stack).collect() })
    }
}

/// A one in each row.
pub fn one_hot(classes: &[usize], width: usize) -> Array2<f32> {
    let mut target = Array2::zeros((classes.len(), width));
    classes.iter().enumerate().for_each(|(row, &class)| target[[row, class]] = 1.0);
    target
}
