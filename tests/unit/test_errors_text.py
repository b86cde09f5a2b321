"""Errors as one line of text."""

from __future__ import annotations

import pickle

from beamferry.errors import PermanentError


def test_no_sentence_ends_in_two_full_stops() -> None:
    error = PermanentError("x", "Diamond said: Permission denied.", "ask the owner.")
    assert str(error) == "Diamond said: Permission denied: ask the owner"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
