//! `datasets`: what there is to measure on.

use super::{Failure, json, options::ClientArgs, session::Session, table};
use crate::transport::proto::ListDatasetsResponse;

#[derive(Debug, clap::Args)]
pub struct DatasetsArgs {
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: DatasetsArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let session = Session::open(args.client).await?;
    let datasets = session.client.datasets().await?;
    session.close().await?;

    if as_json {
        return json::print("ListDatasetsResponse", &ListDatasetsResponse { datasets });
    }
    let mut rows = table::with_columns(["dataset", "format", "samples", "shape", "classes", "target", "remark"]);
    for dataset in datasets {
        let remark =
            if dataset.problem.is_empty() { dataset.summary } else { format!("unusable: {}", dataset.problem) };
        rows.add_row([
            dataset.name,
            dataset.format,
            dataset.n_samples.to_string(),
            table::shape(&dataset.shape),
            dataset.n_classes.to_string(),
            dataset.target_size.to_string(),
            remark,
        ]);
    }
    table::print(&rows)
}
