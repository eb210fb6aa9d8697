//! Every bound of the service, in one place.
//!
//! Fixed bounds are constants; those that an operator sets are fields of [`crate::config::ServeConfig`] with their
//! defaults here.

/// Largest ONNX file, in bytes.
pub const MODEL_BYTES: u64 = 2 << 30;
/// Most nodes of a graph, after inlining.
pub const MODEL_NODES: usize = 200_000;
/// Deepest nesting of subgraphs.
pub const MODEL_NESTING: usize = 16;
/// What the constants of a model may take in memory beyond what they take in its file: sparse ones made dense, results
/// of computations on constants.
pub const MODEL_EXPANSION_BYTES: u64 = 512 << 20;
/// Largest constant that replaces a computation on constants, in elements.
pub const FOLDED_ELEMENTS: u64 = 1 << 22;
/// What computations on constants may read and write in one model, in bytes.
pub const FOLDING_BYTES: u64 = 2 << 30;
/// Most dimensions of a tensor.
pub const TENSOR_RANK: usize = 16;
/// Largest number of elements that a shape may declare.
pub const TENSOR_ELEMENTS: u64 = 1 << 34;
/// Largest `model.toml`, in bytes.
pub const MANIFEST_BYTES: u64 = 64 << 10;
/// Model files kept in memory, in bytes; least recently used first out.
pub const MODEL_CACHE_BYTES: u64 = 4 << 30;
/// Most entries of a model or dataset folder.
pub const FOLDER_ENTRIES: usize = 10_000;

/// Largest dataset file, in bytes.
pub const DATASET_BYTES: u64 = 4 << 30;
/// Largest dataset once decompressed, in bytes.
pub const DATASET_UNPACKED_BYTES: u64 = 8 << 30;
/// Datasets kept in memory, in bytes; least recently used first out.
pub const DATASET_CACHE_BYTES: u64 = 8 << 30;
/// Decoded samples of datasets of files kept in memory, in bytes; least recently used first out.
pub const DECODED_CACHE_BYTES: u64 = 4 << 30;
/// Most files of a dataset, and most entries of one of its folders.
pub const DATASET_FILES: usize = 1 << 21;
/// Most files that a zip archive lists: CelebA's has 202,600.
pub const ARCHIVE_FILES: u64 = 250_000;
/// Longest list of files of a zip archive, in bytes.
pub const ARCHIVE_LIST_BYTES: u64 = 32 << 20;
/// Deepest nesting of a dataset's folders.
pub const DATASET_NESTING: usize = 4;
/// Entries of a folder that are looked at to recognise a dataset.
pub const GLANCED_ENTRIES: usize = 1_000;
/// Largest file of labels, attributes or class names, in bytes.
pub const LABEL_FILE_BYTES: u64 = 256 << 20;
/// Longest name of a label, a class or a path in a dataset's manifest, in bytes.
pub const LABEL_NAME_BYTES: usize = 4_096;
/// Largest image file, in bytes.
pub const IMAGE_FILE_BYTES: u64 = 32 << 20;
/// Largest height or width of an image file.
pub const IMAGE_SIDE: u32 = 16_384;
/// Memory to decode an image file, in bytes.
pub const IMAGE_BYTES: u64 = 256 << 20;
/// Image files that are in memory together while they are decoded.
pub const IMAGES_TOGETHER: usize = 64;
/// Most operations of a pickle: one of CIFAR-10 has some forty thousand.
pub const PICKLE_OPERATIONS: usize = 1 << 20;
/// Largest header of an array in a dataset file, in bytes.
pub const ARRAY_HEADER_BYTES: usize = 64 << 10;
/// Most classes: labels are below this.
pub const CLASSES: usize = 65_536;
/// Longest name of a tensor in a request, in bytes.
pub const TENSOR_NAME_BYTES: usize = 1_024;
/// Longest model or dataset name, in bytes.
pub const NAME_BYTES: usize = 128;

