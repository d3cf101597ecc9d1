"""Reading CSV, JSON and Parquet files, folders of images or clips, and bundled data sets.

Local tables are read by pandas rather than by Hugging Face datasets: that reads CSV in chunks of
10,000 rows and fails where a later chunk needs another type, and it leaves copies and lock files
in a cache.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

from gradatim.compare.data.columns import kind_of
from gradatim.compare.data.rows import AUDIO, IMAGES, PARTS, Rows, part_name
from gradatim.compare.extras import needs_extra
from gradatim.validation import refusal

__all__ = ["TABLES", "read_bundled", "read_folder", "read_tables"]

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")

# "None" stays what it is: a class may be called so.
_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "?"]


def read_tables(paths: dict[str, Path]) -> Rows:
    r"""Read one file per part into one frame.

    Args:
        paths: files by part, "training" among them.

    Returns:
        The rows of all parts.

    Raises:
        ValueError: a file is missing, empty or malformed, or the parts have different columns.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = file.write_text("x,y\n1,no\n2,yes\n")
        >>> read_tables({"training": file}).sizes
        {'training': 2}
    """
    with needs_extra("gradatim compare"):
        import pandas as pd
    frames = {part: _read_table(part, paths[part]) for part in PARTS if part in paths}
    first = frames["training"]
    for part, frame in frames.items():
        missing = [c for c in first.columns if c not in frame.columns]
        more = [c for c in frame.columns if c not in first.columns]
        if missing or more:
            got = " and ".join(
                f"{words} {', '.join(map(repr, names[:5]))}"
                for words, names in (("none called", missing), ("in addition", more))
                if names
            )
            raise refusal(part, "a file with the columns of the training part", got)
        for column in first.columns:
            kinds = [
                kind_of(table[column]) for table in (first, frame) if table[column].notna().any()
            ]
            if len(set(kinds)) > 1:
                got = f"{kinds[1]} cells for {kinds[0]} cells in column {column!r}"
                raise refusal(part, "a file with the column types of the training part", got)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # pandas on columns without any value
        joined = pd.concat(list(frames.values()), ignore_index=True)
    sizes = {part: len(frame) for part, frame in frames.items()}
    return Rows(joined, sizes, folder=paths["training"].resolve().parent)


def _read_table(part: str, path: Path) -> Any:
    name = "data" if part == "training" else part
    if not path.is_file():
        raise refusal(name, "a file that exists", repr(str(path)))
    if path.stat().st_size == 0:
        raise refusal(name, "a file with content", f"the empty file {path.name!r}")
    read = {".json": _read_json, ".jsonl": _read_json, ".parquet": _read_parquet}
    try:
        frame = read.get(path.suffix.lower(), _read_csv)(path)
    except UnicodeDecodeError as error:
        raise refusal(name, "a file in UTF-8", repr(path.name), "Save it as UTF-8.") from error
    except (ValueError, OSError, Warning) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise refusal(
            name, f"a readable {path.suffix[1:]} file", f"{path.name}: {reason}"
        ) from error
    frame.columns = [str(column).strip() for column in frame.columns]
    if len(frame) == 0:
        raise refusal(name, "a file with at least one row", f"none in {path.name!r}")
    twice = [c for c in frame.columns if list(frame.columns).count(c) > 1]
    if twice:
        raise refusal(name, "a file with different column names", f"{twice[0]!r} twice")
    return frame


def _read_csv(path: Path) -> Any:
    with needs_extra("gradatim compare"):
        import pandas as pd
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    separator = max(",;\t", key=header.count) if path.suffix.lower() == ".csv" else "\t"
    names = [name.strip().strip("\"'") for name in header.rstrip("\n").split(separator)]
    if all(_is_number(name) for name in names):
        raise ValueError(f"its first line holds numbers ({header.strip()[:40]}), not column names")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
        return pd.read_csv(
            path,
            sep=separator,
            encoding="utf-8-sig",
            keep_default_na=False,
            na_values=_MISSING,
            index_col=False,
            skipinitialspace=True,
            low_memory=False,
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_json(path: Path) -> Any:
    with needs_extra("gradatim compare"):
        import pandas as pd
    with path.open(encoding="utf-8-sig") as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        file.seek(0)
        rows = json.load(file) if start == "[" else _json_lines(file)
    wrong = next((i for i, row in enumerate(rows) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise ValueError(f"entry {wrong} is no object with columns, but {rows[wrong]!r:.40}")
    return pd.DataFrame.from_records(rows)


def _json_lines(lines: Any) -> list[Any]:
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is no JSON ({error.msg})") from error
    return rows


def _read_parquet(path: Path) -> Any:
    with needs_extra("gradatim compare"):
        import pyarrow.parquet as parquet
    return parquet.ParquetFile(path).read().to_pandas()


def read_folder(folder: Path) -> Rows:
    """List the images or clips of a folder: one subfolder per class, or parts that hold them.

    Args:
        folder: ``cats/1.png``, or ``train/cats/1.png`` and ``test/cats/7.png``. Names that start
            with a point are passed over, and so are files of other kinds.

    Returns:
        Rows with the columns "file" (absolute paths) and "label" (names of the subfolders).

    Raises:
        ValueError: no class subfolders, an empty one, or images and clips mixed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a/1.png", "a/2.png", "b/3.png"):
        ...     (folder / name).parent.mkdir(exist_ok=True)
        ...     _ = (folder / name).write_bytes(b"")
        >>> list(read_folder(folder).frame.label)
        ['a', 'a', 'b']
    """
    with needs_extra("gradatim compare"):
        import pandas as pd
    inner = _subfolders(folder)
    roots = {part_name(path.name): path for path in inner}
    if "training" not in roots or None in roots:
        roots = {"training": folder}
    files, labels, sizes, kinds, ignored = [], [], {}, set(), 0
    for part in (part for part in PARTS if part in roots):
        before = len(files)
        for category in _subfolders(roots[part]):
            found = [f for f in sorted(category.rglob("*")) if f.is_file() and f.name[0] != "."]
            used = [f for f in found if f.suffix.lower() in IMAGES + AUDIO]
            if not used:
                raise refusal("data", "a folder with files in each class", f"none in {category}")
            ignored += len(found) - len(used)
            kinds |= {"image" if f.suffix.lower() in IMAGES else "audio" for f in used}
            files += [str(f.resolve()) for f in used]
            labels += [category.name] * len(used)
        sizes[part] = len(files) - before
        if not sizes[part]:
            rule = "a folder with one subfolder of images or WAV files per class"
            raise refusal("data", rule, f"no subfolder in {roots[part]}")
    if len(kinds) > 1:
        raise refusal("data", "a folder of images or of audio", "both")
    frame = pd.DataFrame({"file": files, "label": labels})
    notes = {"files_passed_over": ignored} if ignored else {}
    media = ("file", kinds.pop())
    return Rows(frame, sizes, label=("label",), media=media, notes=notes)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def read_bundled(name: str) -> Rows:
    """Load a data set that comes with scikit-learn, without any network.

    Args:
        name: one of `BUNDLED`.

    Returns:
        Its rows. The digits' grey values share one unit: they are divided by 16, not standardised.

    Example:
        >>> rows = read_bundled("iris")
        >>> rows.frame.shape, rows.names["target"]
        ((150, 5), ('setosa', 'versicolor', 'virginica'))
    """
    with needs_extra("gradatim compare"):
        from sklearn import datasets
    found = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = found.frame
    label = tuple(str(c) for c in frame.columns if c not in found.feature_names)
    rows = Rows(frame, {"training": len(frame)}, label=label, folder=Path(os.curdir))
    if hasattr(found, "target_names") and label == ("target",):
        rows.names["target"] = tuple(str(c) for c in found.target_names)
    if name == "digits":
        rows.scale = 16.0
    return rows
