"""What Airflow's side asks of the agent about a job: both import this module."""

from typing import Any, NamedTuple, Sequence

from beamferry_agent.answers import read_fields, to_line

VERBS = ("start", "status", "stop", "acknowledge")


class JobRequest(NamedTuple):
    """Asks for a job, see ``jobs.py``.

    ``verb``: one of ``VERBS``.
    ``job``: the job's folder; the same for every run and every try.
    ``lock``: file whose lock lets one job of a beamtime run at a time; those of destinations lie beside it.
    ``owner``: the Airflow installation that asks, '' for a person who stops whatever runs.
    ``generation``: the start that is to be stopped, '' for any.
    ``destination``, ``key`` (the run), ``name`` (the installation's), ``script``, ``arguments``: of a start alone.
    """

    verb: str
    job: str
    lock: str
    owner: str = ""
    generation: str = ""
    destination: str = ""
    key: str = ""
    name: str = ""
    script: str = ""
    arguments: Sequence[str] = ()

    def to_json(self) -> str:
        """Return the request as one line of ASCII."""
        return to_line(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "JobRequest":
        """Read a request.

        Raises ValueError when it is not one, or of another version.
        """
        found = read_fields(text, cls._fields)
        if not _are_words(found["arguments"]) or not all(
            _is_word(found[name]) for name in cls._fields if name != "arguments"
        ):
            raise ValueError("arguments must be a list of texts, all else a text, without a NUL")
        request = cls(**found)
        if request.verb not in VERBS:
            raise ValueError("verb must be one of {}".format(", ".join(VERBS)))
        needed = ["job", "lock"]
        if request.verb == "start":
            needed += ["destination", "key", "owner", "script"]
        for name in needed:
            if not found[name]:
                raise ValueError("{} needs {}".format(request.verb, name))
        return request


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_word, value))


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value
