"""The services of the two engines: settings in, ASGI applications out.

Called by `services/embedder` and `services/generator`, in the supervisor as well as in its worker: nothing is loaded here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from affinage.errors import ConfigurationError
from affinage.processes import give_up
from affinage.settings import Settings
from affinage.telemetry import EngineMetrics
from affinage.wiring.installation import Installation

if TYPE_CHECKING:
    from affinage.engines.transformers import TransformersGenerator
    from affinage.serving.embedder import EmbedderService
    from affinage.serving.generator import GeneratorService

_PARALLEL_EMBEDDINGS = 2
# One request is tokenised while another one is embedded; more would only share the same cores.


def generator_service(settings: Settings) -> GeneratorService:
    """The service of `generator_engine`.

    Raises
    ------
    ConfigurationError
        If that is neither the packaged model nor a folder with weights.
    """
    from affinage.engines import smollm2
    from affinage.serving.generator import GeneratorService

    threads = Installation(settings).threads
    engine = settings.generator_engine
    if engine != smollm2.NAME and not (Path(engine) / "config.json").is_file():
        raise ConfigurationError(
            f"The generator's engine `{engine}` is no folder with weights.",
            hint=f"Set AFFINAGE_GENERATOR_ENGINE to `{smollm2.NAME}` or to a folder with config.json and safetensors.",
        )

    def make() -> TransformersGenerator:
        from affinage.engines.transformers import TransformersGenerator

        packaged = engine == smollm2.NAME
        folder = smollm2.unpack(settings.cache) if packaged else Path(engine)
        return TransformersGenerator(
            folder, base=engine if packaged else folder.resolve().name, threads=threads, precision=settings.generator_precision
        )

    return GeneratorService(make_engine=make, metrics=EngineMetrics("generator"), failed=partial(give_up, supervised=True))


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
