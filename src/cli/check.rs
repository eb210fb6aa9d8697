//! `check`: whether a model can be differentiated, how well that agrees with finite differences, and what runs where.

use std::path::PathBuf;

use super::{Failure, json, local, options::ClientArgs, session::Session, table};
use crate::{
    config::{DeviceChoice, DeviceConfig, RuntimeSearch},
    dataset::npz,
    gradient,
    runtime::{Placed, Runtime},
    transport::proto::CheckModelResponse,
    verify::{self, Verification},
};

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Name of a model, or path of an .onnx file, which is then looked at without a server
    model: String,
    /// Measure the derivatives too, against finite differences; for a path
    #[arg(long)]
    verify: bool,
    /// Arrays named after the model's inputs, to measure or run at [default: random values in -1..1]
    #[arg(long, value_name = "FILE.npz")]
    input: Option<PathBuf>,
    /// Seed of the random values and directions
    #[arg(long, value_name = "N", default_value_t)]
    seed: u64,
    /// Measure with random weights in the place of those whose elements are all equal, as in models without training
    #[arg(long, requires = "verify")]
    random_weights: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: CheckArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    // A server's own devices are its operator's business.
    let is_placed = args.client.sources.device.device != DeviceChoice::Auto;
    if args.verify && is_placed {
        return Err(Failure::usage("--verify measures on the processor; leave --device out"));
    }
    if args.verify {
        return verify(args);
    }
    if is_placed && local::path(&args.model).is_none() {
        return Err(Failure::usage("--device needs the path of an .onnx file; a model's name will not do"));
    }
    let check = match local::path(&args.model) {
        Some(path) => local::check(path)?,
        None => {
            let session = Session::open(args.client.clone()).await?;
            let check = session.client.check(&args.model).await?;
            session.close().await?;
            check
        }
    };
    match as_json {
        // One document: where nodes run, if that was asked for and can be told.
        true if is_placed && check.differentiable => {}
        true => json::print("CheckModelResponse", &check)?,
        false => print(&check)?,
    }
    if check.differentiable {
        return if is_placed { place(args) } else { Ok(()) };
    }
    Err(Failure::Work(format!("{} cannot be differentiated: {} obstacles", args.model, check.obstacles.len())))
}

/// Tells on which execution provider each node of the gradient graph of the model in a file runs.
fn place(args: CheckArgs) -> Result<(), Failure> {
    let Some(path) = local::path(&args.model) else { return Ok(()) };
    let about = |cause: &dyn std::fmt::Display| Failure::Work(format!("{}: {cause}", path.display()));
    let given = given(&args)?;
    let (graph, _) = local::read(path)?;
    let sources = args.client.sources;
    let library = RuntimeSearch::from_environment(sources.onnxruntime).find()?;
    let runtime = Runtime::load_on(&library, 1, DeviceConfig::new(sources.device)?)?;
    let folder = std::env::temp_dir().join(format!("transferscore-{}", std::process::id()));
    std::fs::create_dir(&folder).map_err(|cause| about(&cause))?;
    let placed = verify::placed(&runtime, &graph, &given, args.seed, &folder);
    std::fs::remove_dir_all(&folder).map_err(|cause| about(&cause))?;
    let placed = placed.map_err(|cause| about(&cause))?;
    let own = runtime.devices().first().map_or("", |device| device.provider());
    if args.client.json {
        let rows: Vec<serde_json::Value> = placed.iter().map(placed_as_json).collect();
        println!("{}", serde_json::json!({ "provider": own, "operators": rows }));
        return Ok(());
    }
    let mut rows = table::with_columns(["operator", "runs on", "nodes", "names of those that fall back"]);
    for Placed { operator, provider, nodes } in placed {
        let names = if provider == own { String::new() } else { nodes.join(", ") };
        rows.add_row([operator, provider, nodes.len().to_string(), names]);
    }
    table::print(&rows)
}

fn placed_as_json(Placed { operator, provider, nodes }: &Placed) -> serde_json::Value {
    serde_json::json!({ "operator": operator, "provider": provider, "nodes": nodes })
}

