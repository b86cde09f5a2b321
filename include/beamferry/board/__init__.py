"""The board: from what is known of each beamtime to the answer whether it is safe, when it will be, and what to do."""

from beamferry.board.case import May, Paths, Seen
from beamferry.board.pages import page
from beamferry.board.rows import row, urgency
from beamferry.board.surroundings import alive, flaws, space

__all__ = ["May", "Paths", "Seen", "alive", "flaws", "page", "row", "space", "urgency"]
