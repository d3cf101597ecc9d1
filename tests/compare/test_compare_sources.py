"""What `load` makes of files, folders and names that strangers may have."""

import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import wavfile

from gradatim.compare.data import Source, Stress, hub, load, make_task
from gradatim.compare.data.audio import log_mel, mel_filters
from gradatim.compare.data.hub import rows_of
from gradatim.compare.data.texts import words


@pytest.fixture
def write(tmp_path):
    """Write a file of the given lines and return a source of it."""

    def as_source(*lines, name="a.csv", **parameters):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return Source(str(path), **parameters)

    return as_source


def image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def clip(path, samples, rate=16_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, samples)


def arrays(path, **named):
    np.savez(path, **named)
    return Source(str(path))


def test_a_source_survives_json_and_stays_hashable():
    source = Source("a.csv", features=["x", "y"], label="z", split=[0.5, 0.25, 0.25], limit=100)
    again = Source(**json.loads(json.dumps(dataclasses.asdict(source))))
    assert again == source
    assert hash(again) == hash(source)
    assert again.label == ("z",)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"data": 3}, TypeError, "data must be a string"),
        ({"data": ""}, ValueError, "data must be non-empty"),
        ({"text": 3}, TypeError, "text must be a string"),
        ({"features": ()}, ValueError, "features must be column names"),
        ({"features": (3,)}, TypeError, "features must be column names"),
        ({"label": ("a", "a")}, ValueError, "label must be different columns"),
        ({"task": "regresion"}, ValueError, "task must be one of.*Did you mean 'regression'"),
        ({"split": (0.5, 0.5)}, ValueError, "split must be three shares"),
        ({"split": (1, 0, 0)}, ValueError, "split must be three shares"),
        ({"image_size": 0}, ValueError, "image_size must"),
        ({"max_tokens": 0}, ValueError, "max_tokens must"),
        ({"vocabulary": 1}, ValueError, "vocabulary must"),
        ({"limit": 1}, ValueError, "limit must"),
        (
            {"text": "a", "features": "b"},
            ValueError,
            "the inputs must be one of.*features and text",
        ),
        ({"text_pair": "a"}, ValueError, "text_pair must be given with text"),
        ({"text": "a", "text_pair": "b", "max_tokens": 2}, ValueError, "with text_pair must"),
        ({"text": "a", "label": "a"}, ValueError, "label must be no input column. Got 'a'"),
        ({"label": ("a", "b"), "label_separator": ","}, ValueError, "label must be one column"),
        ({"label_separator": ",", "task": "regression"}, ValueError, "task must be 'multilabel'"),
    ],
)
def test_a_source_refuses_bad_parameters_by_name(parameters, error, message):
    with pytest.raises(error, match=message):
        Source(**parameters)


