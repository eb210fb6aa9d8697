//! Bytes that are no messages, and streams that are no uploads.

use prost::Message;
use transferscore::{
    limits,
    transport::proto::{ModelUploadHeader, UploadModelRequest, upload_model_request::Piece},
};

use super::Case;
use crate::uploads::upload;

/// Methods of each kind of call whose requests' first field is a text or a message.
const METHODS: [&str; 5] = [
    "TransferScoreService/TransferScore",
    "TransferScoreService/RankSources",
    "ModelService/GetModel",
    "DatasetService/DeleteDataset",
    "JobService/CreateJob",
];

/// What breaks the wire format, whatever the message.
const BROKEN: [(&str, &[u8]); 8] = [
    ("a field of number 0", b"\x02\x01a"),
    ("a wire type that is none", b"\x0e"),
    ("a tag that is cut off", b"\x8a"),
    ("a text that is cut off", b"\x0a\x05abc"),
    ("a length past the end of the world", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    ("a text that is no UTF-8", b"\x0a\x02\xff\xfe"),
    ("a number in place of a text", b"\x08\x01"),
    ("a group without an end", b"\x9b\x06"),
];

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in METHODS {
        let broken = |(name, bytes): &(&str, &[u8])| {
            Case::new(&format!("{name} to {method}"), method, vec![bytes.to_vec()], "REQUEST_MALFORMED", "")
        };
        cases.extend(BROKEN.iter().map(broken));
        let name = format!("no message to {method}");
        cases.push(Case::new(&name, method, Vec::new(), "REQUEST_MALFORMED", ""));
    }
    cases.extend(streams());
    cases
}

fn streams() -> Vec<Case> {
    let piece = |piece: Piece| UploadModelRequest { piece: Some(piece) }.encode_to_vec();
    let announced = upload("m", b"abc");
    let header = ModelUploadHeader { name: announced.name, sha256: announced.sha256, ..ModelUploadHeader::default() };
    let header = || piece(Piece::Header(header.clone()));
    let chunk = |bytes: &[u8]| piece(Piece::Chunk(bytes.to_vec()));
    let case = |name, messages, reason, field| Case::new(name, "ModelService/UploadModel", messages, reason, field);
    vec![
        case("an upload of nothing at all", Vec::new(), "FIELD_MISSING", "header"),
        case("an upload without a header", vec![chunk(b"abc")], "FIELD_MISSING", "header"),
        case("an upload that begins with an empty message", vec![Vec::new(), header()], "FIELD_MISSING", "header"),
        case("an upload of two headers", vec![header(), header()], "OPTION_UNSUPPORTED", "header"),
        case("an upload of an empty chunk", vec![header(), chunk(b"")], "FIELD_MISSING", "chunk"),
        case("an upload with an empty message", vec![header(), Vec::new()], "FIELD_MISSING", "chunk"),
        case("an upload with a broken message", vec![header(), b"\x0e".to_vec()], "REQUEST_MALFORMED", ""),
        case(
            "an upload of a chunk too large",
            vec![header(), chunk(&vec![0; limits::UPLOAD_CHUNK_BYTES + 1])],
            "LIMIT_EXCEEDED",
            "chunk",
        ),
        case("an upload of other bytes", vec![header(), chunk(b"abd")], "UPLOAD_MISMATCH", "header.sha256"),
    ]
}
