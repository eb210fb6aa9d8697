"""Tests of what needs neither a graphics card nor PyTorch: python3 test_gpu.py. `make test` runs them too."""

import io
import json
import math
import os
import pathlib
import struct
import sys
import tempfile
import time
import unittest
import zipfile
from contextlib import redirect_stderr

import agreement
import contenders
import machine
import main
import onnx_file
import tables


def answer(*lines):
    return "\n".join(json.dumps(line) for line in lines)


class Agreement(unittest.TestCase):
    def test_the_largest_difference_of_each_measure_over_all_sources(self):
        row = lambda name, alpha, tau: {"row": {"source": name, "scores": {"alpha1": {"value": alpha}, "tau": [tau, 2.0]}}}
        found = agreement.differences(
            answer(row("a", 0.5, 1.0), row("b", 0.25, 1.0)), answer(row("a", 0.5, 1.0), row("b", 0.2, 1.001))
        )
        self.assertEqual(found["row.source"], 0.0)
        self.assertAlmostEqual(found["row.scores.alpha1.value"], 0.2)
        self.assertAlmostEqual(found["row.scores.tau"], 0.001 / 1.001)
        self.assertEqual(agreement.worst(found), ("row.scores.alpha1.value", found["row.scores.alpha1.value"]))

    def test_the_same_answer_agrees_to_the_bit_wherever_it_was_computed(self):
        one, other = ({"value": 0.1, "samples": "64", "provider": place} for place in ("CPU", "CUDA"))
        self.assertEqual(agreement.worst(agreement.differences(answer(one), answer(other)))[1], 0.0)

    def test_what_is_absent_not_finite_or_another_text_differs_without_bound(self):
        whole = {"a": {"value": 1.0}, "b": [1, 2], "name": "x", "yes": True}
        for other in (
            {**whole, "a": {}},
            {**whole, "a": {"value": "NaN"}},
            {**whole, "a": {"value": math.nan}},
            {**whole, "a": {"value": "Infinity"}},
            {**whole, "a": {"value": None}},
            {**whole, "b": [1]},
            {**whole, "b": [1, 2, 3]},
            {**whole, "name": "y"},
            {**whole, "yes": False},
            {**whole, "more": 0},
        ):
            for pair in ((whole, other), (other, whole)):
                self.assertEqual(agreement.worst(agreement.differences(*map(answer, pair)))[1], math.inf, other)
        not_a_number = answer({"value": "NaN"})
        self.assertEqual(agreement.worst(agreement.differences(not_a_number, not_a_number))[1], math.inf)
        self.assertEqual(agreement.worst(agreement.differences("", ""))[1], math.inf)
        self.assertEqual(agreement.worst(agreement.differences(answer(whole), answer(whole, whole)))[1], math.inf)

    def test_tiny_numbers_differ_relative_to_the_smallest_scale(self):
        self.assertAlmostEqual(agreement.difference(1e-9, 3e-9), 2e-6)
        self.assertAlmostEqual(agreement.difference(-1.0, 1.0), 2.0)
        self.assertEqual(agreement.difference("18446744073709551615", "18446744073709551615"), 0.0)


class Tables(unittest.TestCase):
    measured = {
        "network": "ResNet-50", "work": "attack", "precision": "tf32", "samples": 64, "tile": 16, "steps": 10,
        "seconds": {"transferscore": [2.0, 1.0, 4.0], "eager": [3.0, 1.0, 8.0]},
        "load": {"eager": 0.75}, "processor": {"eager": 1.5}, "errors": {"transferscore": {"gradient": 2e-6}},
    }

    def test_ratios_are_taken_within_rounds_and_shown_with_their_spread(self):
        lines = tables.speeds([self.measured]).splitlines()
        self.assertEqual(len({line.count("|") for line in lines}), 1)
        self.assertEqual(lines[-1], "| ResNet-50 | attack | tf32 | 64 | 16 | 32.0 | 1.50 [1.00, 2.00] | - |")

    def test_loads_have_a_row_for_each_contender_and_dashes_for_what_is_not_known(self):
        lines = tables.loads([self.measured]).splitlines()
        self.assertEqual(len({line.count("|") for line in lines}), 1)
        self.assertIn("| transferscore | 200.00 | - | - | - | 2.0e-06 | - |", lines[2])
        self.assertIn("| eager | 300.00 | 75 % | 75.00 | 150.00 | - | - |", lines[3])

    def test_an_agreement_says_whether_it_is_within_its_tolerance(self):
        call = {"call": "score", "measure": "alpha1", "setting": "float32"}
        cases = [(1e-5, 1e-4, "yes"), (1e-3, 1e-4, "**no**"), (math.inf, 1e-4, "**no**"), (1, None, "-")]
        for error, tolerance, verdict in cases:
            row = tables.agreement([{**call, "error": error, "tolerance": tolerance}]).splitlines()[-1]
            self.assertTrue(row.endswith(f"| {verdict} |"), row)

    def test_readings_that_are_missing_or_not_finite_differ_without_bound(self):
        self.assertAlmostEqual(tables.readings_error([1.0, 2.0], [1.0, 2.5]), 0.2)
        for readings in ([], [1.0], [1.0, math.nan], [math.nan, 2.0], [1.0, math.inf]):
            self.assertEqual(tables.readings_error(readings, [1.0, 2.0]), math.inf, readings)