def test_a_table_is_guessed_and_the_guesses_are_said(write):
    names = [f"name number {i}" for i in range(6)]
    rows = [f"{i},{i * 0.5},{'red' if i % 2 else 'blue'},{names[i]},,{i % 2}" for i in range(6)]
    loaded = load(write("CustomerId,size,colour,who,none,churned", *rows))
    assert (loaded.kind, loaded.modality) == ("classification", "table")
    assert loaded.label_names == ("0", "1")
    assert loaded.inputs.numbers[:, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    guesses = loaded.facts["guesses"]
    assert guesses["label"] == "churned"
    assert guesses["features"] == ["size", "colour"]
    assert set(guesses["columns_not_used"]) == {"CustomerId", "who", "none"}


def test_the_label_is_found_by_its_name_before_its_place(write):
    loaded = load(write("Target,x", "a,1", "b,2", "a,3", "b,4"))
    assert loaded.facts["guesses"]["label"] == "Target"
    assert loaded.label_names == ("a", "b")
    loaded = load(write("fine_label,x", "a,1", "b,2", "a,3", "b,4", name="b.csv"))
    assert loaded.facts["guesses"]["label"] == "fine_label"


def test_other_separators_spaces_and_byte_order_marks_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeffx; y\n1; no\n2; yes\n?; no\n4; yes\n", encoding="utf-8")
    loaded = load(Source(str(path)))
    assert loaded.label_names == ("no", "yes")
    assert np.isnan(loaded.inputs.numbers[2, 0])
    path = tmp_path / "a.tsv"
    path.write_text("x,1\ty\n1\tno\n2\tNone\n3\tno\n4\tNone\n")
    assert load(Source(str(path))).label_names == ("None", "no")  # None may be a class


def test_a_column_may_change_its_type_far_down(write):
    rows = [f"{i},{i % 2}" for i in range(20_000)]
    rows[15_000] = "0.5,1"
    loaded = load(write("x,y", *rows))
    assert loaded.inputs.numbers[15_000, 0] == 0.5


def test_json_lines_json_arrays_and_parquet_read_alike(tmp_path):
    rows = [{"x": i * 1.0, "y": "ab"[i % 2], "code": "007"} for i in range(6)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.json").write_text(json.dumps(rows, indent=1))
    pd.DataFrame(rows).to_parquet(tmp_path / "c.parquet")
    found = [load(Source(str(tmp_path / name))) for name in ("a.jsonl", "b.json", "c.parquet")]
    for loaded in found:
        assert loaded.inputs.numbers[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
        assert loaded.inputs.categories == (2,)  # "007" stays a string; missing is the other
        assert loaded.targets.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([i + 0.25 for i in range(30)], "regression"),
        (list(range(1000, 1030)), "regression"),  # whole, but hardly any comes twice
        ([i % 3 for i in range(30)], "classification"),
        ([1.5, 2.5, 3.5] * 10, "classification"),
        (["yes", "no"] * 15, "classification"),
    ],
)
def test_the_task_is_guessed_from_the_labels(write, values, kind):
    source = write("x,y", *(f"{i / 7},{value}" for i, value in enumerate(values)))
    loaded = load(source)
    assert loaded.kind == loaded.facts["guesses"]["task"] == kind
    if kind == "regression":
        np.testing.assert_array_equal(loaded.targets, np.array(values, np.float32))


def test_several_label_columns_are_labels_or_targets(write):
    loaded = load(write("x,a,b", "1,0,1", "2,1,0", "3,1,1", label=("a", "b")))
    assert (loaded.kind, loaded.label_names) == ("multilabel", ("a", "b"))
    assert loaded.targets.tolist() == [[0, 1], [1, 0], [1, 1]]
    loaded = load(write("x,a,b", "1,0,1", "2,1,0.5", "3,1,1", label=("a", "b"), name="b.csv"))
    assert (loaded.kind, loaded.targets.shape) == ("regression", (3, 2))


def test_a_cell_may_hold_several_labels(write):
    source = write(
        "x,y", '1,"3, 17"', "2,", '3,"17,20"', "4,3", label="y", label_separator=",", task=None
    )
    loaded = load(source)
    assert (loaded.kind, loaded.label_names) == ("multilabel", ("3", "17", "20"))
    assert loaded.targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]]
    assert loaded.facts["guesses"]["samples_without_labels"] == 1
    single = write("x,y", "1,1234567", "2,", "3,8", label="y", label_separator="|", name="b.csv")
    assert load(single).label_names == ("8", "1234567")


def test_lists_are_sets_of_labels_or_targets(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"x": 1.0, "y": ["b", "a"]}, {"x": 2.0, "y": []}, {"x": 3.0, "y": ["b"]}]
    path.write_text("\n".join(map(json.dumps, rows)))
    loaded = load(Source(str(path)))
    assert (loaded.kind, loaded.label_names) == ("multilabel", ("a", "b"))
    assert loaded.targets.tolist() == [[1, 1], [0, 0], [0, 1]]
    path = tmp_path / "b.jsonl"
    path.write_text('{"x": 1, "y": [0.5, 2]}\n{"x": 2, "y": [1.5, 3]}\n')
    loaded = load(Source(str(path), task="regression"))
    assert loaded.targets.tolist() == [[0.5, 2], [1.5, 3]]


LONG = "this is a rather long review of a film that nobody saw, number "


def test_the_one_long_string_column_is_the_text(write):
    loaded = load(write("n,review,stars", *(f'{i},"{LONG}{i}",{i % 2}' for i in range(6))))
    assert loaded.modality == "text"
    assert loaded.inputs.first[2] == LONG + "2"
    assert loaded.facts["guesses"]["text"] == "review"
    assert loaded.facts["guesses"]["columns_not_used"] == {"n": "beside a text"}


def test_words_are_lower_cased_without_punctuation():
    assert words("It’s “fine”, DON'T!") == ["it’s", "fine", "don't"]  # noqa: RUF001
    assert words("...") == []


