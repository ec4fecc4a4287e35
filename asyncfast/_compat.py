"""Differences between Python versions: the only file that reads sys.version_info."""

import sys

#: asyncio's event loop policies warn when they are touched (3.14+; gone in 3.16).
POLICIES_DEPRECATED = sys.version_info >= (3, 14)

#: There still are event loop policies.
HAVE_POLICIES = sys.version_info < (3, 16)

#: asyncio.Runner(loop_factory=) exists everywhere; asyncio.run(loop_factory=) since 3.12.
RUN_TAKES_LOOP_FACTORY = sys.version_info >= (3, 12)

#: gather() and TaskGroup tell futures who awaits them (3.14+).
HAVE_CALL_GRAPH = sys.version_info >= (3, 14)