/// Default of the largest file that is uploaded, in bytes.
pub const UPLOAD_BYTES: u64 = 1 << 30;
/// Default of what all uploads of a folder take on disk, in bytes.
pub const UPLOAD_SPACE_BYTES: u64 = 16 << 30;
/// Most uploaded models, and most uploaded datasets.
pub const UPLOADS: usize = 1_000;
/// Most files in an uploaded archive.
pub const UPLOADED_FILES: usize = 100_000;
/// Longest path in an uploaded archive, in bytes.
pub const UPLOADED_PATH_BYTES: usize = 1_024;
/// Samples of an uploaded dataset that are decoded to see whether they can be.
pub const CHECKED_SAMPLES: usize = 32;
/// Uploads in progress; more are refused.
pub const CONCURRENT_UPLOADS: usize = 4;
/// Largest chunk of an upload, in bytes.
pub const UPLOAD_CHUNK_BYTES: usize = 8 << 20;
/// Chunks of an upload that wait for a slow disk.
pub const UPLOAD_CHUNKS: usize = 2;
/// Seconds that an upload may take in all.
pub const UPLOAD_SECONDS: u64 = 3_600;

/// Largest request message, in bytes.
pub const MESSAGE_BYTES: usize = 64 << 20;
/// Most sources of one ranking.
pub const SOURCES: usize = 1_000;
/// Sources of a ranking that are finished together where finished ones are kept and the samples come in several groups.
pub const SOURCES_BETWEEN_UNITS: usize = 4;
/// Most models of one comparison of tasks.
pub const COMPARED_TASKS: usize = 64;
/// Most sources of a ranking that are compared each with each.
pub const COMPARED_SOURCES: usize = 100;
/// Most scores that a request names to recommend from.
pub const RECOMMENDED_SCORES: usize = 64;
/// Sources that the resamples and permutations of all correlations of a ranking visit; beyond, there are fewer of them, but
/// never fewer than [`MIN_RESAMPLES`].
pub const AGREEMENT_VISITS: usize = 1 << 23;
/// Default of the most samples of a probe set that one request uses.
pub const SAMPLES: usize = 20_000;
/// Fewest samples of a probe set: an interval of fewer means nothing.
pub const MIN_SAMPLES: usize = 8;
/// Most outputs of a model whose whole Jacobians are computed; beyond, products with it take their place.
pub const JACOBIAN_ROWS: usize = 256;
/// Largest Jacobian of one sample that is computed whole, in bytes.
pub const JACOBIAN_BYTES: usize = 64 << 20;
/// Memory for the Jacobians and perturbations of a group of samples that are worked on together, in bytes.
pub const GROUP_BYTES: usize = 1 << 30;
/// Samples of a group at least, whatever they take.
pub const GROUP_SAMPLES: usize = 16;
/// Most singular levels of the virtual attack.
pub const SINGULAR_LEVELS: usize = 16;
/// Most steps of a Lanczos iteration.
pub const LANCZOS_STEPS: usize = 512;
/// Output probes of gradient matching where a model's Jacobian is too large, by default.
pub const OUTPUT_PROBES: usize = 32;
/// Answers kept for repeated calls, in bytes; least recently used first out.
pub const ANSWER_CACHE_BYTES: u64 = 256 << 20;
/// Default memory for what one request keeps of a probe set, in bytes.
pub const REQUEST_BYTES: u64 = 4 << 30;
/// Default memory for what all requests keep, in bytes.
pub const MEMORY_BYTES: u64 = 16 << 30;
/// The part of it that large requests leave to small ones: one in so many.
pub const SMALL_REQUESTS_PART: u64 = 4;
/// Default of concurrent requests that compute.
pub const CONCURRENT_REQUESTS: usize = 2;
/// Most concurrent requests that an operator may set.
pub const MAX_CONCURRENT_REQUESTS: usize = 256;
/// Milliseconds that a request computes while others wait, before it goes to the end of the queue.
pub const TURN_MILLIS: u64 = 250;
/// Requests that wait for their turn to compute; more are refused.
pub const QUEUED_REQUESTS: usize = 64;
/// Most requests that an operator may let wait.
pub const MAX_QUEUED_REQUESTS: usize = 65_536;
/// Look-ups (listings, descriptions, checks) that run at once.
pub const CONCURRENT_LOOKUPS: usize = 8;
/// Look-ups that wait for their turn; more are refused.
pub const QUEUED_LOOKUPS: usize = 256;
/// Calls in progress on one connection.
pub const CONNECTION_STREAMS: u32 = 256;
/// TLS handshakes that go on at once.
pub const HANDSHAKES: usize = 64;
/// Seconds that a TLS handshake may take.
pub const HANDSHAKE_SECONDS: u64 = 10;
/// Largest file of certificates or of a key, in bytes.
pub const PEM_BYTES: u64 = 1 << 20;
/// Largest file of tokens, in bytes.
pub const TOKEN_FILE_BYTES: u64 = 1 << 20;
/// Seconds between looks at whether certificates and tokens have changed.
pub const RELOAD_SECONDS: u64 = 10;
/// Seconds between the sortings of what metrics recorded.
pub const METRICS_SECONDS: u64 = 5;
/// Seconds between looks at whether a device is left to run models on.
pub const DEVICE_SECONDS: u64 = 2;
/// Jobs that the status page lists.
pub const SHOWN_JOBS: usize = 50;
/// Events of a stream that wait for a slow client.
pub const STREAM_EVENTS: usize = 64;
/// Seconds for which a client may leave a full stream unread, or an upload without a chunk, before it counts as gone.
pub const STALL_SECONDS: u64 = 60;
/// Bytes of one streamed chunk.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Default of the samples that pass through models at once, for each thread.
pub const BATCH_SAMPLES: usize = 64;
/// Most samples that may pass through models at once, where the operator says how many.
pub const MAX_BATCH_SAMPLES: usize = 4_096;
/// Graphics cards that can be named.
pub const DEVICES: u32 = 64;
/// Least memory that sessions may be told to take on a graphics card, in MiB: less holds no convolution's workspace.
pub const MIN_DEVICE_MEBIBYTES: u64 = 256;
/// Sessions that run on a graphics card at once: while one computes, another's samples are on their way.
pub const SESSIONS_AT_WORK: usize = 2;
/// Default memory for compiled models between requests, in bytes; least recently used first out.
pub const NETWORK_CACHE_BYTES: u64 = 8 << 30;
/// Fewest bootstrap resamples: fewer give no stable quantile.
pub const MIN_RESAMPLES: usize = 100;
/// Bootstrap resamples where the request names none.
pub const DEFAULT_RESAMPLES: usize = 1_000;
/// Coverage of intervals where the request names none.
pub const DEFAULT_CONFIDENCE_LEVEL: f64 = 0.95;
/// Most bootstrap resamples.
pub const RESAMPLES: usize = 10_000;
/// Numbers that gradient matching keeps of a pair of models; above it, samples are summed in groups.
pub const MOMENT_NUMBERS: usize = 1 << 22;
/// Numbers that the theory checks keep of a pair of models.
pub const THEORY_NUMBERS: usize = 1 << 24;
/// Most outputs, or samples where those are fewer, between which tau2 fits a map.
pub const MOMENT_OUTPUTS: usize = 2_048;
/// Shuffles of the null distribution.
pub const NULL_SHUFFLES: usize = 200;
/// Most features or targets of an affine fit, or samples where those are fewer.
pub const FITTED_WIDTH: usize = 4_096;
/// Fewest and most shuffles of the labels for the null of an estimator; as many between as the confidence level takes.
pub const LABEL_SHUFFLES: [usize; 2] = [20, 200];
/// Most numbers of features for which an estimator that reads them all anew for each shuffle has a null.
pub const SHUFFLED_NUMBERS: usize = 1 << 22;
/// Most components of a mixture.
pub const MIXTURE_COMPONENTS: usize = 500;
/// Most samples that PARC compares each with each.
pub const PAIRED_SAMPLES: usize = 2_000;
/// Most neighbours that vote in k-NN.
pub const NEIGHBORS: u32 = 100;
/// Most pairs of one identity, and of two, that are verified.
pub const VERIFIED_PAIRS: usize = 20_000;
/// Most numbers of features, over all samples, that the knowledge measures take.
pub const FEATURE_NUMBERS: usize = 1 << 28;
/// Fewest folds of a linear probe.
pub const MIN_FOLDS: u32 = 2;
/// Most folds of a linear probe.
pub const FOLDS: u32 = 20;
/// Most epochs of a fine-tuning.
pub const FINE_TUNE_EPOCHS: u32 = 1_000;
/// Most samples that one fine-tuning passes through a model: epochs times samples times runs.
pub const FINE_TUNE_SAMPLES: u64 = 20_000_000;
/// Most samples of a batch of a fine-tuning.
pub const FINE_TUNE_BATCH: u32 = 1_024;
/// Most pixels that images are shifted by in a fine-tuning.
pub const FINE_TUNE_SHIFT: u32 = 64;
/// Most steps of an attack.
pub const ATTACK_STEPS: u32 = 1_000;
/// Most radii of one call.
pub const ATTACK_RADII: usize = 32;
/// Most runs of an attack, of which each sample's best counts.
pub const ATTACK_RESTARTS: u32 = 100;
/// Most views at different scales.
pub const ATTACK_SCALES: u32 = 16;
/// Widest kernel that gradients are smoothed with, in pixels.
pub const TRANSLATION_PIXELS: usize = 127;
/// Most classes that DeepFool considers: each costs a backward pass a step.
pub const DEEPFOOL_CANDIDATES: u32 = 1_000;
/// Most models that are attacked together.
pub const ENSEMBLE_MODELS: usize = 32;
/// Most attacked samples that a report shows.
pub const EXAMPLE_IMAGES: u32 = 24;
/// Jobs that wait for their turn; more are refused.
pub const QUEUED_JOBS: usize = 256;
/// Jobs that are remembered once they are over; the oldest are forgotten first, and so they are while the store is more than
/// half full.
pub const KEPT_JOBS: usize = 10_000;
/// Largest request of a job, in bytes.
pub const JOB_REQUEST_BYTES: usize = 8 << 20;
/// Largest unit of a job that is kept, in bytes; a larger one is computed again.
pub const JOB_UNIT_BYTES: usize = 256 << 20;
/// What the store of jobs may take on the disk, in bytes.
pub const JOB_STORE_BYTES: u64 = 8 << 30;
/// Times in a row that a process may end in the middle of a job without a unit being finished.
pub const JOB_INTERRUPTIONS: u32 = 5;
/// Longest request id of a job, in bytes.
pub const JOB_REQUEST_ID_BYTES: usize = 64;
/// Jobs of a page where the request does not say, and at most.
pub const JOB_PAGE: [usize; 2] = [50, 1_000];
/// Streams that watch jobs; more are refused.
pub const JOB_WATCHERS: usize = 256;
/// Events of a job that are read together.
pub const JOB_EVENTS: usize = 64;
/// Seconds that calls in progress get when the server stops.
pub const DRAIN_SECONDS: u64 = 10;
/// Most seconds that an operator may let calls go on while the server stops.
pub const MAX_DRAIN_SECONDS: u64 = 86_400;
/// Seconds that cancelled calls get, after the drain, to tell their clients.
pub const FLUSH_SECONDS: u64 = 2;
/// Finished spans of traces that wait to be sent; more are dropped.
pub const QUEUED_SPANS: usize = 2_048;
