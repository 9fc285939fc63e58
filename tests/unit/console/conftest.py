from tests.unit.serving.conftest import gateway, world

__all__ = ["gateway", "world"]
