"""Writes digits.json: the oracle's values for the bundled models, in float64, from PyTorch's own gradients, and scikit-learn's
logistic regressions on their features.

Needs PyTorch, onnx, NumPy, SciPy and scikit-learn, and the oracle `transferability.py` on PYTHONPATH.
"""

import json
import pathlib

import numpy as np
import onnx
import torch
import transferability as oracle
from onnx import numpy_helper
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parent.parent / "models"
SOURCES = ["digits-0", "digits-25", "digits-50", "digits-75", "digits-100"]


def load(name):
    """The model's logits and features as a function of NCHW pixels, in float64, from the ONNX file's weights."""
    tensors = onnx.load(MODELS / name / "model.onnx").graph.initializer
    weights = {item.name: torch.tensor(numpy_helper.to_array(item)).double() for item in tensors if "." in item.name}

    def forward(images):
        values = images
        for number, stride in [(1, 1), (2, 2), (3, 1)]:
            weight, bias = weights[f"convolution{number}.weight"], weights[f"convolution{number}.weight_bias"]
            values = functional.relu(functional.conv2d(values, weight, bias, stride=stride, padding=1))
        features = values.mean((2, 3))
        return functional.linear(features, weights["head.weight"], weights["head.bias"]), features

    return forward


def evaluate(name, images):
    """Logits (N, 4), features (N, 48) and Jacobians (N, 4, 64)."""
    images = images.clone().requires_grad_(True)
    logits, features = load(name)(images)
    rows = [torch.autograd.grad(column.sum(), images, retain_graph=True)[0].flatten(1) for column in logits.T]
    return logits.detach().numpy(), features.detach().numpy(), torch.stack(rows, 1).numpy()


def logistic(features, labels, l2):
    """Least mean cross-entropy plus (l2/2)|W|^2 on standardised features."""
    varying = features.std(0) > 1e-7 * abs(features).max(0)
    features = (features - features.mean(0))[:, varying] / features.std(0)[varying]
    fit = LogisticRegression(C=1 / (l2 * len(features)), tol=1e-12, max_iter=100_000).fit(features, labels)
    loss = -fit.predict_log_proba(features)[np.arange(len(labels)), labels].mean()
    return loss + l2 / 2 * (fit.coef_**2).sum()


def main():
    probe = np.load(MODELS / "datasets" / "digits.npz")
    images = torch.tensor(probe["x"]).permute(0, 3, 1, 2).double() / 255
    one_hot = np.eye(4)[probe["y"]]
    reference_logits, _, reference_jacobians = evaluate("digits-reference", images)
    golden = {"reference_logits": reference_logits[:3].tolist(), "sources": {}}
    for name in SOURCES:
        logits, features, jacobians = evaluate(name, images)
        golden["sources"][name] = {
            "source_to_reference": oracle.first_order(jacobians, reference_jacobians)
            | {"tau2": oracle.tau2(jacobians, reference_jacobians)},
            "reference_to_source": oracle.first_order(reference_jacobians, jacobians)
            | {"tau2": oracle.tau2(reference_jacobians, jacobians)},
            "tau1": oracle.tau1(jacobians, reference_jacobians),
            "gradient_matching": oracle.gradient_matching(jacobians, reference_jacobians),
            "function_matching_least_squares": oracle.affine_fit(logits, reference_logits),
            "affine_transfer_least_squares": oracle.affine_fit(features, one_hot),
            "logistic": {str(l2): logistic(features, probe["y"], l2) for l2 in (1e-1, 1e-2, 1e-3, 1e-4)},
        }
    (HERE / "digits.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
