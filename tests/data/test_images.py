import gzip
import pickle

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_dropout_callbacks.train_subset import train_subset
from PIL import Image as PILImage

from lightning_dropout.data import ImageData
from lightning_dropout.data.augmentation import Visit

PIXELS = np.random.default_rng(0).integers(256, size=(60, 1, 8, 6), dtype=np.uint8)
LABELS = np.arange(60) % 3


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def folder(tmp_path):
    """60 grey images in the files of MNIST; the pixels of an image tell which it is."""
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", PIXELS[:, 0])
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", LABELS.astype(np.uint8))
    return str(tmp_path)


def small(folder, **kwargs):
    return ImageData(folder, **{"batch_size": 8, **kwargs})


def which(image):
    """The number of an image that was only standardised."""
    flat = PIXELS.reshape(60, -1).astype(np.float32)
    wanted = image.flatten().numpy()
    return int(np.argmax([np.corrcoef(pixels, wanted)[0, 1] for pixels in flat]))


def read(loader):
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def test_the_default_is_mnist_in_equal_parts():
    data = ImageData(batch_size=100)
    assert (data.num_channels, data.image_size, data.num_classes, data.classes[3]) == (1, (28, 28), 10, "3")
    images, labels = read(data.train_dataloader())
    assert (images.shape, images.dtype, labels.dtype) == ((4000, 1, 28, 28), torch.float32, torch.int64)
    assert labels.bincount().tolist() == [400] * 10
    assert abs(images.mean()) < 0.05
    assert abs(images.std() - 1) < 0.05
    assert read(data.val_dataloader())[1].bincount().tolist() == [100] * 10


def test_the_split_is_by_class_and_by_seed(folder):
    parts = {}
    for seed in (0, 1):
        data = small(folder, seed=seed, batch_size=100)
        train, val = (
            {which(image) for image in read(loader)[0]} for loader in (data.train_dataloader(), data.val_dataloader())
        )
        assert train | val == set(range(60))
        assert not train & val
        assert np.bincount(LABELS[list(val)]).tolist() == [4, 4, 4]
        parts[seed] = val
    assert parts[0] != parts[1]


def test_labels_stay_with_their_images(folder):
    for images, labels in [*small(folder).train_dataloader(), *small(folder).val_dataloader()]:
        assert [LABELS[which(image)] for image in images] == labels.tolist()


def epochs(data, num_workers=0):
    loader = data.train_dataloader()
    batches = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches.append(read(loader)[0])
    return batches


