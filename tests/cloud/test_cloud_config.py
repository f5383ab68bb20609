from __future__ import annotations

from pathlib import Path

import pytest

from skerry_cloud.config import load_project, load_projects
from skerry_cloud.errors import ConfigError

WHOLE = """
model = "digits"
dataset = "data/digits.npz"
[labels]
workforce = "simulated"
oracle = "oracle.jsonl"
[train]
parameters = { hidden_layer_sizes = [64] }
shift_pixels = 1
image_shape = [8, 8]
[[targets]]
profile = "host"
group = "cameras"
[[targets]]
profile = "rpi4"
deploy = false
"""


def write(folder: Path, text: str, name: str = "digits.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_paths_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, WHOLE))
    assert project.dataset == str(tmp_path / "data" / "digits.npz")
    assert project.labels.oracle == str(tmp_path / "oracle.jsonl")
    assert [(each.profile, each.group, each.deploy) for each in project.targets] == [
        ("host", "cameras", True),
        ("rpi4", None, False),
    ]
    assert project.train.parameters == {"hidden_layer_sizes": [64]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('dataset = "x"', "model: is missing"),
        ('model = "digits"\ndataset = "x"\ncolour = 1', "no setting 'colour'"),
        ('model = "digits"\ndataset = "x"\n[train]\ntrainer = "magic"', "no trainer"),
        ('model = "digits"\ndataset = "x"\n[train]\nwings = 2', "no setting 'wings'"),
        ('model = "digits"\ndataset = "x"\n[[targets]]\nprofil = "host"', "no setting 'profil'"),
        ('model = "digits"\ndataset = "x"\n[train]\nshift_pixels = 1', "image_shape"),
        ('model = "digits"\ndataset = "x"\n[train]\nclip = [1.0, 0.0]', "clip"),
        ('model = "digits"\ndataset = "x"\napproval = "maybe"', "auto or manual"),
        ('model = "digits"\ndataset = "x"\n[labels]\nworkforce = "simulated"', "oracle"),
        ('model = "digits"\ndataset = "x"\n[labels]\naudit = 500', "audit"),
        ('model = "digits"\ndataset = "x"\n[labels]\nbudget = "many"', "labels.budget"),
        ('model = "../digits"\ndataset = "x"', "model"),
        ("model =", "no TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load_project(write(tmp_path, text))


def test_all_projects_of_a_root(tmp_path: Path) -> None:
    assert load_projects(tmp_path) == {}
    write(tmp_path / "projects", WHOLE)
    assert list(load_projects(tmp_path)) == ["digits"]
    write(tmp_path / "projects", WHOLE, "again.toml")
    with pytest.raises(ConfigError, match="two project files"):
        load_projects(tmp_path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_project(tmp_path / "none.toml")