def test_images_are_square_and_grey_only_if_all_are(tmp_path):
    for i in range(2):
        image(tmp_path / f"g/cat/{i}.png", np.full((5, 9), 40 * i))
        image(tmp_path / f"g/dog/{i}.png", np.full((9, 5), 200))
    (tmp_path / "g/dog/.DS_Store").write_text("x")
    (tmp_path / "g/dog/notes.txt").write_text("x")
    loaded = load(Source(str(tmp_path / "g"), image_size=4))
    assert (loaded.modality, loaded.label_names) == ("image", ("cat", "dog"))
    assert (loaded.inputs.shape, loaded.inputs.dtype) == ((4, 1, 4, 4), np.uint8)
    assert loaded.inputs[:, 0, 0, 0].tolist() == [0, 40, 200, 200]
    assert loaded.facts["files_passed_over"] == 1
    colour = np.zeros((6, 6, 3))
    colour[..., 2] = 250
    image(tmp_path / "g/dog/2.png", colour)
    loaded = load(Source(str(tmp_path / "g"), image_size=5))
    assert loaded.inputs.shape == (5, 3, 5, 5)
    assert loaded.inputs[1, :, 0, 0].tolist() == [40, 40, 40]
    assert loaded.inputs[4, :, 0, 0].tolist() == [0, 0, 250]


def test_sixteen_bits_of_grey_become_eight(tmp_path):
    for name, value in (("a", 0), ("a", 257), ("b", 65_535), ("b", 25_700)):
        path = tmp_path / name / f"{value}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((3, 3), value, np.uint16)).save(path)
    loaded = load(Source(str(tmp_path), image_size=3))
    assert sorted(loaded.inputs[:, 0, 0, 0].tolist()) == [0, 1, 100, 255]


def test_parts_of_a_folder_and_image_paths_in_a_table(tmp_path):
    for part in ("train", "test"):
        for name in "ab":
            for i in range(3):
                image(tmp_path / "d" / part / name / f"{i}.png", np.full((4, 4), i))
    loaded = load(Source(str(tmp_path / "d")))
    assert {part: len(at) for part, at in loaded.parts.items()} == {"training": 6, "test": 6}
    lines = [f"train/{name}/{i}.png,{name}" for name in "ab" for i in range(3)]
    (tmp_path / "d/list.csv").write_text("\n".join(["file,label", *lines]))
    listed = load(Source(str(tmp_path / "d/list.csv")))
    assert listed.modality == "image"
    np.testing.assert_array_equal(listed.inputs, loaded.inputs[:6])


def test_a_tone_lies_in_the_band_of_its_frequency():
    """The triangle that peaks nearest to 1,000 Hz is loudest; its centre follows by hand."""
    filters = mel_filters()
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16_000)
    picture = log_mel(tone, filters)
    mel = 2595 * np.log10(1 + 1000 / 700) / (2595 * np.log10(1 + 8000 / 700)) * 65
    assert abs(int(picture.mean(1).argmax()) - (mel - 1)) <= 1
    assert picture.min() == 0
    assert picture.max() == 1
    assert not log_mel(np.zeros(1600), filters).any()


def test_clips_are_mono_at_16_khz_and_of_one_length(tmp_path):
    time = np.arange(16_000) / 16_000
    wave = np.sin(2 * np.pi * 440 * time)
    clip(tmp_path / "a/1.wav", (wave * 32_767).astype(np.int16))
    stereo = np.stack([wave, wave], axis=1).astype(np.float32)
    clip(tmp_path / "a/2.wav", stereo)
    slow = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)  # half a second at 8 kHz
    clip(tmp_path / "b/3.wav", slow.astype(np.float32), rate=8000)
    clip(tmp_path / "b/4.wav", np.zeros(16_000 * 7, np.int16))  # cut to five seconds
    loaded = load(Source(str(tmp_path)))
    assert (loaded.modality, loaded.inputs.shape) == ("spectrogram", (4, 1, 64, 498))
    assert loaded.facts["seconds"] == 5
    one, two, three = loaded.inputs[:3, 0]
    np.testing.assert_allclose(one, two, atol=0.05)
    assert three[:, :40].mean(1).argmax() == one[:, :40].mean(1).argmax()
    assert three[:, 60:].max() == 0  # silence after half a second
    assert one[:, 60:90].max() > 0.9


