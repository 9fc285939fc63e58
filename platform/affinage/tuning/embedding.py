"""LoRA on the packaged embedder from questions and the passages that answer them: sentence-transformers.

Each question is pulled towards its passage and away from the other passages of its batch. Run in a process of its own by
`worker.py`. What comes out is a PEFT folder that `engines/minilm.py` merges without PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from affinage.engines.minilm import NAME, package_folder
from affinage.errors import UsageError
from affinage.tuning.recipe import EmbeddingRecipe
from affinage.tuning.training import Progress, TrainingResult, Workspace, job_digest, make_watch, peak_rss_bytes, trainer_options


@dataclass(frozen=True)
class EmbeddingPair:
    """A question and a passage that answers it."""

    question: str
    passage: str

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EmbeddingPair:
        """From a row of a snapshot, whose other keys do not matter here."""
        return cls(values["question"], values["passage"])


def train_embedding(
    *,
    pairs: Sequence[EmbeddingPair],
    out: Path,
    recipe: EmbeddingRecipe,
    seed: int,
    base: Path | None = None,
    base_name: str = NAME,
    resume: bool = False,
    progress: Progress = lambda _: None,
) -> TrainingResult:
    """Train an adapter and publish it at `out`.

    Parameters
    ----------
    base
        Folder of the embedder; default: the packaged one.
    resume
        Continue an attempt of the same job after its last complete checkpoint.

    Raises
    ------
    UsageError
        If there are fewer than two different passages: there would be nothing to tell apart.
    TrainingFailedError
        If the loss is not finite; then nothing was published.
    """
    distinct = list(dict.fromkeys(pairs))
    if len({pair.passage for pair in distinct}) < 2:
        raise UsageError("An embedding adapter needs at least two different passages.", hint="Build a larger dataset.")
    folder = base or package_folder()
    described = json.dumps([astuple(pair) for pair in distinct], ensure_ascii=False)
    workspace = Workspace(out, job_digest=job_digest("embedding", described, str(folder), recipe.digest, str(seed)), resume=resume)
    if finished := workspace.finished():
        return finished
    from transformers import set_seed  # noqa: PLC0415 - seconds to import

    set_seed(seed)
    model = _adapted(folder, recipe)
    trainer = _trainer(workspace, model, distinct, recipe=recipe, seed=seed, progress=progress)
    last = workspace.last_checkpoint()
    outcome = trainer.train(resume_from_checkpoint=str(last) if last else None)
    workspace.publish(model[0].auto_model.save_pretrained, base_name=base_name)
    result = TrainingResult(
        kind="embedding",
        folder=str(out),
        rows=len(distinct),
        dropped=len(pairs) - len(distinct),
        steps=outcome.global_step,
        resumed_from_step=int(last.name.removeprefix("checkpoint-")) if last else None,
        train_loss=float(outcome.training_loss),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        seed=seed,
        recipe_digest=recipe.digest,
        seconds=workspace.seconds,
        peak_rss_bytes=peak_rss_bytes(),
    )
    workspace.close(result)
    return result


def _adapted(folder: Path, recipe: EmbeddingRecipe) -> Any:
    from peft import LoraConfig  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.max_seq_length = recipe.max_tokens
    model.add_adapter(
        LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=list(recipe.target_modules),
            # The vector is the mean over tokens: the pooler takes no part in it.
            exclude_modules=["pooler.dense"],
        )
    )
    return model


def _trainer(
    workspace: Workspace, model: Any, pairs: Sequence[EmbeddingPair], *, recipe: EmbeddingRecipe, seed: int, progress: Progress
) -> Any:
    from datasets import Dataset  # noqa: PLC0415
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments  # noqa: PLC0415
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss  # noqa: PLC0415
    from sentence_transformers.training_args import BatchSamplers  # noqa: PLC0415

    arguments = SentenceTransformerTrainingArguments(
        **trainer_options(workspace, recipe, seed),
        # A passage that stands twice in a batch would be its own wrong answer.
        batch_sampler=BatchSamplers.NO_DUPLICATES,
    )
    return SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"anchor": [p.question for p in pairs], "positive": [p.passage for p in pairs]}),
        # Contrasts the whole batch but keeps activations of a few texts only: 1.1 GB instead of 1.8 for a fifth more time.
        loss=CachedMultipleNegativesRankingLoss(model, scale=recipe.scale, mini_batch_size=recipe.micro_batch),
        callbacks=[make_watch(progress)],
    )
