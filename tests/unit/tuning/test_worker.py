"""Real trainings in processes of their own, on a tiny random base."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from affinage.errors import UsageError
from affinage.tuning.recipe import Recipe, SftRecipe, shipped_recipe
from affinage.tuning.worker import TrainingJob, main
from tests.support.tiny_llama import write_tiny_llama

STEPS = 6


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "base")


def sft_recipe(**changes: Any) -> SftRecipe:
    recipe = shipped_recipe("sft")
    assert isinstance(recipe, SftRecipe)
    return replace(recipe, **{"batch": 2, "micro_batch": 1, "last_layers": 1, "checkpoint_steps": 2, **changes})


def write_job(folder: Path, recipe: Recipe, rows: list[dict[str, Any]], **options: Any) -> TrainingJob:
    folder.mkdir(parents=True, exist_ok=True)
    # A line separator of Unicode inside a row is not the end of a line.
    (folder / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    job = TrainingJob(rows=folder / "rows.jsonl", out=folder / "adapter", result=folder / "result.json", recipe=recipe, seed=3, **options)
    job.write(folder / "job.json")
    return job


def calls(count: int = 2 * STEPS) -> list[dict[str, Any]]:
    return [{"messages": [{"role": "user", "content": f"appel\u2028 {i}"}], "target": f'{{"n": {i}}}', "group": "x"} for i in range(count)]


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "affinage.tuning.worker", str(folder / "job.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and the JSON objects on standard error."""
    with start(folder) as process:
        assert process.stderr is not None
        lines = list(process.stderr)
    sys.stdout.writelines(lines)  # shown when a test fails
    return process.returncode, [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.slow
def test_a_killed_training_resumes_and_ends_with_the_same_adapter(tmp_path: Path, tiny: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        write_job(folder, sft_recipe(), calls(), base=tiny, base_name="tiny", resume=True)
    code, said = run(undisturbed)
    assert code == 0
    assert [line["step"] for line in said] == list(range(1, STEPS + 1))

    with start(killed) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith('{"step": 3'):
                process.send_signal(signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "adapter").exists()
    assert not (killed / "result.json").exists()
    code, said = run(killed)
    assert code == 0
    results = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in (undisturbed, killed)]
    assert [result["steps"] for result in results] == [STEPS, STEPS]
    # Checkpoints every two steps; the kill came after the third, or a little later.
    assert results[1]["resumed_from_step"] in {2, 4}
    assert said[0]["step"] == results[1]["resumed_from_step"] + 1
    first, second = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (undisturbed, killed))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor, second[name])


@pytest.mark.slow
def test_a_training_that_diverges_publishes_nothing(tmp_path: Path, tiny: Path) -> None:
    write_job(tmp_path, sft_recipe(learning_rate=1e30, max_grad_norm=1e30, warmup_ratio=0.0), calls(), base=tiny)
    code, said = run(tmp_path)
    assert code == 1
    assert said[-1]["error"] == "TrainingFailedError"
    assert not (tmp_path / "adapter").exists()
    assert not (tmp_path / "result.json").exists()


@pytest.mark.slow
def test_rows_beyond_the_limit_are_left_out_and_counted(tmp_path: Path, tiny: Path) -> None:
    long = {"messages": [{"role": "user", "content": "x" * 400}], "target": "{}"}
    write_job(tmp_path, sft_recipe(max_tokens=128), [*calls(4), long], base=tiny)
    code, _ = run(tmp_path)
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (code, result["rows"], result["dropped"], result["steps"]) == (0, 4, 1, 2)
    assert result["peak_rss_bytes"] > 0


@pytest.mark.slow
def test_an_embedding_adapter_brings_questions_nearer_to_their_passages(tmp_path: Path) -> None:
    from affinage.engines.minilm import MiniLM

    # Codes that mean nothing to the base: only training can join them.
    pairs = [
        {"question": f"procédure {q}", "passage": f"le formulaire {p} est requis"} for q, p in zip("abcdefgh", "stuvwxyz", strict=True)
    ]
    recipe = replace(shipped_recipe("embedding"), batch=8, epochs=8.0, max_tokens=32)
    write_job(tmp_path, recipe, [*pairs, pairs[0]])
    code, _ = run(tmp_path)
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (code, result["rows"], result["dropped"]) == (0, len(pairs), 1)

    def right(embedder: MiniLM) -> int:
        questions, passages = (embedder.embed([pair[side] for pair in pairs]) for side in ("question", "passage"))
        return int(((questions @ passages.T).argmax(axis=1) == np.arange(len(pairs))).sum())

    assert right(MiniLM(tmp_path, threads=1, adapter=tmp_path / "adapter")) > right(MiniLM(tmp_path, threads=1))


@pytest.mark.slow
def test_rows_that_all_exceed_the_limit_are_a_usage_error(tmp_path: Path, tiny: Path) -> None:
    write_job(tmp_path, sft_recipe(max_tokens=4), calls(2), base=tiny)
    code, said = run(tmp_path)
    assert (code, said[-1]["error"]) == (2, "UsageError")


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    job = write_job(tmp_path, sft_recipe(), calls(1), base=tmp_path, base_name="b", resume=True)
    assert TrainingJob.read(tmp_path / "job.json") == job


def test_an_unusable_job_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"job\.json"):
        TrainingJob.read(tmp_path / "job.json")
    assert main([]) == 2
    assert main([str(tmp_path / "absent.json")]) == 2


def test_an_sft_job_without_a_base_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_job(tmp_path, sft_recipe(), calls(1))
    assert main([str(tmp_path / "job.json")]) == 2
    assert "base" in capsys.readouterr().err