def test_npz_arrays_are_images_tables_or_spectrograms(tmp_path):
    y = np.array([0, 1, 0, 1])
    last = np.zeros((4, 6, 5, 3), np.uint8)
    last[1, 2, 3, 1] = 9
    loaded = load(arrays(tmp_path / "a.npz", x=last, y=y))
    assert loaded.inputs.shape == (4, 3, 6, 5)
    assert loaded.inputs[1, 1, 2, 3] == 9
    first = arrays(tmp_path / "b.npz", x=last.transpose(0, 3, 1, 2), y=y)
    np.testing.assert_array_equal(load(first).inputs, loaded.inputs)
    table = load(arrays(tmp_path / "c.npz", x=np.eye(4), y=np.array(["b", "a", "b", "a"])))
    assert (table.modality, table.label_names) == ("table", ("a", "b"))
    sound = np.arange(48.0).reshape(4, 3, 4) - 5
    np.savez(tmp_path / "d.npz", x=sound, y=y)
    spectrogram = load(Source(str(tmp_path / "d.npz"), audio="x")).inputs
    assert spectrogram.shape == (4, 1, 3, 4)
    assert spectrogram[2].min() == 0
    assert spectrogram[2].max() == 1
    labels = np.array([[0, 1], [1, 0], [1, 1], [0, 0]])
    assert load(arrays(tmp_path / "e.npz", x=np.eye(4), y=labels)).kind == "multilabel"


def test_npz_parts_are_found_by_their_names(tmp_path):
    x, y = np.eye(4), np.array([0, 1, 0, 1])
    parts = {"x_train": x, "y_train": y, "x_val": x[:2], "y_val": y[:2], "x_test": x, "y_test": y}
    loaded = load(arrays(tmp_path / "a.npz", **parts))
    sizes = {part: len(at) for part, at in loaded.parts.items()}
    assert sizes == {"training": 4, "validation": 2, "test": 4}


def test_hub_splits_keep_class_names_and_leave_secret_labels_out():
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label})

    def split(labels):
        texts = [f"text {i}" for i in range(len(labels))]
        return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features)

    found = datasets.DatasetDict(
        train=split([1, 0, 1, 0]), dev=split([0, 1]), test=split([-1, -1]), extra=split([0])
    )
    rows = rows_of(found)
    assert rows.sizes == {"training": 4, "validation": 2}
    assert rows.names["label"] == ("neg", "pos")
    assert "test_without_labels" in rows.notes
    assert rows.notes["splits_not_used"] == ["extra"]


def test_a_hub_data_set_loads_with_its_images_encoded(monkeypatch):
    datasets = pytest.importorskip("datasets")
    file = io.BytesIO()
    Image.fromarray(np.full((3, 3), 7, np.uint8)).save(file, "png")
    features = datasets.Features(
        {"img": datasets.Image(), "fine": datasets.ClassLabel(names=["a", "b", "never"])}
    )
    cells = [{"bytes": file.getvalue(), "path": None}] * 4
    data = datasets.Dataset.from_dict({"img": cells, "fine": [0, 1, 1, 0]}, features=features)
    asked = []

    def load_dataset(name, config):
        asked.append((name, config))
        return datasets.DatasetDict(train=data)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    loaded = load(Source("someone/pictures:small"))
    assert asked == [("someone/pictures", "small")]
    assert (loaded.modality, loaded.inputs.shape) == ("image", (4, 1, 32, 32))
    assert (loaded.inputs == 7).all()
    assert loaded.label_names == ("a", "b")


