"""What a request ends with when it cannot be answered."""

# Behind a link's path, where whoever reads it has to know it from other reasons.
LINK_BELOW = "is a link, and below destination_root no link is followed"


class AgentError(Exception):
    """A request cannot be answered; the message is a clause for people, ``exit_code`` as the other jobs have it."""

    exit_code = 78

    def told(self) -> bytes:
        """Return what goes to stderr."""
        return "agent: {}\n".format(self).encode("utf-8", "backslashreplace")


class DamagedListsError(AgentError):
    """The lists on RDS-SSH cannot be what was found: nothing is concluded from them."""

    exit_code = 65
