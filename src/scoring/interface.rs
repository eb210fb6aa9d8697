//! How samples of a given shape enter a model: which input, which output, what preprocessing.

use crate::{
    error::{Error, Reason, Result},
    gradient::{
        Dim, ElementType, Graph, Port,
        compose::{self, Interpolation, Layout, Preprocessing},
    },
    registry::{self, Features, OutputKind, Snapshot},
};

/// The tensors that scoring uses, and what stands in front of them.
#[derive(Clone, Debug)]
pub struct Interface {
    pub input: String,
    pub output: String,
    /// The penultimate features, unless they are the output itself.
    pub features: Option<String>,
    pub output_kind: OutputKind,
    /// The batch size, where the file fixes it.
    pub fixed_batch: Option<usize>,
    preprocessing: Preprocessing,
}

impl Interface {
    /// Fits samples of `sample_shape` (`[channels, height, width]` or `[features]`) to a model of float32.
    ///
    /// # Errors
    /// [`Reason::ProbeMismatch`] when they do not fit, [`Reason::ModelInvalid`] when no samples would.
    pub fn of(snapshot: &Snapshot, graph: &Graph, sample_shape: &[usize]) -> Result<Self> {
        let input = only_float_input(snapshot, graph)?;
        let output = graph
            .outputs()
            .into_iter()
            .find(|port| port.element().is_none_or(ElementType::is_float))
            .ok_or_else(|| invalid(snapshot, "it has no float output"))?;
        let shape = input.value_type.as_ref().and_then(|value_type| value_type.shape.clone());
        let preprocessing = preprocessing(snapshot, shape.as_deref(), sample_shape)?;
        let features = match &snapshot.manifest().output.features {
            Features::Tensor(name) => Some(name.clone()),
            Features::Auto => graph.features(),
        };
        Ok(Interface {
            output_kind: snapshot.manifest().output.kind.unwrap_or_else(|| output_kind(&output)),
            fixed_batch: shape.as_deref().and_then(<[Dim]>::first).and_then(Dim::known).map(|size| size as usize),
            features: features.filter(|name| *name != output.name && *name != input.name),
            input: input.name,
            output: output.name,
            preprocessing,
        })
    }

    /// The model with preprocessing in front and only the tensors of this interface as outputs.
    ///
    /// # Errors
    /// [`Reason::ModelInvalid`] when the manifest names what the graph does not have.
    pub fn compose(&self, name: &str, graph: Graph) -> Result<Graph> {
        let about = |cause| Error::new(Reason::ModelInvalid, format!("model `{name}`: {cause}"));
        let graph = compose::with_preprocessing(&graph, &self.input, &self.preprocessing).map_err(about)?;
        let mut outputs = vec![self.output.as_str()];
        outputs.extend(self.features.as_deref());
        compose::with_outputs(&graph, &outputs).map_err(about)
    }
}

fn only_float_input(snapshot: &Snapshot, graph: &Graph) -> Result<Port> {
    let mut inputs = graph.inputs();
    let input = inputs.pop().ok_or_else(|| invalid(snapshot, "it has no input"))?;
    if !inputs.is_empty() {
        return Err(invalid(snapshot, "it has several inputs; models with one float input can be scored"));
    }
    match input.element() {
        Some(ElementType::Float32) => Ok(input),
        found => {
            let found = found.map_or("untyped", ElementType::name);
            Err(invalid(snapshot, &format!("its input `{}` is {found}; only floats can be scored", input.name)))
        }
    }
}

/// Flat outputs are taken for logits, maps for dense.
fn output_kind(output: &Port) -> OutputKind {
    match output.value_type.as_ref().and_then(|value_type| value_type.rank()) {
        Some(rank) if rank > 2 => OutputKind::Dense,
        _ => OutputKind::Logits,
    }
}

fn preprocessing(snapshot: &Snapshot, declared: Option<&[Dim]>, sample_shape: &[usize]) -> Result<Preprocessing> {
    let manifest = &snapshot.manifest().input;
    let known = |axis: usize| declared.and_then(|shape| shape.get(axis)).and_then(Dim::known).map(|size| size as usize);
    let rank = declared.map(<[Dim]>::len);
    let does_not_fit = |wanted: String| {
        Error::new(
            Reason::ProbeMismatch,
            format!(
                "samples of shape {sample_shape:?} do not fit model `{}`, which takes {wanted}; \
                 choose a dataset of that shape, or set [input] in its model.toml",
                snapshot.name()
            ),
        )
    };
    match sample_shape {
        [channels, height, width] => {
            if rank.is_some_and(|rank| rank != 4) {
                return Err(does_not_fit(format!("{} dimensions with the batch", rank.unwrap_or_default())));
            }
            // A declared shape that only makes sense with the channels last says as much as a manifest.
            let channels_last = known(1).is_some_and(|size| size != *channels) && known(3) == Some(*channels);
            let nhwc = manifest.layout == registry::Layout::Nhwc || channels_last;
            let (channel_axis, height_axis, width_axis) = if nhwc { (3, 1, 2) } else { (1, 2, 3) };
            if let Some(wanted) = known(channel_axis).filter(|wanted| wanted != channels) {
                return Err(does_not_fit(format!("{wanted} channels")));
            }
            let declared = known(height_axis).zip(known(width_axis)).map(|(height, width)| [height, width]);
            let size = manifest.size.or(declared).filter(|size| size != &[*height, *width]);
            let (mean, std) = match &manifest.normalisation {
                Some(normalisation) => (normalisation.mean.clone(), normalisation.std.clone()),
                None => (Vec::new(), Vec::new()),
            };
            if mean.len() > 1 && mean.len() != *channels {
                return Err(does_not_fit(format!("{} channels by its model.toml", mean.len())));
            }
            let layout = if nhwc { Layout::Nhwc } else { Layout::Nchw };
            let interpolation = Interpolation::Bilinear;
            Ok(Preprocessing { sample_shape: sample_shape.to_vec(), size, interpolation, mean, std, layout })
        }
        [features] => {
            if rank.is_some_and(|rank| rank != 2) || known(1).is_some_and(|wanted| wanted != *features) {
                let wanted: Vec<String> = declared.unwrap_or_default().iter().skip(1).map(Dim::to_string).collect();
                return Err(does_not_fit(format!("[{}]", wanted.join(", "))));
            }
            Ok(Preprocessing {
                sample_shape: sample_shape.to_vec(),
                size: None,
                interpolation: Interpolation::Bilinear,
                mean: Vec::new(),
                std: Vec::new(),
                layout: Layout::Nchw,
            })
        }
        _ => Err(does_not_fit("images or vectors".to_owned())),
    }
}

fn invalid(snapshot: &Snapshot, message: &str) -> Error {
    Error::new(Reason::ModelInvalid, format!("model `{}`: {message}", snapshot.name()))
}
