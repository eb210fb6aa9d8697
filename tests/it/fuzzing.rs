//! The fuzz targets, and the files that fuzzing begins with: each is taken or refused as its name says, and what is near
//! them ends no process.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::{collections::BTreeSet, fs};

use prost_reflect::DescriptorPool;
use transferscore::transport::{REQUESTS, proto::FILE_DESCRIPTOR_SET};

use self::targets::{TARGETS, Target};
use crate::{gradient::calculus::Random, server_process::repository};

/// Damaged copies of each file.
const COPIES: usize = 20;

/// The files of a target's corpus, in order of name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(repository("fuzz/corpus").join(target)).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn assert_answers(is_valid: bool, file: &str, target: Target, bytes: &[u8]) {
    let answer = target(bytes);
    assert_eq!(answer.is_ok(), is_valid, "{file}: {answer:?}");
}

#[test]
fn every_file_of_the_corpus_is_taken_or_refused_as_its_name_says() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        let (valid, refused): (Vec<_>, Vec<_>) = files.iter().partition(|(file, _)| file.starts_with("valid"));
        assert!(!valid.is_empty() && !refused.is_empty(), "{name} has files of both kinds");
        valid.iter().for_each(|(file, bytes)| assert_answers(true, file, *target, bytes));
        refused.iter().for_each(|(file, bytes)| assert_answers(false, file, *target, bytes));
    }
}

#[test]
fn damaged_files_of_the_corpus_end_no_process() {
    let mut random = Random::new(11);
    for (name, target) in TARGETS {
        let mut refusals = 0;
        for (_, bytes) in corpus(name).into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
            for _ in 0..COPIES {
                let mut damaged = bytes.clone();
                for _ in 0..1 + random.below(3) {
                    let at = random.below(damaged.len());
                    damaged[at] = random.below(256) as u8;
                }
                refusals += usize::from(target(&damaged).is_err());
            }
        }
        assert!(refusals > 0, "{name} noticed no damage");
    }
}

#[test]
fn every_target_has_its_program_and_its_corpus() {
    let named = |names: Vec<String>| names.into_iter().collect::<BTreeSet<String>>();
    let targets = named(TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    let manifest: toml::Table = fs::read_to_string(repository("fuzz/Cargo.toml")).unwrap().parse().unwrap();
    let programs = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap().to_owned());
    assert_eq!(named(programs.collect()), targets);
    let folders = fs::read_dir(repository("fuzz/corpus")).unwrap();
    assert_eq!(named(folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()), targets);
    for target in targets {
        let program = fs::read_to_string(repository("fuzz/fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(program.contains(&format!("transferscore_fuzz::{target}(bytes)")), "{target}: {program}");
    }
}

#[test]
fn every_request_of_the_interface_is_fuzzed() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let services = pool.services().filter(|service| service.package_name() == "transferscore.v1");
    let methods: Vec<_> = services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    let requests: BTreeSet<String> = methods.iter().map(|method| method.input().name().to_owned()).collect();
    let fuzzed: BTreeSet<String> = REQUESTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!((fuzzed.len(), &fuzzed), (REQUESTS.len(), &requests));
}
