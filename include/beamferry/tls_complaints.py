"""What is wrong with the certificate that a facility's server shows, as a sentence with its remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from datetime import date

    from beamferry.ssh_complaints import Errand

# GnuTLS's words and OpenSSL's.
_EXPIRED = re.compile(r"expired|not yet (?:valid|activated)")
_OTHER_NAME = re.compile(r"(?:n't|not) match|mismatch", re.IGNORECASE)


@dataclass(frozen=True)
class Seen:
    """What a look at a certificate showed: its last day, the names it is for, who vouches for it."""

    ended: date | None = None
    names: str = ""
    issuer: str = ""


def certificate_error(reason: str, errand: Errand, seen: Seen = Seen()) -> PermanentError:
    """Return what is wrong with a facility's certificate, by the words of GnuTLS or OpenSSL."""
    at, host = errand.facility, errand.host
    if _EXPIRED.search(reason):
        return PermanentError(
            "certificate-expired",
            f"The certificate of {host} has expired" + (f" on {seen.ended}" if seen.ended else ""),
            f"only {at} can renew it: tell them; SFTP, which needs none, may be open meanwhile",
        )
    if _OTHER_NAME.search(reason):
        return PermanentError(
            "certificate-name",
            f"The certificate that {host} shows is another host's"
            + (f" ({seen.names})" if seen.names else ""),
            f"check server of the entry; if it is right, ask {at} before you trust it",
        )
    return PermanentError(
        "certificate-issuer",
        f"RDS-SSH does not trust the issuer of the certificate of {host} ({seen.issuer or reason})",
        f"put the issuer's certificate, from {at}'s own pages, on RDS-SSH and name the file in the entry as ca_file",
    )
