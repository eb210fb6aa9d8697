//! How samples of a given shape enter a model: which input, which output, what preprocessing.

use crate::{
    error::{Error, Reason, Result},
    gradient::{
        Dim, ElementType, Graph, Port,
        compose::{self, Interpolation, Layout, Preprocessing},
    },
    registry::{self, Features, OutputKind, Snapshot},
};

/// Names that are told where a request names a tensor that is not there.
const NEAR_NAMES: usize = 5;

/// The tensors that scoring uses, and what stands in front of them.
#[derive(Clone, Debug)]
pub struct Interface {
    pub input: String,
    pub output: String,
    /// The penultimate features, or the tensor that the request names, unless they are the output itself.
    pub features: Option<String>,
    /// Whether the request names them.
    pub are_features_named: bool,
    pub output_kind: OutputKind,
    /// The batch size, where the file fixes it.
    pub fixed_batch: Option<usize>,
    preprocessing: Preprocessing,
}

impl Interface {
    /// Fits samples of `sample_shape` (`[channels, height, width]` or `[features]`) to a model of float32. `feature_tensor` is
    /// read as its features in place of what the manifest says.
    ///
    /// # Errors
    /// [`Reason::ProbeMismatch`] when they do not fit, [`Reason::ModelInvalid`] when no samples would,
    /// [`Reason::OptionUnsupported`] when the model has no such tensor.
    pub fn of(
        snapshot: &Snapshot,
        graph: &Graph,
        sample_shape: &[usize],
        feature_tensor: Option<&str>,
    ) -> Result<Self> {
        let input = only_float_input(snapshot, graph)?;
        let output = graph
            .outputs()
            .into_iter()
            .find(|port| port.element().is_none_or(ElementType::is_float))
            .ok_or_else(|| invalid(snapshot, "it has no float output"))?;
        let shape = input.value_type.as_ref().and_then(|value_type| value_type.shape.clone());
        let preprocessing = preprocessing(snapshot, shape.as_deref(), sample_shape)?;
        let features = match (feature_tensor, &snapshot.manifest().output.features) {
            (Some(name), _) => Some(known_tensor(snapshot, graph, name)?),
            (None, Features::Tensor(name)) => Some(name.clone()),
            (None, Features::Auto) => graph.features(),
        };
        Ok(Interface {
            output_kind: snapshot.manifest().output.kind.unwrap_or_else(|| output_kind(&output)),
            fixed_batch: shape.as_deref().and_then(<[Dim]>::first).and_then(Dim::known).map(|size| size as usize),
            are_features_named: feature_tensor.is_some(),
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

/// Refuses a tensor that the model does not compute from its samples, naming those whose names are nearest.
fn known_tensor(snapshot: &Snapshot, graph: &Graph, name: &str) -> Result<String> {
    let mut tensors = graph.tensors();
    if tensors.iter().any(|tensor| tensor == name) {
        return Ok(name.to_owned());
    }
    tensors.sort_by_cached_key(|tensor| edits(tensor, name));
    let near: Vec<String> = tensors.iter().take(NEAR_NAMES).map(|tensor| format!("`{tensor}`")).collect();
    let message = format!(
        "model `{}` computes no tensor `{name}` from its samples; near are {}",
        snapshot.name(),
        near.join(", ")
    );
    Err(Error::new(Reason::OptionUnsupported, message).at("knowledge.feature_tensor"))
}

/// Characters that are put in, left out or changed on the way from one name to another (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut distances: Vec<usize> = (0..=to.len()).collect();
    for (index, character) in from.chars().enumerate() {
        let mut left = index + 1;
        let mut row = vec![left];
        for (other, above) in to.iter().zip(distances.windows(2)) {
            let &[diagonal, above] = above else { continue };
            left = (diagonal + usize::from(*other != character)).min(above + 1).min(left + 1);
            row.push(left);
        }
        distances = row;
    }
    distances.last().copied().unwrap_or(0)
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
