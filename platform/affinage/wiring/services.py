"""The services of the two engines: settings in, ASGI applications out.

Called by `services/embedder` and `services/generator`, in the supervisor as well as in its worker: nothing is loaded here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from affinage.errors import ConfigurationError
from affinage.processes import give_up
from affinage.settings import Settings
from affinage.telemetry import EngineMetrics
from affinage.wiring.installation import Installation

if TYPE_CHECKING:
    from affinage.serving.embedder import EmbedderService
    from affinage.serving.generator import GeneratorService, LocalGenerator

_PARALLEL_EMBEDDINGS = 2
# One request is tokenised while another one is embedded; more would only share the same cores.


def generator_service(settings: Settings) -> GeneratorService:
    """The service of `generator_engine`.

    Raises
    ------
    ConfigurationError
        If that is neither the packaged model nor a folder with weights, or vLLM is to run it and is not installed.
    """
    from affinage.engines import smollm2
    from affinage.engines.tensors import base_shapes_of
    from affinage.residency.verify import MAX_RANK
    from affinage.serving.generator import MAX_ADAPTERS, GeneratorService

    threads = Installation(settings).threads
    engine = settings.generator_engine
    if engine != smollm2.NAME and not (Path(engine) / "config.json").is_file():
        raise ConfigurationError(
            f"The generator's engine `{engine}` is no folder with weights.",
            hint=f"Set AFFINAGE_GENERATOR_ENGINE to `{smollm2.NAME}` or to a folder with config.json and safetensors.",
        )

    if settings.generator_runtime == "vllm" and not settings.generator_vllm.is_file():
        raise ConfigurationError(
            f"There is no Python of vLLM at `{settings.generator_vllm}`.",
            hint="Install requirements/vllm.txt into an environment of its own, and set AFFINAGE_GENERATOR_VLLM to its Python.",
        )

    def make() -> LocalGenerator:
        from affinage.engines.transformers import TransformersGenerator
        from affinage.engines.vllm import VllmGenerator

        packaged = engine == smollm2.NAME
        folder = smollm2.unpack(settings.cache) if packaged else Path(engine)
        base = engine if packaged else folder.resolve().name
        if settings.generator_runtime == "transformers":
            return TransformersGenerator(folder, base=base, threads=threads, precision=settings.generator_precision)
        vllm = VllmGenerator(
            folder,
            base=base,
            python=settings.generator_vllm,
            threads=threads,
            precision=settings.generator_precision,
            gpu=any(Path("/dev").glob("nvidia[0-9]*")),
            adapters=MAX_ADAPTERS,
            max_rank=MAX_RANK,
            matrices=_layer_matrices(base_shapes_of(folder)),
            ended=service.engine_ended,
        )
        vllm.start()
        return vllm

    service = GeneratorService(make_engine=make, metrics=EngineMetrics("generator"), failed=partial(give_up, supervised=True))
    return service


def _layer_matrices(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The matrices in the numbered layers of a base, by the module's name: neither embeddings nor head."""
    matrices = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2}
    return {name: shape for name, shape in matrices.items() if re.search(r"\.\d+\.", name)}


def embedder_service(settings: Settings) -> EmbedderService:
    """The service of the packaged embedder."""
    from affinage.engines import minilm
    from affinage.engines.tensors import base_shapes_of
    from affinage.serving.embedder import EmbedderService

    threads = Installation(settings).threads
    return EmbedderService(
        name=minilm.NAME,
        make=lambda cache, adapter: minilm.MiniLM(cache, threads=threads, adapter=adapter),
        base_shapes_of=lambda: base_shapes_of(minilm.package_folder()),
        cache=settings.cache,
        threads=_PARALLEL_EMBEDDINGS,
        metrics=EngineMetrics("embedder"),
        failed=partial(give_up, supervised=True),
    )
