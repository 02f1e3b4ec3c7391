"""What `stackling up` hands to the server, in a file for the eyes of whoever starts it alone."""

from msgspec import Struct

from stackling.base.config import Config

START = "start.json"  # in the run directory, as long as the cloud runs


class Start(Struct):
    """A cloud as it was started."""

    config: Config
    fake: bool
