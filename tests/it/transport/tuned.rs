//! What the fake answers to a fine-tuning.

use transferscore::scoring::types::*;

use super::fake_answers::estimate;

/// A fine-tuning of two epochs.
pub fn fine_tune_scores() -> FineTuneScores {
    let epoch = |number| Epoch {
        number,
        learning_rate: 0.01,
        training_loss: 0.5,
        held_out_loss: 0.6,
        held_out_accuracy: Some(0.75),
    };
    FineTuneScores {
        accuracy: Some(estimate(0.75)),
        cross_entropy: Some(estimate(0.6)),
        r2: Some(estimate(0.5)),
        mean_squared_error: Some(estimate(0.4)),
        majority_accuracy: Some(0.5),
        runs: vec![RunLength { best: 1, run: 2 }],
        curve: vec![epoch(1), epoch(2)],
        n_trained: 12,
        n_training_samples: 6,
        n_held_out_samples: 2,
        options: FineTuneOptions {
            epochs: 2,
            learning_rate: Some(0.01),
            weight_decay: Some(0.0),
            momentum: Some(0.9),
            warm_up: Some(0.1),
            held_out: Some(0.25),
            ..FineTuneOptions::default()
        },
    }
}

/// Its model, of one and a half chunks.
pub fn fine_tuned(request: &FineTuneRequest) -> FineTuned {
    FineTuned {
        scores: fine_tune_scores(),
        onnx: vec![7; 3 << 19],
        manifest: "summary = \"\"\n".to_owned(),
        model: ModelReference { name: request.model.clone(), digest: "00".to_owned() },
        dataset: "digits".to_owned(),
        probe_digest: "11".to_owned(),
        n_samples: 8,
        dropped: Vec::new(),
        seed: request.seed,
        confidence: request.confidence,
        provider: "CPU".to_owned(),
    }
}
