"""Uses a running server as a Python program would: stubs from the .proto files, then calls through grpcio.

client.py ADDRESS PROTO_FOLDER; exits with a traceback at the first check that fails.
"""

import importlib
import math
import pathlib
import sys
import tempfile

import grpc
import grpc_tools
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

def generate_stubs(proto_folder, output):
    sources = sorted(str(path) for path in pathlib.Path(proto_folder, "transferscore").rglob("*.proto"))
    outputs = [f"--python_out={output}", f"--grpc_python_out={output}"]
    standard = pathlib.Path(grpc_tools.__file__).with_name("_proto")
    status = protoc.main(["protoc", f"-I{proto_folder}", f"-I{standard}", *outputs, *sources])
    assert status == 0, "protoc failed"
    sys.path.insert(0, str(output))


def error_details(error, kind):
    """The message and the details of the given kind that came with a failed call."""
    status = rpc_status.from_call(error)
    assert status is not None, "the error carries no google.rpc.Status"
    details = []
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            details.append(message)
    return details


class Checks:
    def __init__(self, channel):
        self.score_messages = importlib.import_module("transferscore.v1.scores_pb2")
        self.ranking_messages = importlib.import_module("transferscore.v1.ranking_pb2")
        self.attack_messages = importlib.import_module("transferscore.v1.attack_pb2")
        self.adversarial_messages = importlib.import_module("transferscore.v1.adversarial_pb2")
        self.fine_tune_messages = importlib.import_module("transferscore.v1.fine_tune_pb2")
        self.compare_messages = importlib.import_module("transferscore.v1.compare_pb2")
        self.model_messages = importlib.import_module("transferscore.v1.model_pb2")
        score_services = importlib.import_module("transferscore.v1.transfer_score_pb2_grpc")
        model_services = importlib.import_module("transferscore.v1.model_pb2_grpc")
        self.scores = score_services.TransferScoreServiceStub(channel)
        self.models = model_services.ModelServiceStub(channel)

    def request(self, **fields):
        defaults = dict(source_model="digits-100", reference_model="digits-reference", dataset="digits")
        return self.score_messages.TransferScoreRequest(**(defaults | fields))

    def lists_models(self):
        models = {model.name: model for model in self.models.ListModels(self.model_messages.ListModelsRequest()).models}
        assert list(models) == sorted(models), list(models)
        assert not models["digits-100"].problem, models["digits-100"].problem
        assert list(models["digits-100"].classes) == ["4", "6", "2", "7"], models["digits-100"].classes
        assert len(models["digits-100"].digest) == 64

    def scores_a_pair(self):
        answer = self.scores.TransferScore(self.request())
        for direction in (answer.source_to_reference, answer.reference_to_source):
            for estimate in (direction.alpha1, direction.alpha2, direction.combined):
                assert 0 < estimate.lower <= estimate.value <= estimate.upper <= 1, estimate
        assert 0 < answer.gradient_matching.explained.value < 1
        assert answer.provenance.n_samples == 182

    def answers_the_same_bytes_again(self):
        request = self.request(seed=7)
        first, second = (self.scores.TransferScore(request).SerializeToString(deterministic=True) for _ in range(2))
        assert first == second

    def ranks_sources(self):
        request = self.ranking_messages.RankSourcesRequest(reference_model="digits-reference", dataset="digits")
        events = list(self.scores.RankSources(request))
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds[-1] == "ranking" and kinds.count("ranking") == 1, kinds
        assert kinds.count("row") == 5, kinds
        assert "progress" in kinds, kinds
        ranked = events[-1].ranking.sources
        assert ranked[0].source_model == "digits-100" and ranked[-1].source_model == "digits-0", ranked
        assert [source.rank for source in ranked] == [1, 2, 3, 4, 5], ranked
        values = [source.value.value for source in ranked]
        assert values == sorted(values, reverse=True) and all(map(math.isfinite, values)), values

    def makes_adversarial_examples(self):
        request = self.adversarial_messages.AttackRequest(
            models=["digits-reference"], dataset="digits", max_samples=20,
            attack=self.attack_messages.AttackOptions(method="ATTACK_METHOD_FGSM", norm="NORM_LINF", epsilons=[0.05, 0.2]),
        )
        events = list(self.scores.Attack(request))
        assert events[-1].WhichOneof("event") == "summary", events[-1]
        weak, strong = events[-1].summary.radii
        assert weak.mean_loss < strong.mean_loss, events[-1]
        chunks = [event.examples for event in events if event.WhichOneof("event") == "examples"]
        assert all(max(chunk.linf_norms) <= chunk.epsilon + 1e-6 for chunk in chunks), chunks
        assert sum(len(chunk.linf_norms) for chunk in chunks) == 40

    def fine_tunes(self):
        request = self.fine_tune_messages.FineTuneRequest(
            model="digits-50", dataset="digits",
            options=self.fine_tune_messages.FineTuneOptions(mode="FINE_TUNE_MODE_WHOLE", epochs=5, learning_rate=0.03),
        )
        events = [event for event in self.scores.FineTune(request) if event.WhichOneof("event") != "progress"]
        summary = events[0].summary
        assert summary.scores.accuracy.value > summary.scores.majority_accuracy, summary
        assert summary.scores.curve[-1].training_loss < summary.scores.curve[0].training_loss, summary
        assert sum(len(event.model) for event in events[1:]) == summary.size_bytes > 0, summary

    def compares_tasks(self):
        models = ["digits-0", "digits-50", "digits-100", "digits-reference"]
        request = self.compare_messages.CompareTasksRequest(models=models, dataset="digits", max_samples=40)
        *_, last = self.scores.CompareTasks(request)
        rows = last.comparison.rows
        assert [len(row.alpha1) for row in rows] == [4] * 4, rows
        assert all(abs(row.alpha1[place].value - 1) < 1e-6 for place, row in enumerate(rows)), rows
        assert len(last.comparison.merges) == 3, last

    def explains_a_bad_request(self):
        try:
            self.scores.TransferScore(self.request(attack=self.attack_messages.AttackOptions(epsilon=-1)))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            (information,) = error_details(error, error_details_pb2.ErrorInfo)
            assert information.reason == "OPTION_OUT_OF_RANGE", information
            (bad_request,) = error_details(error, error_details_pb2.BadRequest)
            assert [violation.field for violation in bad_request.field_violations] == ["attack.epsilon"], bad_request
        else:
            raise AssertionError("an epsilon of -1 was accepted")

    def all(self):
        return [
            self.lists_models,
            self.scores_a_pair,
            self.answers_the_same_bytes_again,
            self.ranks_sources,
            self.makes_adversarial_examples,
            self.fine_tunes,
            self.compares_tasks,
            self.explains_a_bad_request,
        ]


def main():
    address, proto_folder = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as stubs, grpc.insecure_channel(address) as channel:
        generate_stubs(proto_folder, stubs)
        checks = Checks(channel).all()
        for check in checks:
            check()
            print(check.__name__, flush=True)
    print(f"{len(checks)} checks passed")


if __name__ == "__main__":
    main()
