"""The registry's JSON schema: editors complete and check entries by it."""

from __future__ import annotations

import json

from pydantic.json_schema import models_json_schema

from beamferry.beamtime import Site
from beamferry.facilities import FACILITIES


def schema() -> str:
    """Return the schema as JSON text, the same for the same models; ``beamtimes.schema.json`` holds it."""
    references, definitions = models_json_schema([(model, "validation") for model in (Site, *FACILITIES)])
    entries = [references[model, "validation"] for model in FACILITIES]
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Beamferry's registry of beamtimes",
        "type": "object",
        "properties": {
            "site": references[Site, "validation"],
            "beamtimes": {"type": ["array", "null"], "items": {"oneOf": entries}},
        },
        "required": ["site", "beamtimes"],
        "additionalProperties": False,
        **definitions,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
