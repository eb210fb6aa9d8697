//! Uploads.

use crate::{
    scoring::types::Upload,
    transport::{
        proto::{self, upload_dataset_request, upload_model_request},
        upload::Piece,
    },
};

/// What a message of a model's upload is.
pub fn model_piece(message: proto::UploadModelRequest) -> Piece<proto::ModelUploadHeader> {
    match message.piece {
        Some(upload_model_request::Piece::Header(header)) => Piece::Header(header),
        Some(upload_model_request::Piece::Chunk(chunk)) => Piece::Chunk(chunk),
        None => Piece::Empty,
    }
}

/// What a message of a dataset's upload is.
pub fn dataset_piece(message: proto::UploadDatasetRequest) -> Piece<proto::DatasetUploadHeader> {
    match message.piece {
        Some(upload_dataset_request::Piece::Header(header)) => Piece::Header(header),
        Some(upload_dataset_request::Piece::Chunk(chunk)) => Piece::Chunk(chunk),
        None => Piece::Empty,
    }
}

/// What a model's header says; the domain checks it.
pub fn model_upload(header: proto::ModelUploadHeader) -> Upload {
    let proto::ModelUploadHeader { name, sha256, size_bytes, manifest, overwrite } = header;
    Upload { name, sha256, size_bytes, manifest, overwrite }
}

/// What a dataset's header says; the domain checks it.
pub fn dataset_upload(header: proto::DatasetUploadHeader) -> Upload {
    let proto::DatasetUploadHeader { name, sha256, size_bytes, manifest, overwrite } = header;
    Upload { name, sha256, size_bytes, manifest, overwrite }
}
