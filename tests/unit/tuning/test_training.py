import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from affinage.tuning.training import CONFIG, WEIGHTS, TrainingFailedError, TrainingResult, Workspace

RESULT = TrainingResult(
    kind="sft",
    folder="adapter",
    rows=1,
    dropped=0,
    steps=1,
    resumed_from_step=None,
    train_loss=0.5,
    trainable_parameters=1,
    seed=0,
    recipe_digest="d",
    seconds=1.0,
    peak_rss_bytes=1,
)


def write_adapter(folder: Path, value: float = 1.0) -> None:
    folder.mkdir()
    save_file({"w": np.full(2, value, np.float32)}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"base_model_name_or_path": "/home/somebody/base", "r": 4}), encoding="utf-8")
    (folder / "README.md").write_text("card", encoding="utf-8")


def write_checkpoint(workspace: Workspace, step: int, *, complete: bool = True) -> Path:
    folder = workspace.folder / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "trainer_state.json").write_text("{}", encoding="utf-8")
    if complete:
        (folder / "complete").touch()
    return folder


def test_the_published_folder_holds_two_files_and_no_path_of_this_machine(tmp_path: Path) -> None:
    published = Workspace(tmp_path / "adapter", job_digest="j", resume=False).publish(write_adapter, base_name="package:smollm2")
    assert sorted(path.name for path in published.iterdir()) == [CONFIG, WEIGHTS]
    assert json.loads((published / CONFIG).read_text(encoding="utf-8")) == {"base_model_name_or_path": "package:smollm2", "r": 4}


def test_an_adapter_that_is_not_finite_is_not_published(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "adapter", job_digest="j", resume=False)
    with pytest.raises(TrainingFailedError, match="`w`"):
        workspace.publish(lambda folder: write_adapter(folder, float("inf")), base_name="b")
    assert not (tmp_path / "adapter").exists()


def test_the_newest_complete_checkpoint_counts_and_a_torn_one_is_removed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "adapter", job_digest="j", resume=False)
    write_checkpoint(workspace, 5)
    tenth = write_checkpoint(workspace, 10)
    torn = write_checkpoint(workspace, 15, complete=False)
    assert Workspace(tmp_path / "adapter", job_digest="j", resume=True).last_checkpoint() == tenth
    assert not torn.exists()


@pytest.mark.parametrize(("digest", "resume"), [("another", True), ("j", False)])
def test_the_work_of_another_job_is_never_continued(tmp_path: Path, digest: str, resume: bool) -> None:
    write_checkpoint(Workspace(tmp_path / "adapter", job_digest="j", resume=False), 5)
    assert Workspace(tmp_path / "adapter", job_digest=digest, resume=resume).last_checkpoint() is None


def test_a_finished_job_is_not_trained_again_when_resumed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "adapter", job_digest="j", resume=False)
    write_checkpoint(workspace, 5)
    workspace.publish(write_adapter, base_name="b")
    assert workspace.finished() is None
    workspace.close(RESULT)
    again = Workspace(tmp_path / "adapter", job_digest="j", resume=True)
    assert again.finished() == RESULT
    assert again.last_checkpoint() is None
    assert Workspace(tmp_path / "adapter", job_digest="j", resume=False).finished() is None
