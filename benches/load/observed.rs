//! What a server tells of itself, and the kernel of it.

use std::{collections::BTreeMap, fs};

use crate::{server_process::ServerProcess, support};

/// A server's memory in bytes, its threads and its open files and sockets.
pub struct Observed {
    pub resident: u64,
    pub peak: u64,
    pub threads: u64,
    pub descriptors: usize,
}

impl Observed {
    pub fn of(server: &ServerProcess) -> Observed {
        let folder = format!("/proc/{}", server.id());
        let status = fs::read_to_string(format!("{folder}/status")).expect("Linux, and a server that lives");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect(name)
        };
        Observed {
            resident: number("VmRSS:") << 10,
            peak: number("VmHWM:") << 10,
            threads: number("Threads:"),
            descriptors: fs::read_dir(format!("{folder}/fd")).expect("Linux").count(),
        }
    }
}

/// Waits until the server has noticed that its clients are gone.
pub fn until_disconnected(server: &ServerProcess) {
    let port = server.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    while support::connections(port) > 0 {
        std::thread::yield_now();
    }
}

/// How long was waited at each gate to compute: the bounds of the histogram's buckets that hold the 50th, 95th and 99th
/// percentile, in seconds.
pub fn waits(metrics: &str) -> BTreeMap<String, [String; 3]> {
    let mut gates: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for line in metrics.lines() {
        let Some(labels) = line.strip_prefix("transferscore_admission_wait_seconds_bucket{") else { continue };
        let Some((labels, count)) = labels.split_once("} ") else { continue };
        let label =
            |name: &str| labels.split(',').find_map(|label| label.strip_prefix(name)).map(|it| it.trim_matches('"'));
        let (Some(gate), Some(bound), Ok(count)) = (label("gate="), label("le="), count.parse()) else { continue };
        if gate.starts_with("compute") {
            gates.entry(gate.to_owned()).or_default().push((bound.to_owned(), count));
        }
    }
    let within = |buckets: &[(String, u64)], percent: u64| {
        let all = buckets.last().map_or(0, |(_, count)| *count);
        let found = buckets.iter().find(|(_, count)| count * 100 >= all * percent);
        found.map(|(bound, _)| bound.clone()).unwrap_or_default()
    };
    gates.into_iter().map(|(gate, buckets)| (gate, [50, 95, 99].map(|percent| within(&buckets, percent)))).collect()
}