class Machine(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def made(self, path):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        return file

    def test_libraries_of_cuda_are_found_beside_pytorch_whichever_package_has_them(self):
        cuda = self.made("packages/nvidia/cu13/lib/libcublas.so.13").parent
        cudnn = self.made("packages/nvidia/cudnn/lib/libcudnn.so.9").parent
        self.made("packages/nvidia/cublas/lib/libcublas.so.12")
        self.made("packages/nvidia/nccl/lib/libnccl.so.2")
        packages = [self.folder / "nowhere", self.folder / "packages"]
        self.assertEqual(machine.cuda_folders(packages), [cuda, cudnn])
        path = machine.library_path(packages, {"LD_LIBRARY_PATH": f"/before::{cudnn}"}).split(":")
        self.assertEqual([path[:2], path[-1]], [[str(cuda), str(cudnn)], "/before"])
        self.assertEqual(len(path), len(set(path)))

    def test_cudnn_is_missed_before_an_operator_asks_for_it(self):
        here = pathlib.Path(sys.executable)
        name = "libno-such-library.so.9"
        later, machine.OPENED_LATER = machine.OPENED_LATER, [name]
        self.addCleanup(setattr, machine, "OPENED_LATER", later)
        self.assertIn(name, machine.missing_libraries(here, str(self.folder)))
        self.made(name)
        self.assertNotIn(name, machine.missing_libraries(here, str(self.folder)))

    def test_onnxruntime_is_found_in_its_folder_and_tells_its_version(self):
        library = self.made("libonnxruntime.so.1.31.1")
        self.made(machine.PROVIDER)
        for path in (self.folder, library):
            self.assertEqual(machine.onnxruntime_library(path), library)
        self.assertEqual(machine.onnxruntime_version(library), "1.31.1")
        with self.assertRaisesRegex(machine.Refusal, "make setup"):
            machine.onnxruntime_library(self.folder / "empty")

    def test_the_load_of_the_card_is_the_mean_of_what_was_read_in_between(self):
        lines = "print('x\\n40\\n60')"
        load = machine.CardLoad(0, [sys.executable, "-c", lines])
        self.addCleanup(lambda: load.process.stdout.close())
        self.addCleanup(load.stop)
        load.thread.join()
        at = load.readings[0][0]
        self.assertAlmostEqual(load.between(at - machine.LOAD_DELAY - 1, time.monotonic()), 0.5)
        self.assertIsNone(load.between(at, at + machine.LOAD_DELAY / 2))
        without = machine.CardLoad(0, [self.folder / "no-such-program"])
        self.assertIsNone(without.between(0, math.inf))
        without.stop()

    def test_the_time_of_a_processor_grows_with_work(self):
        before = machine.processor_seconds(os.getpid())
        if before is None:
            self.skipTest("this system does not tell")
        worked = (math.factorial(5_000) and machine.processor_seconds(os.getpid()) > before for _ in range(10_000))
        self.assertTrue(any(worked))
        self.assertIsNone(machine.processor_seconds(0))

    def test_versions_of_cudnn_are_read_from_their_number(self):
        self.assertEqual([machine.cudnn_version(number) for number in (91900, 90100, None)], ["9.19.0", "9.1.0", "unknown"])


class Arguments(unittest.TestCase):
    def refused(self, *given):
        errors = io.StringIO()
        with redirect_stderr(errors), self.assertRaises(SystemExit) as ended:
            main.read_arguments(given)
        self.assertEqual(ended.exception.code, 2, given)
        return errors.getvalue()

    def test_what_is_not_said_depends_on_the_device_and_on_haste(self):
        card, quick, processor = (main.read_arguments(given) for given in ([], ["--quick"], ["--device", "cpu", "--quick"]))
        self.assertEqual((card.device, card.batches, card.rounds), ("cuda:0", [64, 128, 256], 5))
        self.assertEqual((quick.batches, quick.networks), ([64], main.REAL_NETWORKS))
        self.assertEqual((processor.networks, processor.precisions), (["small"], ["float32"]))
        said = main.read_arguments(["--quick", "--rounds", "7", "--batches", "8,16", "--networks", "ViT-B/16"])
        self.assertEqual((said.rounds, said.batches, said.networks), (7, [8, 16], ["ViT-B/16"]))

    def test_nonsense_is_refused(self):
        for given, words in [
            (["--device", "tpu"], "give cpu, cuda or cuda:N"),
            (["--device", "cuda:x"], "give cpu, cuda or cuda:N"),
            (["--batches", "0"], "--batches"),
            (["--batches", "many"], "--batches"),
            (["--parts", "speed,all"], "all is none of agreement"),
            (["--networks", "AlexNet"], "AlexNet is none of ResNet-50"),
            (["--rounds", "0"], "--rounds must be above 0"),
            (["--device", "cpu", "--precisions", "tf32"], "float32 alone"),
            (["--output", "report.json"], "--output"),
        ]:
            self.assertIn(words, self.refused(*given))

    def test_transferscore_is_told_of_devices_only_where_there_is_a_card(self):
        run = lambda *given: main.Run(main.read_arguments(given), None, {}, {"line": ""}, pathlib.Path("."))
        self.assertEqual(run("--device", "cpu").flags("cpu"), ["--threads", "1"])
        self.assertEqual(run().flags("cpu"), ["--device", "cpu"])
        self.assertEqual(run("--channels-last").flags("cuda:0", "tf32"),
                         ["--device", "cuda:0", "--precision", "tf32", "--channels-last"])


class Contenders(unittest.TestCase):
    ANSWERS = "import sys, json\nprint(json.dumps({'readings': {}}), flush=True)\nfor line in sys.stdin:\n    "

    def contender(self, program):
        contender = contenders.Contender("it", [sys.executable, "-c", program])
        self.addCleanup(contender.process.stdout.close)
        self.addCleanup(contender.errors.close)
        self.addCleanup(contender.stop)
        return contender

    def test_the_first_time_of_a_turn_does_not_count(self):
        each = "words = line.split(); print(json.dumps({'seconds': list(range(int(words[1])))}), flush=True)"
        self.assertEqual(self.contender(self.ANSWERS + each).work("gradient", 3, 64), [1, 2, 3])

    def test_what_it_says_before_it_ends_is_told(self):
        broken = self.contender(self.ANSWERS + "print('first', file=sys.stderr); sys.exit('no memory')")
        for _ in range(2):
            with self.assertRaisesRegex(contenders.Failed, "it: (no memory|it ended)"):
                broken.work("gradient", 1, 64)
        refusing = self.contender(self.ANSWERS + "print(json.dumps({'error': 'too many'}), flush=True)")
        with self.assertRaisesRegex(contenders.Failed, "it: too many"):
            refusing.work("gradient", 1, 64)

    def test_a_round_counts_for_all_or_for_nobody(self):
        class Fake:
            def __init__(self, *seconds):
                self.left = list(seconds)

            def work(self, work, times, n_samples):
                if not self.left:
                    raise contenders.Failed("spent")
                return [self.left.pop(0)] * times

            def processor_seconds(self):
                return None

        run = main.Run(main.read_arguments(["--rounds", "3"]), None, {}, {"line": ""}, pathlib.Path("."))
        with redirect_stderr(io.StringIO()):
            found = main.rounds(run, {"a": Fake(1, 2, 3), "b": Fake(4)}, {"a": 1, "b": 2}, "attack", 64, None)
        self.assertEqual(found["seconds"], {"a": [1, 3]})
        self.assertEqual(run.problems, ["attack, 64 pictures: spent"])


class Files(unittest.TestCase):
    def test_numbers_are_encoded_as_protocol_buffers_have_them(self):
        for number, encoded in [(0, "00"), (1, "01"), (127, "7f"), (300, "ac02"), (-1, "ff" * 9 + "01")]:
            self.assertEqual(onnx_file.varint(number).hex(), encoded)
        self.assertEqual(onnx_file.field(2, "testing").hex(), "120774657374696e67")

    def test_an_archive_is_what_numpy_would_have_written(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "x.npz")
            onnx_file.write_npz(path, "x", [2, 1], struct.pack("<2f", 0.5, 1.0))
            array = zipfile.ZipFile(path).read("x.npy")
        (length,) = struct.unpack("<H", array[8:10])
        self.assertEqual((array[:8], (10 + length) % 64), (b"\x93NUMPY\x01\x00", 0))
        self.assertEqual(eval(array[10 : 10 + length]), {"descr": "<f4", "fortran_order": False, "shape": (2, 1)})
        self.assertEqual(struct.unpack("<2f", array[10 + length :]), (0.5, 1.0))


if __name__ == "__main__":
    unittest.main()
