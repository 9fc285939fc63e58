"""LoRA on a causal model from messages and wanted answers: TRL and PEFT on one processor core.

The prompt is encoded exactly as the engine encodes it when it answers, and only the answer's tokens count in the loss.
Run in a process of its own by `worker.py`: PyTorch's threads and memory end with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from affinage.engines.chat import encode_prompt, encode_target
from affinage.engines.protocols import Message
from affinage.errors import UsageError
from affinage.tuning.recipe import SftRecipe
from affinage.tuning.training import Progress, TrainingResult, Workspace, job_digest, make_watch, peak_rss_bytes, trainer_options


@dataclass(frozen=True)
class SftExample:
    """What the trainer needs of a row."""

    messages: tuple[Message, ...]
    target: str

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SftExample:
        """From a row of a snapshot, whose other keys do not matter here."""
        messages = tuple(Message(role=message["role"], content=message["content"]) for message in values["messages"])
        return cls(messages, values["target"])


def train_sft(
    *,
    rows: Sequence[SftExample],
    base: Path,
    out: Path,
    recipe: SftRecipe,
    seed: int,
    base_name: str = "",
    resume: bool = False,
    progress: Progress = lambda _: None,
) -> TrainingResult:
    """Train an adapter and publish it at `out`.

    Parameters
    ----------
    base
        Folder of the base's weights.
    base_name
        Written into the adapter's configuration; default: the folder's name.
    resume
        Continue an attempt of the same job after its last complete checkpoint; the steps are those of an uninterrupted run.

    Raises
    ------
    UsageError
        If no row fits `recipe.max_tokens`.
    TrainingFailedError
        If the loss is not finite; then nothing was published.
    """
    described = json.dumps([[[asdict(message) for message in row.messages], row.target] for row in rows], ensure_ascii=False)
    workspace = Workspace(out, job_digest=job_digest("sft", described, str(base), recipe.digest, str(seed)), resume=resume)
    if finished := workspace.finished():
        return finished
    from transformers import AutoTokenizer, set_seed  # noqa: PLC0415 - seconds to import

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    encoded = _encode(tokenizer, rows, recipe.max_tokens)
    trainer = _trainer(workspace, base, tokenizer, encoded, recipe=recipe, seed=seed, progress=progress)
    last = workspace.last_checkpoint()
    outcome = trainer.train(resume_from_checkpoint=str(last) if last else None)
    workspace.publish(trainer.model.save_pretrained, base_name=base_name or base.name)
    result = TrainingResult(
        kind="sft",
        folder=str(out),
        rows=len(encoded),
        dropped=len(rows) - len(encoded),
        steps=outcome.global_step,
        resumed_from_step=int(last.name.removeprefix("checkpoint-")) if last else None,
        train_loss=float(outcome.training_loss),
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        seed=seed,
        recipe_digest=recipe.digest,
        seconds=workspace.seconds,
        peak_rss_bytes=peak_rss_bytes(),
    )
    workspace.close(result)
    return result


def _encode(tokenizer: Any, rows: Sequence[SftExample], max_tokens: int) -> list[dict[str, list[int]]]:
    """Token ids and labels; -100 where a token does not count. Too long rows are left out: a cut answer teaches to stop early."""
    encoded = []
    for row in rows:
        prompt, target = encode_prompt(tokenizer, row.messages), encode_target(tokenizer, row.target)
        if len(prompt) + len(target) <= max_tokens:
            encoded.append({"input_ids": prompt + target, "labels": [-100] * len(prompt) + target})
    if not encoded:
        raise UsageError(
            f"None of the {len(rows)} rows fits the recipe's {max_tokens} tokens.",
            hint="Raise max_tokens in the recipe, or build more rows.",
        )
    return encoded


def _trainer(
    workspace: Workspace,
    base: Path,
    tokenizer: Any,
    encoded: list[dict[str, list[int]]],
    *,
    recipe: SftRecipe,
    seed: int,
    progress: Progress,
) -> Any:
    import torch  # noqa: PLC0415
    from datasets import Dataset  # noqa: PLC0415
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415
    from trl import SFTConfig  # noqa: PLC0415

    # bf16 weights halve memory and double the speed where the processor knows the type; the adapter itself stays fp32.
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, local_files_only=True, use_safetensors=True)
    layers = model.config.num_hidden_layers
    lora = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.target_modules),
        layers_to_transform=list(range(max(0, layers - recipe.last_layers), layers)),
        task_type="CAUSAL_LM",
    )
    # Rows of like length share a batch: padding is computed and thrown away.
    arguments = SFTConfig(
        **trainer_options(workspace, recipe, seed, rows_at_once=recipe.micro_batch),
        max_length=recipe.max_tokens,
        packing=False,
        train_sampling_strategy="group_by_length",
    )
    return _answer_trainer()(
        model=get_peft_model(model, lora),
        args=arguments,
        train_dataset=Dataset.from_list(encoded),
        processing_class=tokenizer,
        callbacks=[make_watch(progress)],
    )


def _answer_trainer() -> type[Any]:
    """TRL's SFTTrainer with a loss that computes logits for the answer's tokens only.

    On a processor TRL scores every position against the whole vocabulary and masks afterwards: twice the time and 4 GB
    where a fifth of the tokens count.
    """
    import torch  # noqa: PLC0415
    from trl import SFTTrainer  # noqa: PLC0415

    class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            causal = model.get_base_model()
            targets = inputs["labels"][:, 1:]
            counted = targets != -100
            with torch.autocast("cpu", dtype=torch.bfloat16):
                backbone = causal.base_model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
                logits = causal.get_output_embeddings()(backbone.last_hidden_state[:, :-1][counted])
            total = torch.nn.functional.cross_entropy(logits.float(), targets[counted], reduction="sum")
            loss = total / (counted.sum() if num_items_in_batch is None else num_items_in_batch)
            return (loss, {}) if return_outputs else loss

    return AnswerTrainer