/// The arrays that the model is to be run on.
fn given(args: &CheckArgs) -> Result<verify::Given, Failure> {
    let Some(file) = &args.input else { return Ok(verify::Given::new()) };
    let opened = std::fs::File::open(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    npz::read_all(&file.display().to_string(), opened).map_err(Failure::Work)
}

/// Measures the derivatives of the model in a file.
fn verify(args: CheckArgs) -> Result<(), Failure> {
    let path = local::path(&args.model)
        .ok_or_else(|| Failure::usage("--verify needs the path of an .onnx file; a model's name will not do"))?;
    let given = given(&args)?;
    let (mut graph, _) = local::read(path)?;
    if args.random_weights {
        graph = gradient::with_random_weights(&graph, args.seed)
            .map_err(|error| Failure::Work(format!("{}: {error}", path.display())))?;
    }
    let library = RuntimeSearch::from_environment(args.client.sources.onnxruntime).find()?;
    let runtime = Runtime::load(&library, 1)?;
    let measured = verify::verify(&runtime, &graph, &given, args.seed)
        .map_err(|error| Failure::Work(format!("{}: {error}", path.display())))?;
    if args.client.json {
        println!("{}", measured_as_json(&measured));
    } else {
        print_measured(&measured)?;
    }
    if measured.passes() {
        return Ok(());
    }
    Err(Failure::Work(format!(
        "{}: the largest relative error is {:.1e}, more than the {:.0e} allowed",
        path.display(),
        measured.worst(),
        measured.tolerance
    )))
}

fn measured_as_json(measured: &Verification) -> serde_json::Value {
    let agreements: Vec<serde_json::Value> = measured
        .agreements
        .iter()
        .map(|agreement| {
            serde_json::json!({
                "input": agreement.input,
                "output": agreement.output,
                "tangentError": agreement.tangent_error,
                "gradientError": agreement.gradient_error,
                "adjointError": agreement.adjoint_error,
                "roundingError": agreement.rounding_error,
                "kinkNear": agreement.kink,
                "constant": agreement.constant,
            })
        })
        .collect();
    let shapes: serde_json::Map<String, serde_json::Value> =
        measured.shapes.iter().map(|(name, shape)| (name.clone(), shape.as_slice().into())).collect();
    serde_json::json!({
        "precision": measured.precision,
        "reason": measured.reason,
        "steps": measured.steps,
        "tolerance": measured.tolerance,
        "passes": measured.passes(),
        "shapes": shapes,
        "agreements": agreements,
    })
}

fn print_measured(measured: &Verification) -> Result<(), Failure> {
    let mut facts = table::with_columns(["differences in", measured.precision]);
    if let Some(reason) = &measured.reason {
        facts.add_row(["not float64, as".to_owned(), reason.clone()]);
    }
    let [first, second] = measured.steps;
    facts.add_row(["steps".to_owned(), format!("{first:.1e}, {second:.1e}")]);
    facts.add_row(["tolerance".to_owned(), format!("{:.0e}", measured.tolerance)]);
    for (name, shape) in &measured.shapes {
        facts.add_row(["at".to_owned(), format!("{name} {shape:?}")]);
    }
    table::print(&facts)?;
    let mut rows = table::with_columns([
        "input",
        "output",
        "jvp error",
        "vjp error",
        "adjoint error",
        "float32 rounding",
        "remark",
    ]);
    for agreement in &measured.agreements {
        let remark = match (agreement.constant, agreement.kink) {
            (true, _) => "no change; errors relative to the output",
            (false, true) => "a kink is near",
            (false, false) => "",
        };
        let errors = [agreement.tangent_error, agreement.gradient_error, agreement.adjoint_error];
        let [jvp, vjp, adjoint] = errors.map(|error| format!("{error:.1e}"));
        let rounding = agreement.rounding_error.map_or_else(String::new, |error| format!("{error:.1e}"));
        let names = [agreement.input.clone(), agreement.output.clone()];
        rows.add_row(names.into_iter().chain([jvp, vjp, adjoint, rounding, remark.to_owned()]));
    }
    table::print(&rows)
}

fn print(check: &CheckModelResponse) -> Result<(), Failure> {
    let name = check.model.as_ref().map_or("", |model| model.name.as_str());
    let mut facts = table::with_columns(["model", name]);
    if let Some(model) = &check.model {
        for (direction, tensors) in [("input", &model.inputs), ("output", &model.outputs)] {
            for tensor in tensors {
                let shape = tensor.shape.join(" x ");
                facts.add_row([direction.to_owned(), format!("{}: {} [{shape}]", tensor.name, tensor.element_type)]);
            }
        }
        facts.add_row(["parameters".to_owned(), table::magnitude(model.n_parameters)]);
        if !model.problem.is_empty() {
            facts.add_row(["problem".to_owned(), model.problem.clone()]);
        }
    }
    facts.add_row(["opset".to_owned(), check.opset.to_string()]);
    let operators = check.operators.iter().map(|operator| format!("{} x {}", operator.count, operator.operator));
    facts.add_row(["operators".to_owned(), operators.collect::<Vec<_>>().join(", ")]);
    let verdict = if check.differentiable { "yes" } else { "no" };
    facts.add_row(["differentiable".to_owned(), verdict.to_owned()]);
    table::print(&facts)?;

    if check.obstacles.is_empty() {
        return Ok(());
    }
    let mut obstacles = table::with_columns(["node", "operator", "reason", "inputs that reach it"]);
    for obstacle in &check.obstacles {
        obstacles.add_row([
            obstacle.node.clone(),
            obstacle.operator.clone(),
            obstacle.reason.clone(),
            obstacle.inputs.join(", "),
        ]);
    }
    table::print(&obstacles)
}