def test_augmentation_depends_on_seed_and_epoch_and_not_on_the_global_random_state(folder):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = epochs(small(folder, crop_padding=2, flip=0.5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = epochs(small(folder, crop_padding=2, flip=0.5))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(*(epoch.sort(0).values for epoch in first))
    assert not torch.equal(first[0], epochs(small(folder, crop_padding=2, flip=0.5, seed=1))[0])


def test_workers_give_the_same_augmented_images(folder):
    alone, helped = (epochs(small(folder, crop_padding=2, flip=0.5, num_workers=number)) for number in (0, 2))
    assert all(map(torch.equal, alone, helped))


def test_an_augmented_image_is_a_shifted_or_mirrored_one(folder):
    dataset = small(folder, crop_padding=1, flip=0.5).train_dataloader().dataset
    plain, _ = dataset[0]
    black = (0.0 - dataset.mean) / dataset.std
    padded = torch.nn.functional.pad(plain - black, [1] * 4) + black
    places = [padded[:, top : top + 8, left : left + 6] for top in range(3) for left in range(3)]
    candidates = [*places, *(place.flip(-1) for place in places)]
    seen = set()
    for epoch in range(200):
        image, _ = dataset[Visit(0, epoch)]
        seen.add(next(index for index, candidate in enumerate(candidates) if torch.allclose(candidate, image)))
    assert seen == set(range(18))


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_rate_of_flips_is_kept(folder, flip):
    dataset = small(folder, flip=flip).train_dataloader().dataset
    plain, _ = dataset[3]
    image, _ = dataset[Visit(3, epoch=5)]
    assert torch.equal(image, plain.flip(-1) if flip else plain)


def test_who_measures_on_training_data_sees_it_as_validation_would(folder):
    """So that the gap of OverfittingMonitor is that of the images, and not that of the augmentation."""
    loader = small(folder, crop_padding=2, flip=0.5).train_dataloader()
    for images, labels in train_subset(loader, num_batches=3, batch_size=8):
        for image, label in zip(images, labels, strict=True):
            number = which(image)
            expected = (torch.from_numpy(PIXELS[number]) / 255 - loader.dataset.mean) / loader.dataset.std
            assert torch.allclose(image, expected, atol=1e-5)
            assert label == LABELS[number]


def test_validation_is_not_augmented(folder):
    plain, augmented = (read(small(folder, crop_padding=padding).val_dataloader())[0] for padding in (0, 3))
    assert torch.equal(plain, augmented)


class Reader(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0].clone())
        return self.weight

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Saver(Callback):
    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(data, callbacks=(), **kwargs):
    reader = Reader()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(reader, datamodule=data, **kwargs)
    return reader.seen


def test_a_resumed_fit_sees_the_images_that_were_left_as_they_would_have_been(folder, tmp_path):
    whole = fit(small(folder, crop_padding=2, flip=0.5), [Saver(tmp_path / "a.ckpt", step=8)])
    rest = fit(small(folder, crop_padding=2, flip=0.5), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert len(whole) == 12
    assert len(rest) == 4
    assert all(map(torch.equal, whole[8:], rest))


def test_the_statistics_of_training_go_into_the_checkpoint(folder, tmp_path):
    data = small(folder)
    fit(data, [Saver(tmp_path / "a.ckpt", step=3)])
    other = tmp_path / "other"
    other.mkdir()
    write_idx(other / "train-images-idx3-ubyte", PIXELS[:, 0] // 2)
    write_idx(other / "train-labels-idx1-ubyte", LABELS.astype(np.uint8))
    loaded = ImageData.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True, path=str(other))
    loaded.setup()
    assert torch.equal(loaded.val_dataloader().dataset.mean, data.val_dataloader().dataset.mean)
    write_idx(other / "train-labels-idx1-ubyte", (LABELS // 2).astype(np.uint8))
    with pytest.raises(ValueError, match=r"^ImageData: the checkpoint has the classes 0, 1, 2, the images 0, 1\. Give"):
        ImageData.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True, path=str(other))


def test_the_test_images_of_idx_files_are_for_testing(folder, tmp_path):
    assert len(read(small(folder).test_dataloader())[0]) == 12
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", PIXELS[:7, 0])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS[:7].astype(np.uint8))
    assert [which(image) for image in read(small(folder).test_dataloader())[0]] == list(range(7))
    assert len(read(small(folder).val_dataloader())[0]) == 12
    assert torch.equal(read(small(folder).predict_dataloader())[0], read(small(folder).test_dataloader())[0])


def test_cifar_batches_are_read_and_run_no_code(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(20, 3072), dtype=np.uint8)
    for name in ("data_batch_1", "test_batch"):
        content = {b"data": pixels, b"labels": [index % 2 for index in range(20)]}
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"cat", b"dog"]}))
    data = ImageData(tmp_path, batch_size=4)
    assert (data.num_channels, data.image_size, data.classes) == (3, (32, 32), ("cat", "dog"))
    images, labels = read(data.test_dataloader())
    statistics = data.test_dataloader().dataset
    assert torch.allclose(
        (images * statistics.std + statistics.mean) * 255,
        torch.from_numpy(pixels).view(20, 3, 32, 32).float(),
        atol=1e-3,
    )
    assert labels.tolist() == [0, 1] * 10
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match=r"^ImageData: .*data_batch_1 is no batch of CIFAR \(builtins\.print"):
        ImageData(tmp_path).setup()