def test_the_global_state_of_datasets_is_as_it_was(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(hub, "_resolves", lambda address: False)
    before = datasets.are_progress_bars_disabled(), datasets.config.HF_HUB_OFFLINE
    with pytest.raises(ValueError, match="no file or folder here, and the hub says") as caught:
        load(Source("nobody-has-this"))
    assert "\n" not in str(caught.value)
    assert (datasets.are_progress_bars_disabled(), datasets.config.HF_HUB_OFFLINE) == before


BAD_FILES = {
    "an unknown column": (["x,stars", "1,a", "2,b"], {"label": "star"}, "Did you mean 'stars'"),
    "an unknown feature": (["x,y", "1,a", "2,b"], {"features": "z"}, "features must be a column"),
    "a header alone": (["x,y"], {}, "at least one row"),
    "no header": (["1,2", "3,4"], {}, "holds numbers"),
    "rows too long": (["x,y", "1,2,3", "1,2,3"], {}, "readable csv file"),
    "one class": (["x,y", "1,a", "2,a"], {}, "two different classes. Got 'a' alone"),
    "a class of one": (["x,y", "1,a", "2,a", "3,b"], {}, "Got one of 'b', row 2"),
    "missing labels": (["x,y", "1,a", "2,", "3,b", "4,NA"], {}, "label 'y' must.*rows 1, 3 "),
    "infinite labels": (["x,y", "1,1.5", "2,inf"], {"task": "regression"}, "infinite.*row 1 "),
    "infinite features": (["x,y", "1,0", "inf,1", "2,1", "3,0"], {}, "column 'x', row 1 "),
    "a constant target": (["x,y", "1,2", "2,2"], {"task": "regression"}, "different numbers"),
    "words to regress": (["x,y", "1,a", "2,b"], {"task": "regression"}, "label must be numbers"),
    "empty texts": (["t,y", "a,0", " ,1", "b,1", "c,0"], {"text": "t"}, "text 't' must.*row 1 "),
    "two texts": (
        ["s,t,y", *(f"{LONG[:40]}{i} no,{LONG[:50]}{i},{i % 2}" for i in range(4))],
        {},
        "text must be named, one of 's', 't'",
    ),
    "no input": (["y", "a", "b"], {}, "features must be columns of numbers"),
    "no label": (["x", "1", "2"], {"features": "x"}, "label must be a column beside"),
    "a label true nowhere": (["x,a,b", "1,1,0", "2,0,0"], {"label": ("a", "b")}, "none for 'b'"),
    "labels beyond 0 and 1": (
        ["x,a,b", "1,1,0", "2,0,2"],
        {"label": ("a", "b"), "task": "multilabel"},
        "0 or 1.*row 1 ",
    ),
    "missing images": (
        ["p,y", "a.png,0", ",1", "b.png,0", "c.png,1"],
        {"image": "p"},
        "image 'p' must.*row 1 ",
    ),
    "missing clips": (
        ["p,y", ",0", "a.wav,1", "b.wav,0", "c.wav,1"],
        {"audio": "p"},
        "audio 'p' must.*row 0 ",
    ),
    "numbers with commas": (
        ["x,y", *(f'"{i},5",{i % 2}' for i in range(4))],
        {},
        "x: numbers with commas",
    ),
    "one column of labels": (["x,y", "1,a", "2,b"], {"task": "multilabel"}, "label_separator"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_tables_are_refused_in_one_line(write, case):
    lines, parameters, message = BAD_FILES[case]
    with pytest.raises(ValueError, match=message) as caught:
        load(write(*lines, **parameters))
    assert "\n" not in str(caught.value)


def test_missing_empty_and_unreadable_files_are_named(tmp_path, write):
    def refused(source, message):
        with pytest.raises(ValueError, match=message):
            load(source)

    refused(Source(str(tmp_path / "gone.csv")), "data must be a file that exists.*gone.csv")
    refused(Source(str(tmp_path / "gone")), "data must be a file or folder that exists")
    (tmp_path / "empty.csv").write_text("")
    refused(Source(str(tmp_path / "empty.csv")), "the empty file 'empty.csv'")
    (tmp_path / "latin.csv").write_bytes("x,y\n1,\xe9\n".encode("latin-1"))
    refused(Source(str(tmp_path / "latin.csv")), "UTF-8")
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    refused(Source(str(tmp_path / "bad.parquet")), "readable parquet file")
    refused(write('{"x": 1}', "{", name="a.jsonl"), "line 2 is no JSON")
    (tmp_path / "a.docx").write_text("x")
    refused(Source(str(tmp_path / "a.docx")), "file of the kinds .csv")
    refused(Source("digit"), "Did you mean 'digits'")
    refused(Source("Iris"), "Did you mean 'iris'")
    refused(Source("iris", test="a.csv"), "test must be left out for a bundled data set")


def test_parts_must_fit_each_other(tmp_path, write):
    first = write("x,y", "1,a", "2,b", "3,a", "4,b")

    def refused(*lines, message):
        test = write(*lines, name="test.csv").data
        load.cache_clear()
        with pytest.raises(ValueError, match=message):
            load(dataclasses.replace(first, test=test))

    refused("z,y", "1,a", message="test must.*none called 'x' and in addition 'z'")
    refused("x,y", "one,a", message="string cells for number cells in column 'x'")
    refused("x,y", "1,c", message="in the test part too. Got 'c'")
    refused("x,y", "1,a", "2,", message="row 1 of the test part")
    with pytest.raises(ValueError, match="test must be a file that exists"):
        load(dataclasses.replace(first, test=str(tmp_path / "none.csv")))


def test_unreadable_images_and_clips_are_named(tmp_path):
    image(tmp_path / "i/a/1.png", np.zeros((3, 3)))
    (tmp_path / "i/a/2.png").write_bytes((tmp_path / "i/a/1.png").read_bytes()[:40])
    image(tmp_path / "i/b/1.png", np.zeros((3, 3)))
    image(tmp_path / "i/b/2.png", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"image 'file' must.*2\.png .*row 1 "):
        load(Source(str(tmp_path / "i")))
    for name in ("a/1.wav", "a/2.wav", "b/3.wav", "b/4.wav"):
        clip(tmp_path / "s" / name, np.zeros(800, np.int16))
    whole = (tmp_path / "s/b/3.wav").read_bytes()
    for length, case in ((0, "empty"), (30, "header"), (900, "samples")):
        (tmp_path / "s/b/3.wav").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"audio 'file' must.*3\.wav .*row 2 "):
            load(Source(str(tmp_path / "s")))
        assert case
    (tmp_path / "s/b/3.wav").rename(tmp_path / "s/b/3.mp3")
    with pytest.raises(ValueError, match=r"3\.mp3.*Convert it"):
        load(Source(str(tmp_path / "s")))
    image(tmp_path / "s/c/1.png", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"images or of audio\. Got both"):
        load(Source(str(tmp_path / "s")))
    (tmp_path / "s/d").mkdir()
    with pytest.raises(ValueError, match="files in each class"):
        load(Source(str(tmp_path / "s")))
    with pytest.raises(ValueError, match="one subfolder"):
        load(Source(str(tmp_path / "s/d")))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"x": np.array([{}, []], object), "y": [0, 1]}, "arrays of Python objects"),
        ({"a": [1.0]}, "with x and y.*Got a"),
        ({"x": np.eye(3), "y": [0, 1]}, "one label or one row of labels per sample"),
        ({"x": np.zeros((4, 2, 2, 2)), "y": [0, 1, 0, 1]}, "uint8 images.*audio='x'"),
        ({"x": np.zeros((4, 2, 2, 5), np.uint8), "y": [0, 1, 0, 1]}, "uint8 images"),
        ({"x": np.array([[1.0], [np.inf]]), "y": [0, 1]}, "x must be finite.*row 1 "),
        ({"x": np.array([["a"], ["b"]]), "y": [0, 1]}, "x must be numbers"),
        ({"x_train": np.eye(2), "y_train": [0, 1], "x_test": np.eye(2)}, "with x and y"),
        (
            {"x_train": np.eye(2), "y_train": [0, 1], "x_test": np.eye(3), "y_test": [0, 1, 1]},
            "in every part",
        ),
    ],
)
def test_bad_npz_files_are_refused(tmp_path, named, message):
    with pytest.raises(ValueError, match=message):
        load(arrays(tmp_path / "a.npz", **named))


