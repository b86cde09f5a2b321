"""What Airflow's side asks of the agent before a transfer: both import this module."""

from typing import Any, NamedTuple, Sequence

from beamferry_agent.answers import read_fields, to_line

TRANSPORTS = ("rsync", "lftp")


class ProbeRequest(NamedTuple):
    """Asks whether a transfer can begin, see ``probe.py``.

    ``transport``: one of ``TRANSPORTS``.
    ``arguments``: pairs of a name and a text.
    """

    transport: str
    arguments: Sequence[str]

    def to_json(self) -> str:
        """Return the request as one line of ASCII."""
        return to_line(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "ProbeRequest":
        """Read a request.

        Raises ValueError when it is not one, or of another version.
        """
        found = read_fields(text, cls._fields)
        if found["transport"] not in TRANSPORTS:
            raise ValueError("transport must be one of {}".format(", ".join(TRANSPORTS)))
        if not isinstance(found["arguments"], list) or not all(map(_is_word, found["arguments"])):
            raise ValueError("arguments must be a list of texts without a NUL")
        return cls(**found)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value