def write_images(folder, sizes=((6, 8),), mode="RGB"):
    for index in range(12):
        path = folder / ("cat" if index % 2 else "dog") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((*sizes[index % len(sizes)][::-1], 3), 20 * index, dtype=np.uint8)
        PILImage.fromarray(pixels).convert(mode).save(path)


def test_an_image_folder_is_read(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "test")
    data = ImageData(str(tmp_path), batch_size=4, val_fraction=0.34)
    assert (data.num_channels, data.image_size, data.classes) == (3, (8, 6), ("cat", "dog"))
    assert read(data.train_dataloader())[0].shape == (8, 3, 8, 6)
    images, labels = read(data.test_dataloader())
    levels = (images * data.test_dataloader().dataset.std + data.test_dataloader().dataset.mean)[:, 0, 0, 0] * 255 / 20
    assert [int(level) % 2 for level in levels.round()] == [1 - label for label in labels.tolist()]


def test_images_of_several_sizes_are_resized(tmp_path):
    write_images(tmp_path, sizes=((6, 8), (9, 5)), mode="L")
    assert next(iter(ImageData(str(tmp_path), batch_size=4).train_dataloader()))[0].shape[1:] in {(1, 8, 6), (1, 5, 9)}
    data = ImageData(str(tmp_path), image_size=4, batch_size=4)
    assert data.image_size == (4, 4)
    assert next(iter(data.train_dataloader()))[0].shape == (4, 1, 4, 4)


def test_parquet_files_are_read_by_column(tmp_path):
    images = [PILImage.fromarray(pixels[0]) for pixels in PIXELS]
    features = Features({"id": Value("int64"), "picture": Image(), "kind": Value("string")})
    rows = {"id": range(60), "picture": images, "kind": [f"k{label}" for label in LABELS]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "images.parquet")
    path = str(tmp_path / "*.parquet")
    data = small(path, label_column="kind")
    assert (data.num_channels, data.image_size, data.classes) == (1, (8, 6), ("k0", "k1", "k2"))
    for images, labels in data.train_dataloader():
        assert [LABELS[which(image)] for image in images] == labels.tolist()
    with pytest.raises(
        ValueError, match=r"^ImageData\(label_column='label'\): no such column\. Found: 'id', 'picture', 'kind'\.$"
    ):
        small(path).setup()
    with pytest.raises(ValueError, match=r"^ImageData\(image_column='id'\): found int in it, and no images\.$"):
        small(path, image_column="id", label_column="kind").setup()


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, r"^ImageData\(batch_size\): found 0\. Give a whole number from 1 on\.$"),
        ({"val_fraction": 1.0}, ValueError, r"^ImageData\(val_fraction\): found 1\.0\. Give a share inside"),
        ({"flip": 1.5}, ValueError, r"^ImageData\(crop_padding=0, flip=1\.5\) makes no sense\. Give crop_padding"),
        ({"image_size": 0}, ValueError, r"^ImageData\(image_size\): found 0\. Give a whole number from 1 on\.$"),
        ({"path": "gone.zip"}, FileNotFoundError, r"^ImageData: 'gone\.zip' is not there\. Give a file, a glob,"),
        ({"path": "me/gone"}, ValueError, r"^ImageData: 'me/gone' cannot be read, on disk or on the hub \(.*\)\.$"),
    ],
)
def test_bad_values_are_refused_in_one_line(kwargs, error, message):
    with pytest.raises(error, match=message):
        ImageData(**kwargs).setup()


def test_broken_files_are_refused_in_one_line(folder, tmp_path):
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", LABELS[:5].astype(np.uint8))
    with pytest.raises(ValueError, match=r"found 60 images and 5 labels\."):
        small(folder).setup()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x05" * 3))
    with pytest.raises(ValueError, match=r"^ImageData: .*ubyte\.gz is not an idx file of bytes, or was cut off\.$"):
        small(folder).setup()
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=r"found images without train-labels-idx1-ubyte\.$"):
        small(folder).setup()
