"""Who is asked: a checkpoint that is here (gre/answering/), or a name at an endpoint."""
from collections.abc import Collection

from eval.answering import endpoint
from eval.answering.endpoint import EndpointConfig
from gre.answering.engines import Answer, Decoding
from gre.answering.model import Model, in_process
from gre.config import UserError
from gre.models.vlm import PixelBudget


def at_endpoint(name: str, config: EndpointConfig, min_pixels: int | None, max_pixels: int | None) -> Model:
    """A model that an endpoint knows by this name. Raises UserError for an address of no use or without max_pixels."""
    endpoint.check(config)
    if max_pixels is None:
        raise UserError(f"how large may photos be that are sent to {config.url}? Write max_pixels=…; it decides the "
                        "number")
    record = {"name": name, "fields": config.fields, **({"system": config.system} if config.system else {})}
    return Model(record, True, True, None, PixelBudget(min_pixels or 0, max_pixels), None, None)


def answerer(model: Model, config: EndpointConfig, engine: str, decoding: Decoding, batch_size: int,
             instructions: Collection[str]) -> Answer:
    """Who answers for it. instructions: all that will be asked."""
    if engine == "endpoint":
        return endpoint.by_endpoint(config, model.record["name"], model.budget.max_pixels, decoding)
    return in_process(model, engine, decoding, batch_size, instructions)
