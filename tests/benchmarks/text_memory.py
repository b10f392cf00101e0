"""Peak memory of training on 6,250, 25,000 and 100,000 documents in parquet.

    python tests/benchmarks/text_memory.py

Every figure is the peak resident memory of a process of its own, in MB, that reads the documents (about 2,000
characters each, in 8 files) with ``TextData`` and trains a small network for some steps: with the tokens in a file that
is mapped into memory and written by the same process, with a stream, and with all tokens in memory. The first row is
a process that trains on random tokens and reads nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

NUM_DOCUMENTS = (6_250, 25_000, 100_000)
NUM_FILES = 8

TRAIN = """
import resource, sys, warnings
import torch
from lightning.pytorch import Trainer
from lightning_dropout import LanguageModel, TextData, Transformer

kind, folder = sys.argv[1:]
settings = {"context_length": 128, "batch_size": 16, "val_fraction": 0.05, "tokenizer": "byte"}
if kind == "nothing":
    data = torch.utils.data.DataLoader([(ids, ids) for ids in torch.randint(256, (800, 128))], batch_size=16)
else:
    options = {
        "token file": {"token_folder": f"{folder}/tokens"},
        "stream": {"streaming": True, "batches_per_epoch": 50},
        "memory": {},
    }
    data = TextData(f"{folder}/*.parquet", **settings, **options[kind])
network = Transformer(256, num_layers=2, num_heads=2, dim=64, context_length=128)
warnings.simplefilter("ignore")
trainer = Trainer(
    accelerator="cpu", max_steps=50, limit_val_batches=5, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(LanguageModel(network), data)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

WRITE = """
import random, sys
import pyarrow as pa, pyarrow.parquet as pq

path, seed, num_documents = sys.argv[1], *map(int, sys.argv[2:])
draw = random.Random(seed)
words = ["".join(draw.choices("etaoinshrdlucmfw", k=draw.randint(2, 9))) for _ in range(5000)]
texts = [" ".join(draw.choices(words, k=draw.randint(100, 500))) for _ in range(num_documents)]
pq.write_table(pa.table({"text": texts}), path)
"""


def run(code: str, *arguments: str) -> str:
    """Output of a fresh interpreter; a process inherits the peak of the one that starts it, so this one stays small."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()[-1] if done.stdout else ""


def main() -> None:
    kinds = ("token file", "stream", "memory")
    table = Table("documents", "MB of parquet", *kinds)
    table.add_row("0", "0", *[run(TRAIN, "nothing", "")] * 3)
    for num_documents in NUM_DOCUMENTS:
        with TemporaryDirectory() as folder:
            for index in range(NUM_FILES):
                run(WRITE, f"{folder}/{index}.parquet", str(index), str(num_documents // NUM_FILES))
            size = sum(path.stat().st_size for path in Path(folder).glob("*.parquet")) / 1e6
            table.add_row(f"{num_documents:,}", f"{size:.0f}", *(run(TRAIN, kind, folder) for kind in kinds))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
