"""The notebooks run from a clean kernel, teach, and leave nothing behind."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from ipkernel_ext.looking_magics import LookingMagics
from ipkernel_ext.magics import ParallelMagics

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def ids(path):
    return path.stem


def read(path):
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def executed(path, directory):
    """The notebook with its outputs, run in a directory of its own."""
    notebook = read(path)
    resources = {"metadata": {"path": str(directory)}}
    NotebookClient(notebook, timeout=50, kernel_name="python3", resources=resources).execute()
    return notebook


def outputs(notebook, mime="text/plain"):
    """All that was displayed in a format."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.data[mime] for output in shown if mime in output.get("data", {})]


def printed(notebook):
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in shown if output.output_type == "stream")


def test_there_are_seven():
    assert [path.stem for path in NOTEBOOKS] == [
        "checkpoint",
        "dask_beside_px",
        "images_from_engines",
        "option_surface",
        "parameter_sweep",
        "quick_tour",
        "word_count",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_it_is_valid_and_has_no_outputs(path):
    notebook = read(path)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all(cell.source.strip() for cell in notebook.cells)
    assert prose[0] is notebook.cells[0] and prose[0].source.startswith("# ")
    assert len(prose) >= 5
    assert code[-1].source.splitlines()[-1] == "%cluster stop"


def test_the_tour_shows_every_magic():
    tour = "\n".join(cell.source for cell in read(ROOT / "notebooks" / "quick_tour.ipynb").cells)
    magics = {name for kind in (ParallelMagics, LookingMagics) for names in kind.magics.values() for name in names}
    assert {name for name in magics if not re.search(rf"%{name}\b", tour)} == set()


def test_quick_tour(tmp_path):
    tour = executed(ROOT / "notebooks" / "quick_tour.ipynb", tmp_path)
    text = printed(tour)
    assert re.search(r"^\[0\] hello from process \d+$", text, re.M)
    assert "the cluster has ended" in text
    assert "Out[1:" in text
    assert "ZeroDivisionError" in text
    assert "'The Quick Brown Fox Jumps Over The Lazy Dog'" in outputs(tour)


def test_option_surface(tmp_path):
    notebook = executed(ROOT / "notebooks" / "option_surface.ipynb", tmp_path)
    assert len(outputs(notebook, "image/png")) == 1
    assert "within 2 standard errors" in printed(notebook)


def test_word_count(tmp_path):
    notebook = executed(ROOT / "notebooks" / "word_count.ipynb", tmp_path)
    assert len(outputs(notebook, "image/png")) == 1
    assert any("'the'" in shown for shown in outputs(notebook))


def test_images_from_engines(tmp_path):
    notebook = executed(ROOT / "notebooks" / "images_from_engines.ipynb", tmp_path)
    assert len(outputs(notebook, "image/png")) == 4
    labels = printed(notebook)
    assert "[0]" in labels and "[1]" in labels and "Out[1:" in labels
    assert "the area of the set is about 1.5" in labels


@pytest.mark.slow
def test_parameter_sweep(tmp_path):
    notebook = executed(ROOT / "notebooks" / "parameter_sweep.ipynb", tmp_path)
    text = printed(notebook)
    best = re.search(r"20 combinations; the best is (C=\S+, gamma=\S+): 9", text)
    assert best is not None
    assert f"GridSearchCV finds {best[1]}" in text
    assert len(outputs(notebook, "image/png")) == 1
    widgets = outputs(notebook, "application/vnd.jupyter.widget-view+json")
    assert widgets or "20/20" in text


@pytest.mark.slow
def test_dask_beside_px(tmp_path):
    notebook = executed(ROOT / "notebooks" / "dask_beside_px.ipynb", tmp_path)
    shown = outputs(notebook)
    assert "<RemoteValue walks: ndarray 2000×500 float64, 8.0 MB on engines 0-1>" in shown
    assert any(text.startswith("dask.array<concatenate, shape=(2000, 500)") for text in shown)
    assert "now the lowest step of all is 0.0" in printed(notebook)
    assert len(outputs(notebook, "image/png")) == 1


def test_checkpoint(tmp_path):
    notebook = executed(ROOT / "notebooks" / "checkpoint.ipynb", tmp_path)
    text = printed(notebook)
    assert "EngineLost - " in text and "exited with code 7" in text
    assert "generation 25 is back" in text
    assert "left out: ['above', 'below']" in text
    assert "[22, 21, 21]" in outputs(notebook)
    assert (tmp_path / "life.ckpt").exists()
