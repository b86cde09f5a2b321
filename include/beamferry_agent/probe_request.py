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


class SessionRequest(NamedTuple):
    """Asks how the shared ssh session is that a person opened, see ``persons_session.py``.

    ``ssh``: words of ssh up to the account; they name the session's socket.
    ``lost``: a job used the session until just now, so that its life can be told.
    """

    ssh: Sequence[str]
    account: str
    host: str
    lost: bool

    def to_json(self) -> str:
        """Return the request as one line of ASCII."""
        return to_line(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "SessionRequest":
        """Read a request.

        Raises ValueError when it is not one, or of another version.
        """
        found = read_fields(text, cls._fields)
        if not isinstance(found["ssh"], list) or not all(map(_is_word, found["ssh"])) or not found["ssh"]:
            raise ValueError("ssh must be a list of texts without a NUL")
        if not all(_is_word(found[name]) and found[name] for name in ("account", "host")):
            raise ValueError("account and host must be texts without a NUL")
        if not isinstance(found["lost"], bool):
            raise ValueError("lost must be true or false")
        return cls(**found)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value
