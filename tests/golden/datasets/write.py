"""Writes small datasets with the libraries that real ones are written with: pickles of NumPy arrays, Parquet files as
Hugging Face lays them out, image files of several kinds. Nothing in them is anybody's picture.

    python -m venv /tmp/v && /tmp/v/bin/pip install numpy pyarrow pillow && /tmp/v/bin/python tests/golden/datasets/write.py
"""

import io
import json
import pathlib
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = pathlib.Path(__file__).parent


def batches():
    """Two pictures of CIFAR-10's shape: byte i of the whole is 7 i mod 251."""
    data = (np.arange(2 * 3072) * 7 % 251).astype(np.uint8).reshape(2, 3072)
    for protocol in (2, 3, 4, 5):
        batch = {b"batch_label": b"training batch 1 of 5", b"labels": [6, 9], b"data": data, b"filenames": [b"a.png", b"b.png"]}
        (HERE / f"batch_protocol_{protocol}.pickle").write_bytes(pickle.dumps(batch, protocol=protocol))
    fortran = {"labels": [6, 9], "data": np.asfortranarray(data)}
    (HERE / "batch_fortran.pickle").write_bytes(pickle.dumps(fortran, protocol=4))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (HERE / "meta.pickle").write_bytes(pickle.dumps({"label_names": names, "num_vis": 3072}, protocol=4))


def picture(index, mode="RGB"):
    """4×3 pixels; value of channel c at row h, column w: (40 h + 20 w + 10 c + index) mod 256."""
    h, w, c = np.ogrid[:4, :3, :3]
    values = ((40 * h + 20 * w + 10 * c + index) % 256).astype(np.uint8)
    return Image.fromarray(values, "RGB").convert(mode)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shards():
    """Three rows, then two, in groups of two rows, and a test file of one."""
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}
    described = {"huggingface": json.dumps({"info": {"features": features}})}
    files = {
        "train-00000-of-00002": [(0, 2), (1, 0), (2, 1)],
        "train-00001-of-00002": [(3, 0), (4, 2)],
        "test-00000-of-00001": [(5, 1)],
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata=described)
    folder = HERE / "parquet" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        images = [{"bytes": encoded(picture(index)), "path": f"{index}.png"} for index, _ in rows]
        table = pa.table({"image": images, "label": [label for _, label in rows]}, schema=schema)
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=2, compression="snappy")
    plain = pa.table({"img": [encoded(picture(7, "L"))], "fine": pa.array([4], pa.int32())})
    pq.write_table(plain, HERE / "binary_column.parquet", compression="gzip")


def images():
    (HERE / "colour.png").write_bytes(encoded(picture(0)))
    (HERE / "colour.bmp").write_bytes(encoded(picture(0), "BMP"))
    (HERE / "palette.png").write_bytes(encoded(picture(0, "P")))
    (HERE / "alpha.png").write_bytes(encoded(picture(0, "RGBA")))
    (HERE / "grey.png").write_bytes(encoded(picture(0, "L")))
    (HERE / "flat.jpg").write_bytes(encoded(Image.new("RGB", (16, 8), (200, 100, 50)), "JPEG", quality=95))
    depth = (np.arange(12, dtype=np.uint16) * 5000).reshape(4, 3)
    (HERE / "depth_16.png").write_bytes(encoded(Image.fromarray(depth)))


if __name__ == "__main__":
    batches()
    shards()
    images()