def test_dates_and_mixed_cells_are_left_out_and_said(tmp_path):
    frame = pd.DataFrame(
        {
            "when": pd.date_range("2020", periods=6),
            "humid": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "mixed": [1, "a", 2, "b", 3, "c"],
            "paid": pd.Categorical(["u", "v", None, "u", "v", "u"]),
            "y": [True, False] * 3,
        }
    )
    frame.drop(columns="mixed").to_parquet(tmp_path / "a.parquet")
    loaded = load(Source(str(tmp_path / "a.parquet")))
    assert loaded.facts["guesses"]["features"] == ["humid", "paid"]
    assert loaded.facts["guesses"]["columns_not_used"] == {"when": "date cells"}
    assert loaded.label_names == ("False", "True")
    rows = [{"x": i, "m": cell, "y": i % 2} for i, cell in enumerate(frame.mixed)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loaded = load(Source(str(tmp_path / "b.jsonl")))
    assert loaded.facts["guesses"]["columns_not_used"] == {"m": "mixed cells"}


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "iris", "diabetes", "linnerud"])
def test_bundled_sets_become_tasks_whose_facts_are_json(name):
    task = make_task(load(Source(name)), Stress(), seed=0)
    assert json.loads(json.dumps(task.facts))["sizes"]["test"] == len(task.test)
    numbers = task.training.features.double()
    assert numbers.mean(0).abs().max() < 1e-6
    assert (numbers.std(0, correction=0) - 1).abs().max() < 1e-6
