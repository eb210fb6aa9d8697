//! Every method that the server answers: who may call it, and what metrics call it.

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To read what there is, to score, and to create, watch and cancel jobs.
    Score,
    /// To change which models and datasets there are.
    Manage,
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Scope::Score => "score",
            Scope::Manage => "manage",
        }
    }
}

/// Who may call a method, where the server asks for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody: whether the server is there, and what its interface is.
    Open,
    /// Whoever has a token with this scope.
    With(Scope),
}

const SCORE: Access = Access::With(Scope::Score);
const MANAGE: Access = Access::With(Scope::Manage);

/// Every method by its path, without the leading slash.
pub const METHODS: &[(&str, Access)] = &[
    ("transferscore.v1.TransferScoreService/TransferScore", SCORE),
    ("transferscore.v1.TransferScoreService/RankSources", SCORE),
    ("transferscore.v1.TransferScoreService/CompareTasks", SCORE),
    ("transferscore.v1.TransferScoreService/Attack", SCORE),
    ("transferscore.v1.TransferScoreService/FineTune", SCORE),
    ("transferscore.v1.ModelService/ListModels", SCORE),
    ("transferscore.v1.ModelService/GetModel", SCORE),
    ("transferscore.v1.ModelService/CheckModel", SCORE),
    ("transferscore.v1.ModelService/ExportGradientGraph", SCORE),
    ("transferscore.v1.ModelService/LoadModel", MANAGE),
    ("transferscore.v1.ModelService/UnloadModel", MANAGE),
    ("transferscore.v1.ModelService/UploadModel", MANAGE),
    ("transferscore.v1.DatasetService/ListDatasets", SCORE),
    ("transferscore.v1.DatasetService/GetDataset", SCORE),
    ("transferscore.v1.DatasetService/UploadDataset", MANAGE),
    ("transferscore.v1.DatasetService/DeleteDataset", MANAGE),
    ("transferscore.v1.JobService/CreateJob", SCORE),
    ("transferscore.v1.JobService/GetJob", SCORE),
    ("transferscore.v1.JobService/ListJobs", SCORE),
    ("transferscore.v1.JobService/WatchJob", SCORE),
    ("transferscore.v1.JobService/CancelJob", SCORE),
    ("grpc.health.v1.Health/Check", Access::Open),
    ("grpc.health.v1.Health/List", Access::Open),
    ("grpc.health.v1.Health/Watch", Access::Open),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Open),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Open),
];

/// The method of a request's path, as metrics call it: one of the table, or `unknown`.
pub fn label(path: &str) -> &'static str {
    find(path).map_or("unknown", |(name, _)| name)
}

/// Who may call the method of a path. One that is not in the table takes the most.
pub fn access(path: &str) -> Access {
    find(path).map_or(MANAGE, |(_, access)| access)
}

fn find(path: &str) -> Option<(&'static str, Access)> {
    let path = path.strip_prefix('/')?;
    METHODS.iter().find(|(name, _)| *name == path).copied()
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_that_is_served_is_in_the_table() {
        let mut served = Vec::new();
        for set in [
            crate::transport::proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let methods = service.method.iter();
                    served.extend(methods.map(|m| format!("{}.{}/{}", file.package(), service.name(), m.name())));
                }
            }
        }
        assert!(served.len() > 15, "{served:?}");
        let missing: Vec<_> = served.iter().filter(|name| label(&format!("/{name}")) == "unknown").collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
    }

    #[test]
    fn whoever_changes_what_there_is_needs_leave_and_what_is_unknown_too() {
        assert_eq!(access("/transferscore.v1.ModelService/UploadModel"), MANAGE);
        assert_eq!(access("/transferscore.v1.TransferScoreService/TransferScore"), SCORE);
        assert_eq!(access("/grpc.health.v1.Health/Check"), Access::Open);
        assert_eq!(access("/transferscore.v1.ModelService/Invented"), MANAGE);
        assert_eq!(access("no path"), MANAGE);
    }
}
