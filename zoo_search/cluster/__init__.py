"""The one seam to Ray: nobody else starts it, joins it or waits for it."""

from zoo_search.cluster.connection import (
    Resources,
    connect,
    connected,
    disconnect,
    job_id,
    resources,
    share_modules,
    ship,
)
from zoo_search.cluster.waiting import Listener, News, Pulse, beater, gather, pulse
from zoo_search.core.timeout import Timeout, set_timeout

__all__ = [
    "Listener",
    "News",
    "Pulse",
    "Resources",
    "Timeout",
    "beater",
    "connect",
    "connected",
    "disconnect",
    "gather",
    "job_id",
    "pulse",
    "resources",
    "set_timeout",
    "share_modules",
    "ship",
]
