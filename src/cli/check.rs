//! `check`: whether a model can be differentiated.

use super::{Failure, json, local, options::ClientArgs, session::Session, table};
use crate::transport::proto::CheckModelResponse;

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Name of a model, or path of an .onnx file, which is then looked at without a server
    model: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: CheckArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let check = match local::path(&args.model) {
        Some(path) => local::check(path)?,
        None => {
            let session = Session::open(args.client).await?;
            let check = session.client.check(&args.model).await?;
            session.close().await?;
            check
        }
    };
    if as_json {
        json::print("CheckModelResponse", &check)?;
    } else {
        print(&check)?;
    }
    if check.differentiable {
        return Ok(());
    }
    Err(Failure::Work(format!("{} cannot be differentiated: {} obstacles", args.model, check.obstacles.len())))
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
